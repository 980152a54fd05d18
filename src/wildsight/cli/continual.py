"""``wildsight continual``: update, predict, evaluate, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Teach one CLIP new tasks, break nothing it knew.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH (e.g. mtil:/data).")]
Model = Annotated[Path, typer.Argument(help="A checkpoint written by `wildsight continual update`.")]
Backbone = Annotated[str | None, typer.Option(help="The first model, if its folder has moved.")]
REFUSED = 3


@app.command()
def update(
    source: Source = "world",
    out: Annotated[Path, typer.Option(help="Folder of the run: a checkpoint per task.")] = Path(
        "runs/continual"
    ),
    method: Annotated[
        str, typer.Option(help="mulki, finetune, lwf, wise-ft, zscl, lora, ... or an ablation.")
    ] = "mulki",
    backbone: Annotated[str, typer.Option(help="The first model: hub id, local folder or nano-clip.")] = (
        "nano-clip"
    ),
    guard: Annotated[
        str | None, typer.Option(help="Probe tasks that are never trained on: `world` or a folder.")
    ] = None,
    max_drop: Annotated[float, typer.Option(min=0, help="Points that the guard set may lose.")] = 1.0,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Allow class names (prompts) that an earlier task taught.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over each task's pictures.")] = None,
    image_size: Annotated[int, typer.Option(min=0, help="Side of the input, pixels; 0: backbone's own.")] = 0,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    seed: Annotated[int, typer.Option(help="Order of the pictures and crops.")] = 0,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="name=value: a hyper-parameter of the method, a setting or one of training."
        ),
    ] = None,
) -> None:
    """Learn the tasks of SOURCE in order; those that stand in the folder are not learned again.

    Exit code 3 where the guard set refused a task: the checkpoint of the task before still serves.
    """
    from wildsight.cli.common import console, finish, fresh_checkpoint, pairs
    from wildsight.continual import ContinualLearner
    from wildsight.continual.data import read_source
    from wildsight.continual.methods import sorted_options
    from wildsight.continual.reports import write_updates
    from wildsight.continual.runs import fit_sequence

    checkpoint = fresh_checkpoint(out)
    sequence = read_source(source)
    hyper, chosen, training = sorted_options(method, pairs(option))
    options = {"image_size": image_size, "max_drop": max_drop, "seed": seed, "scenario": sequence.scenario}
    learner = ContinualLearner(method, backbone, hyper=hyper, **(options | chosen))
    training = {"precision": precision} | ({} if epochs is None else {"epochs": epochs}) | training
    updates = fit_sequence(learner, sequence, out, guard, True, training, strict=False, repeat=repeat)
    for made in updates:
        state = "stands" if made.resumed else "learned" if made.accepted else f"refused: {made.reason}"
        console.print(f"{made.task}: {state}", markup=False, soft_wrap=True, highlight=False)
    if learner.learned:
        learner.save_pretrained(checkpoint)
    finish(write_updates(learner, updates, source, out, dict(sequence.protocol), sequence.scenario))
    if any(not u.accepted for u in updates):
        raise typer.Exit(REFUSED)


@app.command()
def predict(
    model: Model,
    pictures: Annotated[list[str], typer.Argument(help="Files, globs or folders.")],
    task: Annotated[str | None, typer.Option(help="Only the classes of this learned task.")] = None,
    name: Annotated[list[str] | None, typer.Option(help="A candidate of your own; repeat it.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Best answers to list.")] = 1,
    backbone: Backbone = None,
) -> None:
    """Name what pictures show, one line each; exit code 2 if any could not be read."""
    from wildsight.cli.common import console
    from wildsight.continual import ContinualLearner
    from wildsight.errors import ImageError
    from wildsight.images import expand

    files = [file for item in pictures for file in expand(item)]
    learner = ContinualLearner.from_pretrained(model, backbone=backbone)
    failed = False
    for file in files:
        try:
            found = learner.predict(file, task=task, classes=name or None, top=top)[0]
            pairs = zip(found.classes, found.probabilities, strict=True)
            line = f"{file}: " + ", ".join(f"{n} {p:.3f}" for n, p in pairs)
        except ImageError as error:
            failed, line = True, f"not read: {error}"
        console.print(line, markup=False, soft_wrap=True, highlight=False)
    if failed:
        raise typer.Exit(2)


@app.command()
def evaluate(
    model: Model,
    source: Source,
    scenario: Annotated[str | None, typer.Option(help="task or class; the source's own by default.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/continual-evaluate"),
    backbone: Backbone = None,
) -> None:
    """Accuracy on the test pictures of every task of SOURCE."""
    from wildsight.cli.common import console, finish
    from wildsight.continual import ContinualLearner
    from wildsight.continual.reports import sheet, write_evaluation

    learner = ContinualLearner.from_pretrained(model, backbone=backbone)
    found = learner.evaluate(source, scenario=scenario)
    console.print(sheet(found).rich())
    finish(write_evaluation(learner, found, source, out))


@app.command()
def check(source: Source) -> None:
    """Name every problem found in SOURCE; exit code 1 if there is any."""
    from wildsight.cli.check import check as check_room

    check_room("continual", source)
