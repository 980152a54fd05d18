"""The task's part of the tour: the same questions with fewer tokens and a smaller cache."""

from __future__ import annotations

from pathlib import Path

from wildsight.backbones.vlm import load_model
from wildsight.compression.evaluation.bench import bench
from wildsight.compression.evaluation.evaluate import LONGEST
from wildsight.compression.evaluation.questions import world
from wildsight.report import Report
from wildsight.results import Table, score_table

TABLES = {
    "accuracy": "Answers that are right",
    "perplexity": "Perplexity of the true answers: lower is better",
    "speedup": "Time of the whole model over this one's, as measured here",
    "limit": "The same as the count of operations allows at best",
    "cache_kib": "KiB of keys and values held per prompt",
}


def demo(report: Report, folder: Path, quick: bool) -> None:
    """The task's part of the tour; see `wildsight.workflows.tour.Stop`."""
    _answers(report)
    methods = ["scope", "vtc-cls", "prefixkv", "h2o"]
    methods += [] if quick else ["hybrid", "fastv", "snapkv"]
    result = bench(
        "world",
        out=folder,
        methods=methods,
        seeds=1,
        tokens=(0.25,) if quick else (0.5, 0.25, 0.125),
        shares=(0.3,) if quick else (0.5, 0.2),
        count=100 if quick else 250,
        repeats=1,
    )
    report.text(
        "A small LLaVA answers questions about scenes with **all 144 tokens of a picture**, then with fewer, "
        "then with a smaller cache. The first two tables show what it loses, the others what it saves."
    )
    for metric, meaning in TABLES.items():
        report.table(score_table(result["rows"], metric), f"{meaning}; a demonstration, one run")
    report.gallery(list(result["pictures"]), "The tokens that the language model still reads")


def _answers(report: Report) -> None:
    """What nano-llava itself says to the questions about a held-out picture, beside the truth."""
    import torch

    samples = world(10).samples
    chosen = [s for s in samples if s.picture == samples[-1].picture]
    loaded = load_model()
    rows, picture = [], chosen[0].load()
    for sample in chosen:
        inputs = loaded.inputs([picture], [sample.question])
        with torch.no_grad():
            said = loaded.model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)[0]
        text = loaded.text(said[inputs["input_ids"].shape[1] :])
        rows.append([sample.kind, sample.question, text, sample.answers[0]])
    report.figure(picture.resize((2 * picture.width, 2 * picture.height)), "A picture that it never saw")
    table = Table(["kind", "question", f"{loaded.name} says", "truth"], rows)
    report.table(table, "Asked with all tokens and the whole cache")
