"""Ask a multimodal LLM about a picture, with a fraction of its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from wildsight.app.forms import DEVICES, Section, lay_out, method_section
from wildsight.app.jobs import message
from wildsight.app.models import shelf, state_of
from wildsight.app.uploads import lent, paths, results_of, run_folder
from wildsight.app.widgets import Tab, upload
from wildsight.compression import defaults
from wildsight.estimators.description import Parameter

MODEL = "nano-llava"
RUN = (
    Parameter(
        "positions", Literal["compact", "original"], defaults.POSITIONS, "of the tokens that are kept."
    ),
    Parameter("seed", int, 0, "of methods that draw."),
    Parameter("max_new_tokens", int, 24, "longest answer."),
    Parameter("repeats", int, 3, "timed runs of each; 0 leaves the cost out."),
)


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Make a multimodal LLM cheaper.** Ask about a picture: the answer of the full model stands "
        "beside that of the compressed one, with what it cost, the patches that were kept and the "
        "cache of each layer."
    )
    tab = Tab("compression")
    with gr.Row():
        with gr.Column():
            model = gr.Textbox(MODEL, label="Model: nano-llava, a folder, or a hub id")
            given = upload("Picture", many=False)
            question = gr.Textbox(label="Question")
            visual = gr.Slider(0.05, 1.0, 0.25, step=0.05, label="Visual tokens kept, share")
            cache = gr.Slider(0.1, 1.0, 0.5, step=0.05, label="KV cache kept, share")
            options = _options()
            with gr.Row():
                sample = gr.Button("Take a sample picture and question")
                ask = gr.Button("Ask", variant="primary")
                tab.stop_button()
        with gr.Column():
            said = tab.answer()
            shown = gr.Plot(label="What was kept")
            files = gr.File(label="Report, table and scores", file_count="multiple")
    tab.sample(sample, sample_question, None, [given.file, question], ask)
    tab.run(ask.click, answer, [model, given.file, question, visual, cache, *options], [said, shown, files])


def _options() -> list[Any]:
    """Who chooses the visual tokens, how the cache is shared out, and every parameter of both."""
    with gr.Accordion("Methods and parameters", open=False) as box:
        with gr.Row():
            selector = gr.Dropdown(
                [defaults.SELECTOR], value=defaults.SELECTOR, label="Visual tokens chosen by", min_width=180
            )
            evictor = gr.Dropdown(
                [defaults.CACHE], value=defaults.CACHE, label="Cache shared out by", min_width=180,
                allow_custom_value=True, info="also SIZES/SCORER, such as prefix/snapkv",
            )  # fmt: skip
            device = gr.Dropdown(
                DEVICES, value="auto", label="Device", allow_custom_value=True, min_width=120
            )
        note, values = gr.Markdown(), gr.State({})
        box.expand(_names, None, [selector, evictor], queue=False, show_progress="hidden")
        changes = [box.expand, selector.change, evictor.change]

        @gr.render(inputs=[selector, evictor, values], triggers=changes, queue=False)
        def fields(visual: str, cache: str, now: dict[str, Any]) -> None:
            lay_out(sections(visual, cache), now or {}, values, note)

    return [selector, evictor, device, values]


def _names() -> tuple[Any, Any]:
    from wildsight.compression import CACHE_METHODS, SELECTORS

    return gr.update(choices=list(SELECTORS)), gr.update(choices=list(CACHE_METHODS))


def sections(visual: str, cache: str) -> list[Section]:
    """Every parameter of both methods, and what the run itself takes."""
    from wildsight.compression import CACHE_METHODS, SELECTORS

    found = [method_section(SELECTORS, visual, f"visual:{visual}")]
    scorer = cache.rpartition("/")[2]
    if scorer in CACHE_METHODS:
        found.append(method_section(CACHE_METHODS, scorer, f"cache:{scorer}"))
    return [*found, Section("run", "Run", RUN, lambda _: None)]


def sample_question() -> tuple[str, str]:
    """A scene of the world and a question about it."""
    from wildsight.images import from_array
    from wildsight.world.sets import questions

    asked = questions(seed=977, count=6)
    file = run_folder("compression") / "scene.png"
    from_array(asked.images[0]).save(file)
    return lent([file], "compression")[0], asked.questions[0]


def answer(
    model: str,
    given: Any,
    question: str,
    visual: float,
    cache: float,
    selector: str = defaults.SELECTOR,
    evictor: str = defaults.CACHE,
    device: str = "auto",
    values: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[str, Any, list[str]]:
    """Both answers, the cost, the figure of what was kept, and the files to take away."""
    from wildsight.compression.reports import write_answer
    from wildsight.compression.result import answer as run
    from wildsight.errors import ConfigError

    if not (question or "").strip():
        raise message("no question was asked")
    loaded, changed = _loaded(model, device), values or {}
    options: dict[str, Any] = {
        "visual_tokens": float(visual),
        "kv_cache": float(cache),
        "visual": selector,
        "visual_options": dict(changed.get(f"visual:{selector}", {})) or None,
        "cache": evictor,
        "cache_options": dict(changed.get(f"cache:{evictor.rpartition('/')[2]}", {})) or None,
        **{p.name: p.default for p in RUN},
        **changed.get("run", {}),
    }
    result = run(loaded, paths(given)[0], question.strip(), **options)
    report = write_answer(result, options, run_folder("compression"))
    try:
        figure = result.figure()
    except ConfigError:  # the tokens form no grid, and the cache is whole
        figure = None
    return "\n".join(_in_words(result)), figure, results_of(report, report.with_name("scores.json"))


def _in_words(result: Any) -> list[str]:
    kept, before = result.visual_tokens
    lines = [
        f"- compressed: **{result.answer}**",
        f"- full model: **{result.full_answer}**",
        f"- visual tokens: {kept} of {before}",
    ]
    for name, what, scale, unit in (
        ("first_token_ms", "first token after", 1, "ms"),
        ("cache_bytes", "cache", 1024, "KiB"),
    ):
        if name in result.cost:
            now, full = result.cost[name] / scale, result.cost[f"full {name}"] / scale
            lines.append(f"- {what}: {now:.0f} {unit} (full {full:.0f} {unit})")
    return lines


def _loaded(model: str, device: str) -> Any:
    """The model of a name; one in a folder is read again once another stands there."""
    from wildsight.backbones.vlm import load_model

    name, where = (model or "").strip(), (device or "").strip() or "auto"
    if not name:
        raise message("no model is named; type nano-llava, a folder, or a hub id")
    key = f"compression-{name}-{where}-{state_of(Path(name))}"
    return shelf.get(key, lambda: load_model(name, device=where))
