"""The page and its server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from wildsight.app.tabs import TABS
from wildsight.errors import ConfigError
from wildsight.estimators import resolve

UPLOAD_MB = 64
QUEUE = 16
CSS = """
footer {display: none}
.gradio-container {max-width: 76rem; width: 100%; margin: auto}
.gradio-container .main {width: 100%; min-width: 0; padding-inline: clamp(.6rem, 3vw, 2rem) !important}
.gradio-container [role=tab] {padding: 0 .6rem}
.gradio-container .block:not(#outline) label[data-testid=block-label] {position: static; width: fit-content}
.gradio-container .prose table {display: block; overflow-x: auto; border: 0; padding: 0}
.gradio-container .prose :is(td, th) {word-break: normal; overflow-wrap: normal}
.gradio-container .prose :is(td, th) {padding: .35rem clamp(.3rem, 1vw, .6rem)}
.gradio-container .caption-label {white-space: normal; max-width: 100%}
#outline img {object-fit: contain; width: 100%; height: 100%}
"""
FONT = ["system-ui", "sans-serif"]


def page(tabs: Mapping[str, str] = TABS) -> Any:
    """The page, not yet served.

    Args:
        tabs: name -> ``module:function`` that lays the tab out.

    Raises:
        ConfigError: gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio as gr
    except ImportError as error:
        raise ConfigError("gradio is not installed", hint="pip install 'wildsight[app]'") from error
    with gr.Blocks(title="WildSight", analytics_enabled=False) as blocks:
        gr.Markdown("# WildSight\nVision foundation models, taken past the edge of their training data.")
        with gr.Tabs(overflow_behavior="wrap"):  # a row more on a telephone, rather than a hidden menu
            for name, target in tabs.items():
                with gr.Tab(name, elem_id=f"tab-{name}"):
                    resolve(target)()
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
    blocks.queue(max_size=QUEUE, default_concurrency_limit=1)
    try:
        _, url, _ = blocks.launch(
            server_name=host, server_port=port, share=False, quiet=True, theme=theme, css=CSS,
            max_file_size=f"{upload_mb}mb", prevent_thread_lock=not block, footer_links=[], ssr_mode=False,
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"cannot listen ({error})", where=f"{host}:{port}", hint="give --port") from error
    return blocks, str(url)
