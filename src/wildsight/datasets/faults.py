"""What readers do with a fault: raise it at once, or note it and read on, for a check that names them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wildsight.errors import WildSightError
from wildsight.sources import Problem


@dataclass
class Faults:
    """Faults met while reading.

    Attributes:
        noted: whether they are kept and reading goes on.
        problems: those kept.
    """

    noted: bool = False
    problems: list[Problem] = field(default_factory=list)

    @contextmanager
    def each(self, root: Path) -> Iterator[None]:
        """The reading of one part of ``root``, a line or a picture: a fault costs that part alone.

        Raises:
            WildSightError: at the first fault, where they are not noted.
        """
        try:
            yield
        except WildSightError as error:
            if not self.noted:
                raise
            where = Path(error.where or root)
            self.problems.append(Problem(where, error.what, error.hint or "see the documentation"))
