"""Named groups are learned as tasks of the continual task; later finds are answered with their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wildsight.continual import ContinualLearner
from wildsight.continual.tasks import TaskData
from wildsight.errors import ConfigError, DataError
from wildsight.files import atomic_folder, digest_of, read_json, write_json
from wildsight.workflows.inspect.crops import good_crops, readable
from wildsight.workflows.inspect.project import GOOD, Project, absolute_folder
from wildsight.workflows.inspect.state import checked, mapped, text

TEMPLATE = "a photo of a {}"
LEAST = 2
"""Finds that a name needs before it is learned."""
TAUGHT = "taught.json"


def learn(
    project: Project,
    *,
    method: str | None = None,
    backbone: str | None = None,
    again: bool = False,
    progress: bool = True,
    **training: Any,
) -> list[str]:
    """Teach the learner the names whose finds changed since the last time, then answer for all finds.

    Crops of good pictures are taught as ``good``, so that a false alarm can be answered as one.

    Args:
        project: an open project; saved.
        method: of the continual task; None is ``mulki``, or that of the learner that stands.
        backbone: the CLIP to begin with; None is ``nano-clip``, or that of the learner that stands.
        again: begin with a new learner, and teach it every name.
        progress: show progress and the time left.
        training: fields of `TrainConfig`.

    Returns:
        The names taught in this call; none where names were only taken back.

    Raises:
        DataError: no name with at least `LEAST` finds, or nothing new since the last time.
        ConfigError: another method or backbone than that of the learner that stands, without ``again``.
    """
    backbone = None if backbone is None else absolute_folder(backbone)
    crops = _crops(project)
    if len(crops) < 2:
        what = f"no name has {LEAST} finds yet"
        raise DataError(what, where=project.folder, hint="name a group with `wildsight inspect name`")
    known = {} if again else _taught(project)
    fresh = [name for name, files in crops.items() if known.get(name) != digest_of(files)]
    if not fresh and set(known) == set(crops):
        raise DataError(
            "nothing was named since the last time", where=project.folder, hint="name a find first"
        )
    learner = _begun(project, method, backbone) if known else _new(method, backbone)
    if fresh:
        _teach(learner, fresh, crops, progress, training)
    with atomic_folder(project.learner, TAUGHT) as temporary:
        learner.save_pretrained(temporary / "model")
        write_json(temporary / TAUGHT, {name: digest_of(files) for name, files in crops.items()})
    project.answers = answers(project, list(project.finds()))
    project.save()
    return fresh


def _new(method: str | None, backbone: str | None) -> ContinualLearner:
    return ContinualLearner(method or "mulki", backbone or "nano-clip")


def _begun(project: Project, method: str | None, backbone: str | None) -> ContinualLearner:
    """The existing learner; ConfigError where another one was asked for."""
    learner = _open(project)
    other = {
        "method": method is not None and learner.variant(method).method != learner.method,
        "backbone": backbone is not None and backbone != learner.settings.backbone,
    }
    for what, differs in other.items():
        if differs:
            text = f"the learner's {what} is {getattr(learner.settings, what)}"
            hint = "leave it out, or begin a new learner with --again"
            raise ConfigError(text, where=project.learner, hint=hint)
    return learner


def _teach(
    learner: ContinualLearner,
    fresh: Sequence[str],
    crops: Mapping[str, Sequence[str]],
    progress: bool,
    training: Mapping[str, Any],
) -> None:
    """One task of the learner: the names that are new or changed, and ``good``."""
    classes = list(dict.fromkeys([*fresh, GOOD]))  # a lone class would leave nothing to tell apart
    files, labels = zip(*((path, name) for name in classes for path in crops[name]), strict=True)
    task = TaskData.of(f"names {len(learner.learned) + 1}", files, labels, classes, (TEMPLATE,))
    learner.update(task, repeat=True, progress=progress, **training)


def _taught(project: Project) -> dict[str, str]:
    """Name -> digest of the crops that it was taught with; empty before the first `learn`."""
    file = project.learner / TAUGHT
    if not project.learner.is_dir():
        return {}
    hint = f"restore a copy of it, or delete the folder {project.learner} and learn again"
    found: dict[str, str] = checked(read_json(file), mapped(text), file, hint)
    return found


def _crops(project: Project) -> dict[str, list[str]]:
    """Name -> crops, for names with enough of them; ``good`` has the crops of good pictures as well."""
    named: dict[str, list[str]] = {}
    for find, name in project.names_here().items():
        if readable(project.crop(find)):
            named.setdefault(name, []).append(str(project.crop(find)))
    kept = {
        name: sorted(files) for name, files in sorted(named.items()) if len(files) >= LEAST or name == GOOD
    }
    if kept:
        kept[GOOD] = sorted({*kept.get(GOOD, []), *map(str, filter(readable, good_crops(project)))})
    return kept


def _open(project: Project) -> ContinualLearner:
    return ContinualLearner.from_pretrained(project.learner / "model")


def answers(project: Project, finds: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Find -> the learner's ``name``, one that a find still carries or ``good``, and ``confidence``."""
    there = [f for f in finds if readable(project.crop(f))]
    if not there:
        return {}
    learner = _open(project)
    taught = dict.fromkeys(c for t in learner.learned for c in t["classes"])
    classes = [c for c in taught if c in project.answerable()]
    if len(classes) < 2:
        return {}
    results = learner.predict([project.crop(f) for f in there], classes=classes, templates=(TEMPLATE,), top=1)
    return {
        find: {"name": r.label, "confidence": r.probability} for find, r in zip(there, results, strict=True)
    }
