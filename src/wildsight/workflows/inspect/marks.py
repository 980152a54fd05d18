"""What an inspection found, as an annotation tool takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wildsight.datasets.masks import GRADED, read_mask
from wildsight.results import Mark
from wildsight.workflows.inspect.project import GOOD, Looked, Project


@dataclass(frozen=True)
class Inspected:
    """A picture that was looked at.

    Attributes:
        project: the open project.
        looked: what was seen in it.
    """

    project: Project
    looked: Looked

    @property
    def image(self) -> Path:
        """The picture's file."""
        return Path(self.looked.file)

    def marks(self, size: tuple[int, int] | None = None) -> list[Mark]:  # noqa: ARG002  the masks have it
        """Its finds under their best words, but for what a person called good; the score is the peak."""
        labels = [(find, self.project.label(find.id)) for find in self.looked.finds]
        return [
            Mark(label, read_mask(self.project.mask(find.id), GRADED), find.peak)
            for find, label in labels
            if label != GOOD
        ]


def marked(project: Project) -> list[Inspected]:
    """The pictures of a project, as `wildsight.datasets.annotations.writing` takes them."""
    return [Inspected(project, looked) for looked in project.looked.values()]
