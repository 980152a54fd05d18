"""Ask a multimodal LLM about a picture, with a fraction of its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from wildsight.app.guard import guarded, lent, paths, results_of, run_folder, shelf, state_of


def build() -> None:
    """Lay out the tab."""
    gr.Markdown(
        "**Make a multimodal LLM cheaper.** Ask about a picture: the answer of the full model stands "
        "beside that of the compressed one, with what it cost, the patches that were kept and the "
        "cache of each layer."
    )
    with gr.Row():
        with gr.Column():
            model = gr.Textbox("nano-llava", label="Model: nano-llava, a folder, or a hub id")
            given = gr.File(label="Picture")
            sample = gr.Button("Take a sample picture and question")
            question = gr.Textbox(label="Question")
            visual = gr.Slider(0.05, 1.0, 0.25, step=0.05, label="Visual tokens kept, share")
            cache = gr.Slider(0.1, 1.0, 0.5, step=0.05, label="KV cache kept, share")
            ask = gr.Button("Ask", variant="primary")
        with gr.Column():
            said = gr.Markdown()
            shown = gr.Plot(label="What was kept")
            files = gr.File(label="Report, table and scores", file_count="multiple")
    sample.click(guarded(sample_question), None, [given, question])
    ask.click(guarded(answer), [model, given, question, visual, cache], [said, shown, files])


def sample_question() -> tuple[str, str]:
    """A scene of the world and a question about it."""
    from wildsight.images import from_array
    from wildsight.world.sets import questions

    asked = questions(seed=977, count=6)
    file = run_folder("compression") / "scene.png"
    from_array(asked.images[0]).save(file)
    return lent([file], "compression")[0], asked.questions[0]


def answer(model: str, given: Any, question: str, visual: float, cache: float) -> tuple[str, Any, list[str]]:
    """Both answers, the cost, the figure of what was kept, and the files to take away."""
    from wildsight.compression.reports import write_answer
    from wildsight.compression.result import answer as run

    if not (question or "").strip():
        raise gr.Error("no question was asked", print_exception=False)
    loaded = _loaded(model)
    options = {"visual_tokens": float(visual), "kv_cache": float(cache), "repeats": 3, "max_new_tokens": 24}
    result = run(loaded, paths(given)[0], question.strip(), **options)
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
    report = write_answer(result, options, run_folder("compression"))
    return "\n".join(lines), result.figure(), results_of(report, report.with_name("scores.json"))


def _loaded(model: str) -> Any:
    """The model of a name; one in a folder is read again once another stands there."""
    from wildsight.backbones.vlm import load_model

    name = (model or "").strip()
    if not name:
        raise gr.Error("no model is named; type nano-llava, a folder, or a hub id", print_exception=False)
    return shelf.get(f"compression-{name}-{state_of(Path(name))}", lambda: load_model(name))
