"""The public object of the continual task: one CLIP that keeps learning tasks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from wildsight.backbones import Backbone, load_backbone
from wildsight.continual.data import read_source
from wildsight.continual.evaluation import Gallery, evaluate
from wildsight.continual.guard import Guard, apart, key_of, probes_of, refused, signatures
from wildsight.continual.icarl import HERDED, remembered
from wildsight.continual.methods import named
from wildsight.continual.pictures import Open, Pictures, opened
from wildsight.continual.result import ContinualResult, Evaluation, Update
from wildsight.continual.settings import LearnerSettings
from wildsight.continual.tasks import TaskData, TaskSequence, distinct, known, tested
from wildsight.continual.teaching import Teaching
from wildsight.continual.towers import Towers
from wildsight.errors import CheckpointError, ConfigError
from wildsight.estimators.legacy import SavedObject
from wildsight.files import digest_of
from wildsight.images import Picture, as_list, as_picture, load_image, path_of

Shown = Picture


class ContinualLearner(SavedObject):
    """Teaches one CLIP new tasks and keeps what it knew.

    >>> ContinualLearner(method="nosuch")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    wildsight.errors.ConfigError: no method is called 'nosuch'; use one of mulki, zeroshot, ...

    Args:
        method: ``mulki`` (the paper), a peer, or an ablation; see `METHODS` and `ABLATIONS`.
        backbone: the first model: a CLIP by hub id, local folder, ``nano-clip``, or already loaded.
        hyper: the method's own hyper-parameters by name, such as ``{"weights": "uniform"}``.
        settings: other fields of `LearnerSettings`.

    Attributes:
        learned: one entry per learned task: ``name``, ``classes``, ``templates``, ``digest``.
        matrix: one entry per learned task: ``task`` and ``accuracy`` (task -> percent).
        trained: `signatures` of every picture that was trained on.
        guard: probe task -> its accuracy when it was first measured.

    Raises:
        ConfigError: unknown method, backbone or setting.
        UnsupportedModelError: the backbone is no CLIP.
    """

    task: ClassVar[str] = "continual"
    weights_name: ClassVar[str] = "model"

    def __init__(
        self,
        method: str = "mulki",
        backbone: str | Backbone = "nano-clip",
        *,
        hyper: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.method, preset = named(method)
        self.hyper = {**preset, **(hyper or {})}
        self.config = self.method.configure(self.hyper)
        loaded = load_backbone(backbone) if isinstance(backbone, str) else backbone
        try:
            self.settings = LearnerSettings(method=method, backbone=loaded.name, **settings)
        except TypeError as error:
            raise ConfigError(str(error), hint="see LearnerSettings") from error
        self.given = backbone
        self.base_sha = loaded.sha
        self.towers = Towers(loaded, self.settings.image_size, self.settings.resize).eval()
        self.learned: list[dict[str, Any]] = []
        self.matrix: list[dict[str, Any]] = []
        self.memory: list[Tensor] = []
        self.trained = signatures([])
        self.guard: dict[str, float] = {}
        self.gallery = Gallery()
        self._texts: dict[str, Tensor] = {}
        self._run_identity = ""

    def first_model(self) -> Towers:
        """The first model, read again by its name, with the words known now; never trained.

        Raises:
            CheckpointError: the files behind its name have changed.
        """
        loaded = load_backbone(self.given) if isinstance(self.given, str) else self.given
        if loaded.sha != self.base_sha:
            raise CheckpointError(
                "is another base than this learner began with", where=loaded.name, hint="restore it"
            )
        towers = Towers(loaded, self.settings.image_size, self.settings.resize).eval()
        towers.grow(self.towers.words)
        return towers

    def update(
        self,
        task: TaskData,
        *,
        guard: Guard = None,
        tests: Sequence[TaskData] = (),
        folder: Path | None = None,
        repeat: bool = False,
        progress: bool = True,
        open_file: Open = load_image,
        **training: Any,
    ) -> Update:
        """Learn one task, and serve the new model only if the guard set stands.

        Args:
            task: its pictures, class names and templates; as few as one picture per class.
            guard: probe tasks that are never trained on (a source or tasks); the update is refused where
                their mean accuracy falls by more than the setting ``max_drop``, in this update or in all
                updates since they were first measured.
            tests: tasks to test afterwards: the new row of the accuracy matrix.
            folder: where the training state is kept; a killed update with the same folder goes on there.
            repeat: allow prompts that an earlier task used, to teach a class again.
            progress: show progress and the time left.
            open_file: how a training file becomes a picture.
            training: fields of `TrainConfig`; the task's recipe where not given.

        Returns:
            What moved. Where it was refused, ``accepted`` is False and this object is unchanged.

        Raises:
            DataError: a class without picture or name, prompts of an earlier task, a task in ``tests``
                without test pictures, or a picture of this or an earlier task in the guard set.
            ImageError: a training picture cannot be read.
        """
        probes = probes_of(guard)
        self.accept([task], probes, tests, repeat=repeat)
        grown = self.towers.copied()
        words = [t.format(c) for one in (task, *tests) for t in one.templates for c in one.classes]
        grown.grow(grown.unknown(words))
        grown.encode_prompts(task.classes, task.templates[:1])
        candidate, facts = self._teaching().taught(grown, task, folder, progress, open_file, training)
        guarded, first = self._guarded(candidate, probes)
        reason = refused(guarded, first, self.settings.max_drop)
        facts |= {"guard": guarded, "first": first}
        if reason:
            _clear(folder)
            return Update(task.name, False, reason, **facts)
        accuracy = self._tested(candidate, tests)
        self.guard = {**{key_of(p): first[p.name] for p in probes}, **self.guard}
        self._serve(candidate, task, accuracy, open_file)
        _clear(folder)
        return Update(task.name, True, accuracy=accuracy, **facts)

    def _teaching(self) -> Teaching:
        before = {"base": self.base_sha, "tasks before": digest_of([t["digest"] for t in self.learned])}
        first = not self.learned
        return Teaching(self.method, self.config, self.settings, first, self.first_model, self.memory, before)

    def _tested(self, towers: Towers, tests: Sequence[TaskData]) -> dict[str, float]:
        names = [t.name for t in tests]
        if not self.method.objective.trains and self.matrix and list(self.matrix[-1]["accuracy"]) == names:
            return dict(self.matrix[-1]["accuracy"])  # the same model, the same pictures
        return dict(evaluate(towers, tests, self.gallery).accuracy) if tests else {}

    def accept(
        self,
        tasks: Sequence[TaskData],
        probes: Sequence[TaskData],
        tests: Sequence[TaskData],
        *,
        repeat: bool,
        standing: bool = False,
    ) -> None:
        """Name what is wrong with tasks to learn in this order, before anything is computed.

        Args:
            tasks: to learn.
            probes: the guard set.
            tests: tasks to test afterwards.
            repeat: allow prompts that an earlier task used.
            standing: a task of ``tasks`` that was learned is the same one, and no repetition.

        Raises:
            DataError: as `update`.
        """
        for task in tasks:
            task.require()
        tested(tests)
        own = [t.name for t in tasks] if standing else []
        if not repeat:
            distinct(tasks, known([t for t in self.learned if t["name"] not in own]))
        apart(tasks, probes, self.trained)

    def _guarded(
        self, candidate: Towers, probes: Sequence[TaskData]
    ) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
        """Probe task -> accuracy before and after, and -> accuracy when it was first measured."""
        if not probes:
            return {}, {}
        before = evaluate(self.towers.copied(), probes, self.gallery).accuracy
        after = evaluate(candidate.copied(), probes, self.gallery).accuracy
        first = {p.name: self.guard.get(key_of(p), before[p.name]) for p in probes}
        return {name: (before[name], after[name]) for name in before}, first

    def _serve(self, towers: Towers, task: TaskData, accuracy: dict[str, float], open_file: Open) -> None:
        """Take the candidate; from here on it is the model."""
        if "memory" in self.method.objective.needs:
            self._remember(towers, task, open_file)
        entry = {"name": task.name, "classes": list(task.classes), "templates": list(task.templates)}
        self.learned = [*self.learned, entry | {"digest": task.fingerprint()}]
        if accuracy:
            self.matrix = [*self.matrix, {"task": task.name, "accuracy": accuracy}]
        self.trained = torch.cat([self.trained, signatures([p for p, _ in task.train])]).unique()
        self.towers, self._texts = towers, {}

    def _remember(self, towers: Towers, task: TaskData, open_file: Open) -> None:
        """iCaRL's memory: herded pictures of every task within one budget."""
        pictures = Pictures(task.train[:HERDED], towers.pixels, open_file)
        self.memory = remembered(self.memory, pictures, towers.embed, self.config.memory)

    def fit(
        self,
        source: str | Path | TaskSequence,
        *,
        folder: str | Path | None = None,
        guard: Guard = None,
        repeat: bool = False,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn every task of a source in order, testing all of them after each.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or a sequence already read.
            folder: one checkpoint per task and the accuracy matrix are kept there; an interrupted fit goes
                on in the middle of its task, and tasks that stand there are not learned again.
            guard, repeat, progress, training: as for `update`.

        Raises:
            DataError: a fault of any task, before the first is learned; or a refused update (nothing of it
                is kept).
        """
        from wildsight.continual.runs import fit_sequence

        place = Path(folder) if folder else None
        fit_sequence(self, source, place, guard, progress, training, repeat=repeat)
        return self

    def predict(
        self,
        images: Shown | Sequence[Shown],
        *,
        task: str | None = None,
        classes: Sequence[str] | None = None,
        templates: Sequence[str] = ("a photo of a {}",),
        top: int = 5,
    ) -> list[ContinualResult]:
        """Name what pictures show.

        Args:
            images: files, PIL pictures or arrays; one or several.
            task: only the classes of this learned task; by default those of all learned tasks.
            classes: any names, also ones never trained; ``templates`` belong to them.
            templates: each with ``{}``.
            top: best answers to list, >= 1.

        Raises:
            ConfigError: nothing learned and no names given. ImageError: a picture cannot be read.
        """
        names, texts = self._candidates(task, classes, templates)
        many = as_list(images)
        if not many:
            return []
        pixels = torch.stack([torch.from_numpy(np.array(self.towers.pixels(_rgb(p)))) for p in many])
        scores = (self.towers.scale * self.towers.embed(pixels) @ texts.T).softmax(1)
        best = scores.topk(min(top, len(names)), dim=1)
        return [
            _result(picture, names, values.tolist(), rows.tolist())
            for picture, values, rows in zip(many, best.values, best.indices, strict=True)
        ]

    def _candidates(
        self, task: str | None, classes: Sequence[str] | None, templates: Sequence[str]
    ) -> tuple[list[tuple[str, str]], Tensor]:
        """(class, task) pairs and their text rows, computed once per model."""
        if classes is not None:
            groups = [("", list(classes), list(templates))]
        else:
            groups = [(t["name"], t["classes"], t["templates"]) for t in self.learned]
            groups = [g for g in groups if task in (None, g[0])]
        if not groups:
            text = f"no task called {task!r} was learned" if task else "nothing was learned yet"
            raise ConfigError(text, hint="call update first, or name classes")
        key = digest_of(groups)
        if key not in self._texts:
            prompts = [t.format(c) for _, names, forms in groups for t in forms for c in names]
            self.towers.grow(self.towers.unknown(prompts))
            rows = [self.towers.encode_prompts(names, forms).cpu() for _, names, forms in groups]
            self._texts[key] = torch.cat(rows)
        return [(c, name) for name, names, _ in groups for c in names], self._texts[key]

    def evaluate(self, source: str | Path | TaskSequence, *, scenario: str | None = None) -> Evaluation:
        """Accuracy on the test pictures of every task of a source.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or a sequence already read.
            scenario: ``task`` or ``class``; by default the source's own.

        Raises:
            DataError: the source does not fit its layout, or a task has no test picture.
        """
        sequence = source if isinstance(source, TaskSequence) else read_source(source)
        chosen = scenario or sequence.scenario
        return evaluate(self.towers, sequence.tasks, self.gallery, scenario=chosen)

    def identity(self) -> dict[str, Any]:
        """What has to be equal for a run to go on."""
        return {"base": self.base_sha, "settings": asdict(self.settings), "hyper": self.hyper}

    def save_task(self, folder: Path, identity: str) -> Path:
        """`save_pretrained` with the identity of the run that the checkpoint is part of."""
        self._run_identity = identity
        return self.save_pretrained(folder)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = dict(self.towers.clip.state_dict())
        tensors |= {f"memory.{i}": part for i, part in enumerate(self.memory)} | {"trained": self.trained}
        settings = {
            "base": {"name": self.settings.backbone, "sha256": self.base_sha},
            "settings": asdict(self.settings),
            "hyper": self.hyper,
            "words": self.towers.words,
            "learned": self.learned,
            "matrix": self.matrix,
            "guard": self.guard,
            "identity": self._run_identity,
        }
        return tensors, settings

    @classmethod
    def _restore(
        cls, tensors: dict[str, Tensor], settings: dict[str, Any], **options: Any
    ) -> ContinualLearner:
        fields = dict(settings["settings"])
        name, method = fields.pop("backbone"), fields.pop("method")
        learner = cls(method, options.get("backbone") or name, hyper=settings["hyper"], **fields)
        base = settings["base"]
        if learner.base_sha != base["sha256"]:
            raise CheckpointError(
                f"was taught from {base['name']} with SHA-256 {base['sha256'][:12]}, not this one",
                where=learner.settings.backbone,
                hint="load it with the base it began with",
            )
        learner.adopt(tensors, settings)
        return learner

    def adopt(self, tensors: dict[str, Tensor], settings: dict[str, Any]) -> None:
        """Take over a checkpoint's weights and records; words that it lacks are kept, untrained."""
        words = self.towers.words
        self.towers.renew(settings["words"])
        memory = sorted((k for k in tensors if k.startswith("memory.")), key=lambda k: int(k[7:]))
        self.memory = [tensors[k] for k in memory]
        weights = {k: v for k, v in tensors.items() if k not in memory and k != "trained"}
        self.towers.clip.load_state_dict(weights)
        self.towers.grow(words)
        self.learned, self.matrix = list(settings["learned"]), list(settings["matrix"])
        self.trained = tensors.get("trained", signatures([]))
        self.guard = dict(settings.get("guard", {}))
        self._texts = {}


def _clear(folder: Path | None) -> None:
    """Remove a finished task's training state."""
    if folder is not None:
        shutil.rmtree(folder / "state", ignore_errors=True)


def _rgb(picture: Shown) -> Image:
    if isinstance(picture, np.ndarray | bytes):
        return as_picture(picture)
    return opened(Path(picture) if isinstance(picture, str) else picture)


def _result(
    picture: Shown, names: list[tuple[str, str]], values: list[float], rows: list[int]
) -> ContinualResult:
    label, task = names[rows[0]]
    listed = tuple(names[i][0] for i in rows)
    return ContinualResult(path_of(picture), label, task, values[0], listed, tuple(values))
