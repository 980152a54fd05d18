"""Continual: keep teaching one CLIP new tasks, break nothing it knew.

Paper: MulKI (arXiv 2411.06764), reconstructed. Peers: zero-shot, fine-tuning, LwF, LwF-VR, WiSE-FT, iCaRL,
ZSCL*, ZSCL, SnD, LoRA per task.

    from wildsight.continual import ContinualLearner, TaskData

    learner = ContinualLearner()
    report = learner.update(TaskData.of("valves", files, labels, ["open valve", "shut valve"]))
    print(report.accepted, learner.predict("new.png")[0].label)
    learner.save_pretrained("clip-with-valves")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wildsight.continual.estimator import ContinualLearner
    from wildsight.continual.result import ContinualEvaluation, ContinualResult, Update
    from wildsight.continual.result import ContinualEvaluation as Evaluation
    from wildsight.continual.tasks import TaskData, TaskSequence

__all__ = [
    "ContinualEvaluation",
    "ContinualLearner",
    "ContinualResult",
    "Evaluation",
    "TaskData",
    "TaskSequence",
    "Update",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    if name in ("TaskData", "TaskSequence"):
        from wildsight.continual import data

        return getattr(data, name)
    if name == "ContinualLearner":
        from wildsight.continual.estimator import ContinualLearner

        return ContinualLearner
    from wildsight.continual import result

    return getattr(result, "ContinualEvaluation" if name == "Evaluation" else name)
