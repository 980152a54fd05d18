"""The page and its server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from wildsight.app.browser import BRUSH, CSS, ON_LOAD
from wildsight.app.tabs import TABS, TabEntry
from wildsight.errors import ConfigError, needs
from wildsight.estimators import resolve

UPLOAD_MB = 64
QUEUE = 16
FONT = ["system-ui", "sans-serif"]


def page(tabs: Mapping[str, TabEntry] = TABS) -> Any:
    """The page, not yet served.

    Args:
        tabs: what is laid out, by module of `wildsight.app.tabs`.

    Raises:
        ConfigError: gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with needs("gradio", "app"):
        import gradio as gr
    from wildsight.app.tabs import start

    refreshed: list[tuple[Any, Any]] = []
    with gr.Blocks(title="WildSight", analytics_enabled=False) as blocks:
        gr.Markdown("# WildSight\nVision foundation models, taken past the edge of their training data.")
        with gr.Tabs(overflow_behavior="wrap"):  # a row more on a telephone, rather than a hidden menu
            with gr.Tab("Start", elem_id="tab-start"):
                start.build()
            for name, entry in tabs.items():
                with gr.Tab(entry.title, elem_id=f"tab-{name}") as tab:
                    refresh = resolve(f"wildsight.app.tabs.{name}:build")()
                if refresh is not None:
                    refreshed.append((refresh, tab.select))
                if name == "retrieval":
                    tab.select(None, None, None, js=BRUSH)
        for refresh, opened in refreshed:  # outside of the tabs, which count what lies between them
            refresh.wire(blocks, opened)
        blocks.load(None, None, None, js=ON_LOAD)
    return blocks


def serve(
    host: str = "127.0.0.1", port: int = 7860, *, upload_mb: int = UPLOAD_MB, block: bool = True
) -> tuple[Any, str]:
    """Serve the page until interrupted.

    Args:
        host: address to listen on; the loopback address by default.
        port: TCP port, 1-65535.
        upload_mb: largest file that is taken, MB.
        block: wait; False returns at once, for tests.

    Returns:
        The page and its address.

    Raises:
        ConfigError: gradio is not installed, or the port is taken.
    """
    blocks = page()
    import gradio as gr

    theme = gr.themes.Default(font=FONT, font_mono=["ui-monospace", "monospace"])
    blocks.queue(max_size=QUEUE, default_concurrency_limit=None)  # the queues of `jobs` limit what runs
    try:
        _, url, _ = blocks.launch(
            server_name=host, server_port=port, share=False, quiet=True, theme=theme, css=CSS,
            max_file_size=f"{upload_mb}mb", prevent_thread_lock=not block, footer_links=[], ssr_mode=False,
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"cannot listen ({error})", where=f"{host}:{port}", hint="give --port") from error
    return blocks, str(url)
