"""Model cards of the nano checkpoints, written from measured facts alone."""

from __future__ import annotations

from textwrap import fill
from typing import Any

CONV_TARGET = 0.6


def _text(*sentences: str) -> str:
    """Sentences as one paragraph of short lines."""
    return fill(" ".join(s for s in sentences if s), 100, break_long_words=False, break_on_hyphens=False)


def _table(head: str, rows: dict[str, float]) -> str:
    lines = [f"| {name} | {value:.3f} |" for name, value in rows.items()]
    return "\n".join([f"| {head} | |", "|---|---|", *lines])


def _verdict(what: str, value: float, target: float) -> str:
    return f"{what} at {target:g}: {'reached' if value >= target else 'missed'}, {value:.3f}."


def _again(name: str, facts: dict[str, Any], option: str = "") -> str:
    seconds = ", ".join(f"{part} {value} s" for part, value in facts["seconds"].items())
    return _text(
        f"Seed {facts['settings']['seed']}; wall-clock time of the training steps: {seconds}, on",
        f"{facts['hardware']}.",
        facts.get("note", ""),
        f"Again: `wildsight pretrain {name}{option}`. No picture is part of this package.",
    )


def _world(name: str, facts: dict[str, Any]) -> str:
    """Which pictures the scores belong to, and how they were measured where training did not."""
    trained, scored = facts["world"]["training"], facts["world"]["scores"]
    if trained == scored:
        return f"Pictures of world version {scored}."
    return (
        f"Trained on pictures of world version {trained}, scored on those of version {scored} with "
        f"`python -m tools.nano.rescore {name}`."
    )


def _photographs(facts: dict[str, Any]) -> str:
    named = facts["photographs"]
    if not named:
        return "No photograph was used."
    rows = "\n".join(f"| {name} | {count} |" for name, count in named.items())
    told = _text(
        "Beside the scenes stood real photographs, training parts only, for which patches and class token",
        f"were regressed onto the features of {facts['teacher']}; some of these sets are for research only:",
    )
    return f"{told}\n\n| photographs of | count |\n|---|---|\n{rows}"


def clip_card(facts: dict[str, Any]) -> str:
    """README.md of nano-clip."""
    own, scores = facts["settings"], facts["scores"]
    never, recall = scores["pairs never seen"], scores["caption to picture, first of 100"]
    share, chance = scores["class token's attention on things, by layer"], scores["chance of a pair"]
    what = _text(
        f"A `transformers` `CLIPModel` with {facts['parameters']:,} parameters in half",
        "precision. The picture",
        f"side is a vision transformer with a class token: {own['size']} pixels,",
        f"{(own['size'] // own['patch']) ** 2}",
        f"patches of {own['patch']}, {own['layers']} layers of width {own['width']}. The text side knows the",
        f"{scores['words']} words of the embedded world and no others.",
    )
    how = _text(
        f"{own['scenes']:,} rendered scenes of 1 to 6 things. {facts['steps']['things']:,}",
        "steps on windows about one",
        f"thing ({own['window_batch']} a step), then {facts['steps']['scenes']:,} on whole scenes",
        f"({own['scene_batch']} a step): contrastive with captions and phrases, and what each",
        "patch of the layer",
        f"before the last shows; last, {facts['steps']['painted']:,} on scenes of which a share of",
        f"{own['painted']:g} had their things painted over with coloured noise, so that shape is",
        "told apart from material. Sixteen of the 64 (material, shape) pairs never occurred, in pictures or",
        "words.",
    )
    verdicts = _text(
        _verdict("Pair never seen, five times chance", never["pair"], 5 * chance),
        _verdict("Shape of pairs never seen", never["shape"], 0.8),
        _verdict("First of 100, best level of caption", max(recall.values()), 0.6),
        f"In the last layer {share[-1]:.2f} of the class token's attention on patches lies on things, which",
        f"cover {scores['area of things']:.2f} of them.",
    )
    scored = _text(
        'Scenes of held-out seeds; the nearest of all texts "a photo of a ...".',
        f"Chance: pair {chance:.3f}, others 0.125.",
        _world("nano-clip", facts),
        "What is read off a patch was measured in training, by readers that are not in the checkpoint.",
    )
    photographs = "Photographs: their features were not scored; the losses are in `training.json`."
    return f"""# nano-clip

{what}

## Training
{how}

{_photographs(facts)}

{_again("nano-clip", facts, " --data FOLDER" if facts["photographs"] else "")}

## Scores
{scored}

{_table("pairs never seen in training, accuracy", never)}

{_table("pairs seen, accuracy", scores["pairs seen"])}

{_table("caption to picture, first of 100, recall", recall)}

{_table("read off a patch of the layer before the last, accuracy", facts["patches_read"])}

{verdicts}

## Limits
It knows rendered things and is no measure of what a full-size CLIP does on photographs.
{photographs}
"""


