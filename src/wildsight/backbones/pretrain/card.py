"""The model card of nano-conv, written from measured facts alone."""

from __future__ import annotations

from typing import Any

TARGET = 0.6


def card(facts: dict[str, Any]) -> str:
    """README.md of the checkpoint.

    Args:
        facts: what ``training.json`` holds.
    """
    pictures = "\n".join(f"| {name} | {count} |" for name, count in facts["pictures"].items())
    settings = facts["settings"]
    return f"""# nano-conv

A `transformers` `ResNetModel` with {facts["parameters"]:,} parameters, stored in half precision. It has maps
at strides 4, 8 and 16 in `hidden_states` and one at stride 2 before the pooling, which
`load_backbone("nano-conv").pyramid` returns too.

## Training
It was taught to give the standardised feature maps (strides 4, 8, 16) and the pooled embedding of
{facts["teacher"]}; the projections in between were thrown away. No label was used. Fixed pictures of
{settings["size"]} x {settings["size"]} pixels, no augmentation, training parts only:

| pictures of | count |
|---|---|
{pictures}

No picture is part of this package. Batch {settings["batch_size"]}, about {settings["steps"]} steps, seed
{settings["seed"]}, {facts["seconds"]} s of training steps (the teacher's pass not counted) on
{facts["hardware"]}.
Again: `wildsight pretrain nano-conv --steps {settings["steps"]} --data FOLDER`.

## Scores
{_scores(facts["probe"])}
The exact numbers, the settings and the last epoch's losses are in `training.json`.

## Limits
It saw small pictures only and is far below full-size networks. Some of the sets that it learned from are
for research only.
"""


def _scores(probe: dict[str, dict[str, float]]) -> str:
    if not probe:
        return "Not measured: no real set was at hand.\n"
    columns = ("random", "nano-conv", "teacher", "share", "teacher_last", "share_of_last")
    lines = (" | ".join([name, *(f"{row[c]:.3f}" for c in columns)]) for name, row in probe.items())
    rows = "\n".join(f"| {line} |" for line in lines)
    mean = sum(row["share"] for row in probe.values()) / len(probe)
    verdict = "reached" if mean >= TARGET else "missed"
    return f"""Test accuracy of a logistic regression on the averaged maps of strides 8 and 16, training and
test pictures at the training size. `share` is the way from random weights to the teacher on the same strides;
`teacher_last` is the teacher's pooled last layer, which is deeper than nano-conv.

| set | {" | ".join(columns)} |
|---|{"---|" * len(columns)}
{rows}

Mean share {mean:.2f}; the target of {TARGET} is {verdict}.
"""
