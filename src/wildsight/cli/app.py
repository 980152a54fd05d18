"""``wildsight app``: the browser page."""

from __future__ import annotations

from typing import Annotated

import typer


def app(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    upload_mb: Annotated[int, typer.Option(min=1, help="Largest file taken, MB.")] = 64,
) -> None:
    """Serve the browser page on this machine until interrupted; needs the extra `[app]`."""
    from wildsight.app.server import serve
    from wildsight.cli.common import console

    console.print(f"serving on http://{host}:{port}  (Ctrl-C ends it)", markup=False, highlight=False)
    serve(host, port, upload_mb=upload_mb)
