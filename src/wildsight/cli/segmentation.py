"""``wildsight segmentation``: fit, predict, evaluate, check, bench, methods, export, convert."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from wildsight.cli.options import ANNOTATIONS, OUTLINE, Flag, Values
from wildsight.cli.task import COMMON, ExportingCommands, source_help, task_app

app = task_app("Outline a defect exactly, from a box or a few points.")

BASE = Flag("base", str, None, "A SAM: hub id, local folder or nano-sam; the same as --backbone.")
MOVED_BASE = Flag("base", str, None, "The base, if its folder has moved; the same as --backbone.")
FRACTION = Flag("train_fraction", float, 0.5, "Share of each kind of defect that trains.")


class SegmentationCommands(ExportingCommands):
    """The backbone is also called base; prompts come from options or a file."""

    def data(self, values: Values) -> Any:
        """The set, split by ``--train-fraction``."""
        from wildsight.segmentation.data import read_source

        return read_source(values["source"], train_fraction=values["train_fraction"])

    def fit(self, values: Values) -> Any:
        """Run ``fit``."""
        self.rename_base(values)
        return super().fit(values)

    def sorted(self, values: Values, flags: Sequence[Flag]) -> Any:
        """As for every task; a frozen encoder is one without low-rank updates."""
        options = super().sorted(values, flags)
        if values.pop("frozen_encoder"):
            options.hyper["encoder_targets"] = ()
        return options

    def rename_base(self, values: Values) -> None:
        """Read ``--base`` as ``--backbone``.

        Raises:
            ConfigError: both are given.
        """
        from wildsight.errors import ConfigError

        base = values.pop("base")
        if base is not None and values["backbone"] is not None:
            raise ConfigError("--base and --backbone name the same thing", hint="give one of them")
        values["backbone"] = values["backbone"] if base is None else base

    def asked(self, values: Values, files: Sequence[Path]) -> Values:
        """Boxes and groups of points of each file."""
        asked = _asked(files, values["box"] or [], values["point"] or [], values["prompts"])
        return {name: [asked[file][name] for file in files] for name in ("boxes", "points")}

    def loaded(self, values: Values) -> Any:
        """The fitted segmenter, merged where that is asked for."""
        self.rename_base(values)
        segmenter = super().loaded(values)
        return segmenter.merge() if values.get("merged") else segmenter

    def scored(self, values: Values) -> tuple[Any, str]:
        """The source, split as for the fit."""
        return self.data(values), values["source"]

    def evaluated(self, estimator: Any, data: Any, values: Values, options: Values) -> Any:
        """Scores with the pictures for the report; splits and scores per picture go beside it."""
        from wildsight.files import write_json
        from wildsight.results import write_csv

        out = values["out"]
        evaluation = estimator.evaluate(data, split=values["split"], keep=True, **options)
        write_json(out / "splits.json", data.splits())
        write_csv(out / "pictures.csv", evaluation.scores)
        return evaluation

    def exported(self, estimator: Any, values: Values) -> Any:
        """The segmenter, proved on the boxes of true masks."""
        from wildsight.images import load_image
        from wildsight.segmentation.data import read_mask, read_source
        from wildsight.segmentation.export import export_segmenter
        from wildsight.segmentation.prompts import tight_box

        chosen = read_source(values["source"]).test[: values["samples"]]
        proof = [(load_image(s.image), [tight_box(read_mask(s))]) for s in chosen]
        return export_segmenter(estimator, values["out"], proof, tolerance=values["tolerance"])


def _asked(files: Sequence[Path], box: list[str], point: list[str], prompts: Path | None) -> dict[Path, Any]:
    """Boxes and groups of points of each file."""
    from wildsight.datasets.lists import read_json
    from wildsight.errors import ConfigError, DataError

    points = [_numbers(text, 2, "--point") for text in point]
    common = {"boxes": [_numbers(text, 4, "--box") for text in box], "points": [points] if points else []}
    if prompts is None:
        if not box and not point:
            raise ConfigError(
                "no box and no point", hint="give --box x1,y1,x2,y2, --point x,y or --prompts FILE"
            )
        return dict.fromkeys(files, common)
    table = read_json(prompts)
    prompts_of = {}
    for file in files:
        own = table.get(file.name) if isinstance(table, dict) else None
        if not isinstance(own, dict) or not set(own) <= {"boxes", "points"}:
            raise DataError(
                f"says nothing of {file.name}", where=prompts, hint='give {"boxes": [...], "points": [[...]]}'
            )
        prompts_of[file] = {"boxes": own.get("boxes", []), "points": own.get("points", [])}
    return prompts_of


def _numbers(text: str, count: int, option: str) -> list[float]:
    from wildsight.errors import ConfigError

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        form = "x,y" if count == 2 else "x1,y1,x2,y2"
        raise ConfigError(f"{text!r} is not {count} numbers", where=option, hint=f"write {form}")
    return values


commands = SegmentationCommands(
    task="segmentation",
    app=app,
    source=source_help("mtd:/data/mtd"),
    fits=(
        Flag("geometry", str, None, "squash or letterbox."),
        Flag("masks", int, None, "Use at most this many masks.", min=1),
        Flag("rank", int, None, "Rank of the low-rank updates.", min=0),
        Flag("per_component", bool, None, "Each connected part by itself."),
        Flag("augment", str, None, "none, flip or jitter."),
    ),
    fit_extras=(
        BASE,
        FRACTION,
        Flag("frozen_encoder", bool, None, "No encoder adapter; embeddings are cached."),
    ),
    predict_extras=(
        Flag("box", list[str], None, "x1,y1,x2,y2 in pixels; repeat it."),
        Flag("point", list[str], None, "x,y on the defect; all of them mark one."),
        Flag("prompts", Path, None, 'JSON: file name -> {"boxes": \\[...], "points": \\[\\[...]]}.'),
        Flag("merged", bool, None, "Fold the low-rank updates first."),
        MOVED_BASE,
        ANNOTATIONS,
        OUTLINE,
    ),
    evaluates=(
        Flag("prompt", str, None, "box or points, from the true mask."),
        Flag("points", int, None, "Points of a point prompt.", min=1),
        Flag("box_jitter", float, None, "Move the box's edges by up to this share."),
    ),
    evaluate_extras=(FRACTION, MOVED_BASE),
    exports=(
        Flag("source", str, "world", "Where the pictures to prove it on come from."),
        Flag("samples", int, 4, "How many pictures.", min=1),
        MOVED_BASE,
    ),
)
commands.add(*COMMON, "export")


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="The authors' spt_vit_*.pth, or .safetensors.")],
    base: Annotated[str, typer.Option(help="A SAM: hub id, local folder or nano-sam.")],
    out: Annotated[Path, typer.Option(help="Folder of the adapter.")] = Path("runs/segmentation-adapter"),
) -> None:
    """Turn the authors' checkpoint into an adapter folder."""
    from wildsight.cli.common import console
    from wildsight.segmentation.importer import import_official

    folder = import_official(checkpoint, base).save_pretrained(out)
    console.print(f"adapter: {folder}", markup=False, soft_wrap=True, highlight=False)
