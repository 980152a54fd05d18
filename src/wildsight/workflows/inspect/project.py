"""The project folder: what an inspection knows, as JSON files that are written whole."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from wildsight.errors import ConfigError
from wildsight.files import MANIFEST, locked, sha256, write_json
from wildsight.results import environment
from wildsight.sources import FOLDER, HUB, parse_source
from wildsight.workflows.inspect.state import (
    FORMAT,
    LOCK,
    PARTS,
    merged,
    read_looked,
    read_part,
    read_settings,
)

GOOD = "good"
"""The name of a false alarm."""
PERHAPS = "perhaps good"
"""What a find is called that a machine takes for a false alarm."""
SURE = 0.9
"""Confidence below which the learner's ``good`` gives way to a group of new defects."""
PERSON, LEARNER, GROUPED = "person", "learner", "group"
ACCEPTED, REVIEWED, REJECTED = "accepted", "accepted after review", "rejected"
GOOD_CROPS = "crops-good"
"""Folder of the crops of good pictures."""


@dataclass(frozen=True)
class Find:
    """One suspicious region of one picture.

    Attributes:
        id: name of its crop, ``<picture hash>-<number>``.
        box: (left, top, right, bottom), pixels of the picture.
        area: pixels of its outline.
        peak: highest value of the heat map in it, in thresholds.
    """

    id: str
    box: tuple[float, float, float, float]
    area: int
    peak: float


@dataclass(frozen=True)
class Looked:
    """What was seen in one picture.

    Attributes:
        sha: SHA-256 of the file, so that the same picture is looked at once.
        file: where it lay.
        score, threshold: of the detector.
        finds: its suspicious regions; empty for a good picture.
        detector: which detector it was, see `Project.fingerprint`; empty in the first format.
        when: date and time of the look, with the offset from UTC; empty in the first format.
        batch: what the person called this lot of pictures; may be empty.
    """

    sha: str
    file: str
    score: float
    threshold: float
    finds: tuple[Find, ...]
    detector: str = ""
    when: str = ""
    batch: str = ""

    @property
    def anomalous(self) -> bool:
        """Whether the score is above the threshold."""
        return self.score > self.threshold

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        """From its JSON form."""
        finds = tuple(Find(**{**f, "box": tuple(f["box"])}) for f in row["finds"])
        return cls(**{**row, "finds": finds})