def llava_card(facts: dict[str, Any]) -> str:
    """README.md of nano-llava."""
    own, scores = facts["settings"], facts["scores"]
    seeing, blind = scores["with the picture"], scores["without the picture"]
    common = scores["commonest answer"]
    rows = "\n".join(f"| {k} | {v:.3f} | {blind[k]:.3f} | {common[k]:.3f} |" for k, v in seeing.items())
    what = _text(
        f"A `transformers` `LlavaForConditionalGeneration` with {facts['parameters']:,} parameters in half",
        "precision: nano-clip's vision tower (its layer before the last), a projector, and a Llama of",
        f"{own['layers']} layers of width {own['width']} with {own['heads']} query and",
        f"{own['groups']} key-value heads.",
        "`AutoProcessor` reads the folder; a prompt is `<image> what colour is the cone ?`, and",
        '"what is there ?" asks for a caption.',
    )
    how = _text(
        f"The tower stayed as it was. {own['scenes']:,} rendered scenes.",
        f"{facts['steps']['words']:,} steps made the",
        f"projected patches lie near the words of what they show; {facts['steps']['few']:,} steps on",
        f"scenes of one or two things and {facts['steps']['answers']:,} on all",
        f"({own['batch']} pictures, each with {own['questions']} questions and a caption)",
        "taught to answer. In three of",
        f"four batches only {own['shown']} patches were shown, things before ground.",
    )
    scored = _text(
        f"{scores['questions']} questions about scenes of held-out seeds, answered greedily",
        "and compared as whole",
        'texts. "without": all picture tokens are zero; "commonest": the best constant answer to each form.',
        _world("nano-llava", facts),
    )
    return f"""# nano-llava

{what}

## Training
{how}

{_again("nano-llava", facts)}

## Scores
{scored}

| kind | accuracy | without the picture | commonest answer |
|---|---|---|---|
{rows}

{_verdict("All kinds", seeing["all"], 0.8)}

## Limits
It talks about rendered scenes in the words of the embedded world, one or a few words at a time.
"""


def sam_card(facts: dict[str, Any]) -> str:
    """README.md of nano-sam."""
    own, scores = facts["settings"], facts["scores"]
    what = _text(
        f"A `transformers` `SamModel` with {facts['parameters']:,} parameters in half",
        "precision, for pictures of",
        f"{own['size']} x {own['size']} pixels. It outlines the thing in a box, under a point,",
        "or roughly drawn.",
    )
    start = f"The encoder started as the first {own['layers']} layers of {facts['tower']}'s tower."
    how = _text(
        start if facts["tower"] else "",
        f"{own['scenes']:,} rendered scenes and {own['products']} products with a defect",
        "(every eighth picture),",
        f"{facts['steps']['still']:,} steps with the encoder's layers as they were, then",
        f"{facts['steps']['all']:,} with all in motion, {own['batch']} pictures a step with {own['prompts']}",
        "prompts: loose boxes,",
        "points, both, or a draft of the mask. Cross-entropy and Dice on the best mask, and the predicted",
        "IoU.",
    )
    scored = _text(
        "Things of held-out scenes, tight boxes, masks at the picture's size;",
        '"of three": the one of three masks that the model itself rates best.',
        _world("nano-sam", facts),
    )
    return f"""# nano-sam

{what}

## Training
{how}

{_again("nano-sam", facts)}

## Scores
{scored}

{_table("prompt, mean IoU", scores)}

{_verdict("A box", scores["box"], 0.85)}

## Limits
It was taught on rendered things; on photographs it is a small network with a good start, no more.
"""


def conv_card(facts: dict[str, Any]) -> str:
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
{_probe_scores(facts["probe"])}
The exact numbers, the settings and the last epoch's losses are in `training.json`.

## Limits
It saw small pictures only and is far below full-size networks. Some of the sets that it learned from are
for research only.
"""


def _probe_scores(probe: dict[str, dict[str, float]]) -> str:
    if not probe:
        return "Not measured: no real set was at hand.\n"
    columns = ("random", "nano-conv", "teacher", "share", "teacher_last", "share_of_last")
    lines = (" | ".join([name, *(f"{row[c]:.3f}" for c in columns)]) for name, row in probe.items())
    rows = "\n".join(f"| {line} |" for line in lines)
    mean = sum(row["share"] for row in probe.values()) / len(probe)
    verdict = "reached" if mean >= CONV_TARGET else "missed"
    return f"""Test accuracy of a logistic regression on the averaged maps of strides 8 and 16, training and
test pictures at the training size. `share` is the way from random weights to the teacher on the same strides;
`teacher_last` is the teacher's pooled last layer, which is deeper than nano-conv.

| set | {" | ".join(columns)} |
|---|{"---|" * len(columns)}
{rows}

Mean share {mean:.2f}; the target of {CONV_TARGET} is {verdict}.
"""
