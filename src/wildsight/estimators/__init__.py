"""What every task is built on: the base of the public objects, and the table of tasks."""

from wildsight.estimators.base import Estimator, PictureEstimator
from wildsight.estimators.checkpoints import kept
from wildsight.estimators.evaluation import Evaluation
from wildsight.estimators.streaming import FileAnswer
from wildsight.estimators.tasks import TASKS, TaskEntry, resolve, task_named

__all__ = [
    "TASKS",
    "Estimator",
    "Evaluation",
    "FileAnswer",
    "PictureEstimator",
    "TaskEntry",
    "kept",
    "resolve",
    "task_named",
]
