"""The first page: what a person has, what each tab makes of it, and the way there."""

from __future__ import annotations

import gradio as gr

from wildsight.app.browser import opens
from wildsight.app.tabs import TABS


def build() -> None:
    """Lay out the page."""
    gr.Markdown("**What do you have?** Press what fits; every tab can be tried with a sample.")
    for name, entry in TABS.items():
        with gr.Row(elem_classes="choice"):
            button = gr.Button(entry.title, min_width=170, scale=0, size="sm")
            gr.Markdown(f"{entry.have[0].upper()}{entry.have[1:]} → {entry.want}.")
        button.click(None, None, None, js=opens(f"tab-{name}"))
    gr.Markdown(
        "Everything stays on the machine that serves this page. A model that learned in a tab is kept there; "
        "*Save what was learned* hands it out as a checkpoint for the command and for Python."
    )