@dataclass
class Project:
    """An open project.

    Attributes:
        folder: where it lives.
        settings: how it was started.
        looked: pictures seen, by hash.
        groups: crop -> {``group``, ``confidence``, ``doubtful``}, of the last grouping.
        names: crop -> name that a person gave.
        answers: crop -> {``name``, ``confidence``}, what the learner says; empty before the first `learn`.
        words: crop -> {``attribute``, ``object``, ``probability``, ``known``, ``by``}, of `describe`.
        errors: file -> one sentence, for each picture that could not be read when it was last looked at.
    """

    folder: Path
    settings: dict[str, Any]
    looked: dict[str, Looked] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    words: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    _read: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: {} for name in STATE}, repr=False, compare=False
    )
    _stamps: dict[str, tuple[int, int, int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def detector(self) -> Path:
        """The detector's checkpoint."""
        return self.folder / "detector"

    def fingerprint(self) -> str:
        """What tells this detector from one that was learned at another time; empty where it is missing."""
        manifest = self.detector / MANIFEST
        return sha256(manifest)[:16] if manifest.is_file() else ""

    @property
    def learner(self) -> Path:
        """The learner's folder."""
        return self.folder / "learner"

    def crop(self, name: str) -> Path:
        """The picture of a find."""
        return self.folder / "crops" / f"{name}.png"

    def mask(self, name: str) -> Path:
        """The outline of a find, at the size of its whole picture."""
        return self.folder / "masks" / f"{name}.png"

    def finds(self) -> dict[str, Looked]:
        """Find -> the picture that it is in, in order of looking."""
        return {find.id: looked for looked in self.looked.values() for find in looked.finds}

    def names_here(self) -> dict[str, str]:
        """Find -> a person's name for it, of the finds that there are now."""
        return {f: self.names[f] for f in self.finds() if f in self.names}

    def answerable(self) -> set[str]:
        """The names that the learner may answer with: those that a find carries, and ``good``."""
        return {GOOD, *self.names_here().values()}

    def label(self, find: str) -> str:
        """The best word for a find: a person's name for it, else the learner's, else its group.

        A machine's ``good`` is "perhaps good": only a person accepts what was found.
        """
        who, _ = self.said_by(find)
        if who == PERSON:
            return self.names[find]
        if who == LEARNER:
            said = str(self.answers[find]["name"])
            return PERHAPS if said == GOOD else said
        grouped = str(self.groups.get(find, {}).get("group", "not grouped"))
        return PERHAPS if grouped == GOOD else grouped

    def said_by(self, find: str) -> tuple[str, float | None]:
        """Whose word `label` is: ``person``, ``learner`` or ``group``, with the machine's confidence.

        A learner that calls a find good without being sure gives way to a group of new defects.
        """
        if find in self.names:
            return PERSON, None
        answer, grouped = self.answers.get(find), self.groups.get(find)
        if answer and grouped and answer["name"] == GOOD != grouped["group"] and answer["confidence"] < SURE:
            answer = None
        for who, said in ((LEARNER, answer), (GROUPED, grouped)):
            if said:
                return who, float(said["confidence"])
        return "", None

    def verdict(self, looked: Looked) -> str:
        """``accepted``, ``rejected``, or ``accepted after review``.

        The last is a picture above the threshold whose every suspicious region a person called ``good``.
        """
        if not looked.anomalous:
            return ACCEPTED
        alarms = [self.label(f.id) == GOOD for f in looked.finds]
        return REVIEWED if alarms and all(alarms) else REJECTED

    def save(self) -> None:
        """Write what changed since it was opened or saved, into what other writers have saved meanwhile.

        One writer at a time: others wait. Afterwards this object holds their changes as well.

        Raises:
            DataError: the folder cannot be written, the disk is full, another writer does not come to an end,
                or it left a damaged file.
        """
        with locked(self.folder / LOCK):
            self._merge()
            write_json(self.folder / "project.json", {"format": FORMAT, **self.settings})
            looked = [asdict(row) for row in self.looked.values()]
            write_json(self.folder / "looked.json", {"pictures": looked, "not_read": self.errors})
            for part in PARTS:
                write_json(self.folder / f"{part}.json", getattr(self, part))
            self._remember()

    def _merge(self) -> None:
        """Take over what others wrote since we read or wrote last."""
        if not (self.folder / "project.json").is_file() or self._stamps == _stamps(self.folder):
            return
        disk = open_project(self.folder)
        for name in STATE:
            setattr(self, name, merged(self._read[name], getattr(self, name), getattr(disk, name)))

    def _remember(self) -> None:
        """Note the state as it is on the disk now; rows are copied, since a step may change them in place."""
        self._read = {name: deepcopy(getattr(self, name)) for name in STATE}
        self._stamps = _stamps(self.folder)


STATE: tuple[str, ...] = ("settings", "looked", "errors", *PARTS)
"""The attributes of a project that are saved."""


def _stamps(root: Path) -> dict[str, tuple[int, int, int]]:
    """What changes with every writing of a project's files: number, time and size of each."""
    stats = {file.name: file.stat() for file in root.glob("*.json")}
    return {name: (s.st_ino, s.st_mtime_ns, s.st_size) for name, s in stats.items()}


def start(
    folder: str | Path,
    good: str,
    *,
    method: str = "patchcore",
    backbone: str = "nano-conv",
    adapter: str | None = None,
    false_alarm_rate: float = 0.02,
    again: bool = False,
    progress: bool = True,
    **training: Any,
) -> Project:
    """Learn what is normal, and make the project folder.

    Args:
        folder: new folder of the project.
        good: source of good pictures, as the anomaly task reads it.
        method: ``patchcore`` and ``padim`` in seconds, ``ras`` and ``uniad`` in minutes.
        backbone: hub id, local folder or ``nano-*``.
        adapter: folder written by ``wildsight segmentation fit``; None outlines by the heat map alone.
        false_alarm_rate: share of good pictures that may be called anomalous.
        again: learn anew in a project that stands; pictures, names and groups stay, and the next `look` looks
            at its pictures once more.
        progress: show progress and the time left.
        training: fields of `TrainConfig`, for trained methods.

    Raises:
        ConfigError: the folder holds something already, or a setting out of range.
        DataError: no readable good picture, or a damaged project.
        CheckpointError: no adapter in that folder.
    """
    from wildsight.anomaly import AnomalyDetector

    project = _place(Path(folder), again)
    good, backbone = absolute_source(good), absolute_folder(backbone)
    if adapter is not None:
        adapter = absolute_folder(adapter)
        _check_adapter(adapter)
    detector = AnomalyDetector(method, backbone, false_alarm_rate=false_alarm_rate, calibration=0.2)
    detector.fit(good, progress=progress, **training)
    settings = {"good": good, "method": method, "backbone": backbone, "adapter": adapter}
    project.settings = {**settings, "false_alarm_rate": false_alarm_rate, "environment": environment()}
    detector.save_pretrained(project.detector)
    shutil.rmtree(project.folder / GOOD_CROPS, ignore_errors=True)  # they came from other good pictures
    project.save()
    return project


def _place(root: Path, again: bool) -> Project:
    """The project in a folder, or an empty one; ConfigError where the folder is in use."""
    if not root.exists() or (root.is_dir() and _left_by_a_start(root)):
        return Project(root, {})
    if not (root / "project.json").is_file():
        raise ConfigError("is not empty and holds no project", where=root, hint="name a new folder")
    if not again:
        hint = "go on with it, learn anew with --again, or name a new folder"
        raise ConfigError("is not empty: it holds a project", where=root, hint=hint)
    return open_project(root)


def _left_by_a_start(root: Path) -> bool:
    """Whether a folder is empty, or holds no more than a start that was killed left in it."""
    return all(p.name in ("detector", LOCK) or p.name.startswith(".detector.") for p in root.iterdir())


def absolute_source(text: str) -> str:
    """A source of the anomaly task that means the same from any directory.

    Raises:
        DataError: no such folder or reader.
    """
    from wildsight.anomaly.data import READERS

    source = parse_source(text, READERS)
    if source.path is None:
        return str(source)
    if source.reader == HUB and not source.path.exists():
        return str(source)
    path = str(source.path.absolute())
    return path if source.reader == FOLDER else f"{source.reader}:{path}"


def absolute_folder(name: str) -> str:
    """The whole path of a folder; another name, such as a hub id, as it is."""
    return str(Path(name).absolute()) if Path(name).is_dir() else name


def _check_adapter(adapter: str) -> None:
    """CheckpointError where a folder holds no adapter of the segmentation task."""
    from wildsight.segmentation import AnomalySegmenter

    AnomalySegmenter.from_pretrained(adapter)


def open_project(folder: str | Path) -> Project:
    """The project in a folder.

    Raises:
        DataError: no project there, or a damaged file.
        CheckpointError: written by another version.
    """
    root = Path(folder)
    stamps = _stamps(root)
    settings = read_settings(root)
    rows, errors = read_looked(root)
    seen = {row["sha"]: Looked.of(row) for row in rows}
    parts = {name: read_part(root, name) for name in PARTS}
    project = Project(root, settings, seen, errors=errors, **parts)
    project._remember()
    project._stamps = stamps  # of before the reading: what was written during it is read again
    return project
