"""The parts that every tab is laid out with: uploads, buttons, results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from wildsight.app.forms import ModelForm
from wildsight.app.jobs import SAMPLES, SECONDS, guarded, plainly, running, stop
from wildsight.app.models import Chosen, saved
from wildsight.app.uploads import thumbnails
from wildsight.errors import WildSightError

LIST, STRIP = 150, 150
"""Heights of a list of files and of its thumbnails, pixels."""


@dataclass(frozen=True)
class Upload:
    """Files to give, with small copies of the pictures beneath.

    Attributes:
        file: the component that holds them.
        box: both parts, to show or hide.
    """

    file: Any
    box: Any


def upload(label: str, *, many: bool = True, visible: bool = True) -> Upload:
    """Lay out an upload: a list of fixed height, and thumbnails."""
    with gr.Column(visible=visible, min_width=160) as box:
        file = gr.File(label=label, file_count="multiple" if many else "single", height=LIST)
        strip = gr.Gallery(
            columns=6, height=STRIP, visible=False, show_label=False, interactive=False, preview=False,
            object_fit="contain", buttons=[], elem_classes="thumbnails",
        )  # fmt: skip
    file.change(thumbnails, file, strip, queue=False, show_progress="hidden")
    return Upload(file, box)


@dataclass
class Tab:
    """A tab's buttons and where its answers go.

    Attributes:
        name: of the tab; what `stop` ends.
        said: where the answer stands in words; scrolled into view.
    """

    name: str
    said: Any = None

    def answer(self) -> Any:
        """Lay out the place of the answer in words."""
        self.said = gr.Markdown(elem_id=f"said-{self.name}", elem_classes="said")
        return self.said

    def stop_button(self) -> Any:
        """Lay out the button that ends the tab's jobs."""
        name = self.name

        def end() -> None:
            stop(name)

        button = gr.Button("Stop", variant="stop", min_width=80, scale=0)
        button.click(end, None, None, queue=False, show_progress="hidden")
        return button

    def sample(self, button: Any, job: Callable[..., Any], inputs: Any, outputs: Any, *runs: Any) -> None:
        """Take a sample at a click; the buttons in ``runs`` are off until it is there."""
        switches = list(runs)

        def off() -> Any:
            return _switched(False, len(switches))

        def on() -> Any:
            return _switched(True, len(switches))

        quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
        load = guarded(job, tab=self.name, queue=SAMPLES)
        button.click(off, None, switches, **quiet).then(load, inputs, outputs).then(
            on, None, switches, **quiet
        )

    def run(
        self,
        event: Callable[..., Any],
        job: Callable[..., Any],
        inputs: Any,
        outputs: Any,
        seconds: float = SECONDS,
    ) -> None:
        """Answer at an event; the answer is scrolled into view where it is not."""
        where = f"said-{self.name}"
        into_view = f"() => {{document.getElementById('{where}')?.scrollIntoView({{block: 'nearest'}})}}"
        done = event(guarded(job, tab=self.name, seconds=seconds), inputs, outputs)
        done.success(None, None, None, js=into_view)

    def saves(self, form: ModelForm, model: Callable[..., Any], inputs: Sequence[Any], files: Any) -> None:
        """Lay out the button that saves what was fitted.

        Args:
            form: the tab's.
            model: the tab's model, of a `Chosen` and ``inputs``.
            inputs: components.
            files: where the checkpoint is handed out.
        """

        def save_model(chosen: Chosen, *values: Any) -> tuple[str, list[str]]:
            return saved(model(chosen, *values), form.preset.task)

        button = gr.Button("Save what was learned", size="sm")
        given = [*form.inputs, *inputs]
        self.run(button.click, form.asks(save_model), given, [self.said, files])


def _switched(on: bool, count: int) -> Any:
    found = [gr.update(interactive=on) for _ in range(count)]
    return found[0] if count == 1 else found


@dataclass(frozen=True)
class Refresh:
    """What a tab shows of a folder when it is opened or the page is loaded again.

    Attributes:
        tab: its parts.
        job: of the folder; what it returns goes to ``outputs``.
        folder: the component that names it; the browser remembers it.
        outputs: components.
    """

    tab: Tab
    job: Callable[..., Any]
    folder: Any
    outputs: Sequence[Any]

    def wire(self, blocks: Any, opened: Callable[..., Any]) -> None:
        """Refresh when the tab is opened, and when the folder's name was typed."""
        quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
        store = gr.BrowserState(None, storage_key=f"wildsight-{self.tab.name}")
        blocks.load(lambda name: name or gr.skip(), store, self.folder, **quiet)
        self.folder.blur(lambda name: name, self.folder, store, **quiet)
        job = guarded(self._now, tab=self.tab.name)
        for event in (opened, self.folder.submit):
            event(job, self.folder, self.outputs, show_progress="minimal")

    def _now(self, folder: str) -> Any:
        try:
            text, *rest = self.job(folder)
        except WildSightError as fault:
            text, *rest = plainly(fault), *(gr.skip() for _ in self.outputs[1:])
        note = running(but=1)
        return "\n\n".join(part for part in (text, note) if part), *rest
