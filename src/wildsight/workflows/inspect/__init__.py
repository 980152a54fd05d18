"""Inspection, from good pictures to named defects: find, outline, group, describe, name, learn, report.

One project folder holds everything; the pictures stay where they are and are never changed.

    project = start("line3", "good_parts")
    look(project, ["today/*.png"])
    group(project)
    describe(project)
    name(project, "new_000", "scratch")
    learn(project)
    write_report(project)
"""

from __future__ import annotations

from wildsight.workflows.inspect.describing import describe
from wildsight.workflows.inspect.learning import learn
from wildsight.workflows.inspect.marks import marked
from wildsight.workflows.inspect.naming import clear, name
from wildsight.workflows.inspect.project import Project, open_project, start
from wildsight.workflows.inspect.reporting import write_report
from wildsight.workflows.inspect.steps import group, look

__all__ = [
    "Project",
    "clear",
    "describe",
    "group",
    "learn",
    "look",
    "marked",
    "name",
    "open_project",
    "start",
    "write_report",
]
