"""Teach one CLIP two tasks, and keep the first: the source of `notebooks/continual.ipynb`."""
# ruff: noqa: E402

# %% [markdown]
# # Teach one CLIP two tasks, and keep the first
#
# After each task all of them are tested. A guard set that is never trained on can refuse an update.
# %%
from wildsight.continual import ContinualLearner
from wildsight.continual.data import read, world_folder

tasks = read("folder", world_folder(size=48, per_class=2, count=2)).tasks
learner = ContinualLearner("mulki", "nano-clip", image_size=48, max_drop=5.0)
for task in tasks:
    report = learner.update(task, tests=tasks, epochs=1, progress=False)
    print(task.name, report.accepted, dict(report.accuracy))
# %% [markdown]
# A picture is named among the classes of all tasks, or among names that were never taught.
# %%
picture = tasks[0].test[0][0]
print(learner.predict(picture)[0].label)
print(learner.predict(picture, classes=["cube", "sphere"])[0].label)
# %%
from wildsight.continual.reports import matrix_figure

matrix_figure(learner.matrix)
