"""Every task's commands have the same options under the same names; exceptions are listed with a reason."""

from __future__ import annotations

import pytest

from wildsight.cli import load_command
from wildsight.estimators import TASKS

TRAINING = {"--epochs", "--lr", "--batch-size", "--workers", "--precision", "--tracker"}
OPTIONS = {
    "fit": {"--out", "--method", "--backbone", "--device", "--seed", "--set", *TRAINING},
    "predict": {"--out", "--backbone", "--device", "--batch-size"},  # the rest comes with the checkpoint
    "evaluate": {"--out", "--backbone", "--device", "--split"},  # in batches of the fit's own size
    "check": set(),  # reads a source, runs nothing
    "bench": {"--out", "--method", "--backbone", "--device", "--seeds", "--set", "--image-size", *TRAINING},
    "methods": set(),
    "export": {"--out", "--backbone", "--tolerance"},  # on the CPU, in fp32, where it can be proved
}
NO_TRAINING = "compresses a model that is trained; nothing is fitted"
NO_GRAPH = "has no ONNX graph"
ABSENT = {
    **{("compression", verb): NO_TRAINING for verb in ("fit", "predict", "evaluate")},
    **{(task, "export"): NO_GRAPH for task in TASKS if task not in ("anomaly", "segmentation")},
}
LACKING = {("compression", "bench"): (TRAINING - {"--precision"}) | {"--image-size"}}
"""Options that a command does not have: the compression bench trains nothing, its model resizes."""
CASES = [(task, verb) for task in TASKS for verb in OPTIONS if (task, verb) not in ABSENT]


@pytest.mark.parametrize(("task", "verb"), CASES, ids=[f"{t}-{v}" for t, v in CASES])
def test_a_command_has_the_options_of_all_tasks(task: str, verb: str) -> None:
    parameters = load_command(task).commands[verb].params
    names = {name for p in parameters for name in p.opts if name.startswith("--")}
    lacking = LACKING.get((task, verb), set())
    assert names >= OPTIONS[verb] - lacking
    assert not names & lacking


@pytest.mark.parametrize(("task", "verb"), ABSENT)
def test_a_command_that_a_task_lacks_is_absent(task: str, verb: str) -> None:
    assert verb not in load_command(task).commands


def test_the_same_option_means_the_same_in_every_task() -> None:
    texts: dict[tuple[str, str], set[str]] = {}
    for task, verb in CASES:
        for parameter in load_command(task).commands[verb].params:
            for name in set(parameter.opts) & OPTIONS[verb] - {"--out"}:
                texts.setdefault((verb, name), set()).add(parameter.help)
    assert {key: words for key, words in texts.items() if len(words) > 1} == {}
