"""The public object of the continual task: one CLIP that keeps learning tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from wildsight.backbones import Backbone
from wildsight.continual.data import read_source
from wildsight.continual.evaluation import Gallery, evaluate
from wildsight.continual.first_model import FirstModel
from wildsight.continual.guard import Guard, check_tasks, key_of, measured, probes_of, refused, signatures
from wildsight.continual.methods import METHODS, ContinualMethod
from wildsight.continual.methods.icarl import HERDED, remembered
from wildsight.continual.metrics import matrix_scores
from wildsight.continual.pictures import Open, Pictures
from wildsight.continual.reports import RunFacts, write_updates
from wildsight.continual.result import (
    ContinualEvaluation,
    ContinualResult,
    Update,
    candidate_groups,
    results_of,
)
from wildsight.continual.schedule import usual_schedule
from wildsight.continual.sequence import Check, SequenceRun
from wildsight.continual.settings import SCENARIOS, LearnerSettings
from wildsight.continual.tasks import TEMPLATE, TaskData, TaskSequence
from wildsight.continual.towers import Towers
from wildsight.continual.training import TaskTraining, clear_state
from wildsight.errors import ConfigError
from wildsight.estimators import PictureEstimator
from wildsight.files import digest_of, load_checkpoint
from wildsight.images import Picture, load_image
from wildsight.results import RunFolder
from wildsight.training import TrainConfig


class ContinualLearner(PictureEstimator[TaskSequence, ContinualResult]):
    """Teaches one CLIP new tasks and keeps what it knew.

    >>> ContinualLearner(method="nosuch")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    wildsight.errors.ConfigError: unknown method 'nosuch'; use one of mulki, zeroshot, ...

    Args:
        method: ``mulki`` (the paper), a peer (see `METHODS`) or a rung of the ablation (see `ABLATIONS`); or
            the method itself, such as ``MulKI(weights="uniform")``.
        backbone: the first model: a CLIP by hub id, local folder, ``nano-clip``, or already loaded.
        hyper: the method's own hyper-parameters by name, such as ``{"weights": "uniform"}``.
        device: where everything runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        settings: other fields of `LearnerSettings`.

    Attributes:
        learned: one entry per learned task: ``name``, ``classes``, ``templates``, ``digest``.
        matrix: one entry per learned task: ``task`` and ``accuracy`` (task -> percent).
        updates: what the last `fit` did, one per task.
        trained: `signatures` of every picture that was trained on.
        guard: probe task -> its accuracy when it was first measured.

    Raises:
        ConfigError: unknown method, hyper-parameter, setting, backbone or device.
        UnsupportedModelError: the backbone is no CLIP.
    """

    task: ClassVar[str] = "continual"
    methods = METHODS
    default_method = "mulki"
    default_backbone = "nano-clip"
    settings_type = LearnerSettings
    noun, grows = "learner", True
    weights_name = "model"

    method: ContinualMethod
    settings: LearnerSettings
    backbone: FirstModel

    def __init__(
        self,
        method: str | ContinualMethod | None = None,
        backbone: str | Path | Backbone | FirstModel | None = None,
        *,
        hyper: Mapping[str, Any] | ContinualMethod | None = None,
        device: str | int | torch.device | None = "auto",
        **settings: Any,
    ) -> None:
        super().__init__(method, backbone, hyper=hyper, device=device, **settings)
        self.towers = self.first_model()
        self.backbone.release()
        self.learned: list[dict[str, Any]] = []
        self.matrix: list[dict[str, Any]] = []
        self.updates: list[Update] = []
        self.memory: list[Tensor] = []
        self.trained = signatures([])
        self.guard: dict[str, float] = {}
        self.gallery = Gallery()
        self._texts: dict[str, Tensor] = {}
        self._run_identity = ""

    def _load_backbone(self, backbone: Any) -> FirstModel:
        return FirstModel.of(backbone, self.device)

    @property
    def fitted(self) -> bool:
        """Always: the first model answers too."""
        return True

    def _read(self, source: Any) -> TaskSequence:
        return source if isinstance(source, TaskSequence) else read_source(source)

    def _recipe(self) -> TrainConfig:
        return usual_schedule(sum(w.numel() for w in self.towers.parameters()))

    def first_model(self) -> Towers:
        """The first model, read again by its name; CheckpointError where its files have changed."""
        loaded = self.backbone.load(self.device)
        return Towers(loaded, self.settings.image_size, self.settings.resize).to(self.device).eval()

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
        """Learn one task, and serve the new model only if the guard set keeps its accuracy.

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
            ConfigError: an unknown training setting or one outside its range.
        """
        self.training_config(training)
        check_tasks([task], probes := probes_of(guard), tests, self.learned, self.trained, repeat=repeat)
        grown = self.towers.copied()
        words = [t.format(c) for one in (task, *tests) for t in one.templates for c in one.classes]
        grown.grow(grown.unknown(words))
        grown.encode_prompts(task.classes, task.templates[:1])
        before = {"base": self.backbone.sha, "tasks before": digest_of([t["digest"] for t in self.learned])}
        first = not self.learned
        how = TaskTraining(self.method, self.settings, first, self.first_model, self.memory, before)
        candidate, facts = how.train(grown, task, folder, progress, open_file, training)
        guarded, began = measured(self.towers, candidate, probes, self.gallery, self.guard)
        reason = refused(guarded, began, self.settings.max_drop)
        facts |= {"guard": guarded, "first": began}
        if reason:
            clear_state(folder)
            return Update(task.name, False, reason, **facts)
        accuracy = self._tested(candidate, tests)
        self.guard = {**{key_of(p): began[p.name] for p in probes}, **self.guard}
        self._serve(candidate, task, accuracy, open_file)
        clear_state(folder)
        return Update(task.name, True, accuracy=accuracy, **facts)

    def _tested(self, towers: Towers, tests: Sequence[TaskData]) -> dict[str, float]:
        names = [t.name for t in tests]
        if not self.method.trained and self.matrix and list(self.matrix[-1]["accuracy"]) == names:
            return dict(self.matrix[-1]["accuracy"])  # the same model, the same pictures
        return dict(evaluate(towers, tests, self.gallery).accuracy) if tests else {}

    def _serve(self, towers: Towers, task: TaskData, accuracy: dict[str, float], open_file: Open) -> None:
        """Take the candidate; from here on it is the model."""
        if self.method.memory_size:
            pictures = Pictures(task.train[:HERDED], towers.pixels, open_file)
            self.memory = remembered(self.memory, pictures, towers.embed, self.method.memory_size)
        entry = {"name": task.name, "classes": list(task.classes), "templates": list(task.templates)}
        self.learned = [*self.learned, entry | {"digest": task.fingerprint()}]
        if accuracy:
            self.matrix.append({"task": task.name, "accuracy": accuracy})
        self.trained = torch.cat([self.trained, signatures([p for p, _ in task.train])]).unique()
        self.towers, self._texts = towers, {}

    def fit(
        self,
        source: str | Path | TaskSequence,
        out: str | Path | None = None,
        *,
        folder: str | Path | None = None,
        guard: Guard = None,
        repeat: bool = False,
        strict: bool = True,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Learn every task of a source in order, testing all of them after each; see ``updates``.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or a sequence already read.
            out: folder of the run: checkpoints, accuracy matrix, scores and report.
            folder: keep one checkpoint per task and the accuracy matrix here, and write nothing else; ``out``
                where not given. An interrupted fit goes on in the middle of its task, and tasks that were
                learned there are not learned again.
            guard, repeat, progress, training: as for `update`.
            strict: raise where the guard set refuses a task; False ends the sequence there, and ``updates``
                says why.

        Raises:
            DataError: a fault of any task, before the first is learned; or a refused update (nothing of it
                is kept).
            CheckpointError: the folder holds a run with other settings.
        """
        options = {"guard": guard, "repeat": repeat, "strict": strict, "given": training}
        return self._run_fit(source, out, out if folder is None else folder, progress, training, **options)

    def _fit(
        self, data: TaskSequence, config: TrainConfig, folder: Path | None, progress: bool, **options: Any
    ) -> dict[str, Any]:
        probes, training = probes_of(options["guard"]), options["given"]
        again = [t.name for t in data.tasks] if folder is not None else []  # learned there: no repetition
        learned = [t for t in self.learned if t["name"] not in again]
        check_tasks(data.tasks, probes, data.tasks, learned, self.trained, repeat=options["repeat"])
        prompts = [t.format(c) for task in data.tasks for t in task.templates for c in task.classes]
        self.towers.grow(self.towers.unknown(prompts))  # all words now: the same order on every run
        tests = data.tasks if data.scenario == "task" else ()
        same: dict[str, Any] = {"guard": probes, "tests": tests, "progress": progress, "repeat": True}
        identity = {"base": self.backbone.sha, "settings": asdict(self.settings), "hyper": self.hyper}
        run = SequenceRun(
            data,
            update=lambda task, state: self.update(task, folder=state, **same, **training),
            save=lambda place: self._save_task(place, run.identity),
            load=self._load_task,
            measure=lambda tasks, scenario: evaluate(self.towers, tasks, self.gallery, scenario=scenario),
            matrix=self.matrix,
            identity=digest_of([identity, dict(training)]),
            folder=folder,
            strict=options["strict"],
        )
        self.updates = run.updates
        run.learn()
        names = [t["name"] for t in self.learned]
        return {"tasks": names, "scenario": data.scenario, "protocol": dict(data.protocol)}

    def _leave(self, run: RunFolder) -> None:
        if self.learned:
            self.save_pretrained(run.checkpoint)
        about = {name: self.fitted_on[name] for name in ("source", "protocol", "scenario")}
        self.write_run(run.path, self.updates, **about)

    def write_run(
        self,
        out: str | Path,
        updates: Sequence[Update],
        source: str,
        protocol: Mapping[str, Any] | None = None,
        scenario: str = "task",
    ) -> Path:
        """Write ``scores.json``, ``results.csv`` and ``report.html`` of some updates.

        Args:
            out: the folder.
            updates: what was done.
            source, protocol, scenario: of the tasks.

        Returns:
            The report.

        Raises:
            DataError: the folder cannot be written.
        """
        facts = {"source": source, "method": self.settings.method, "scenario": scenario, **(protocol or {})}
        base = {"name": self.settings.backbone, "sha256": self.backbone.sha}
        settings = {**asdict(self.settings), **self.hyper}
        return write_updates(RunFacts(self.matrix, updates, scenario, settings, base, facts), Path(out))

    def scores(self, scenario: str = "task") -> dict[str, float]:
        """Transfer, Avg, Last, forgetting and backward transfer of the matrix; see `matrix_scores`."""
        return matrix_scores(self.matrix, scenario)

    def predict(
        self,
        pictures: Picture | Sequence[Picture] = (),
        *,
        task: str | None = None,
        classes: Sequence[str] | None = None,
        templates: Sequence[str] = (TEMPLATE,),
        top: int = 5,
        batch_size: int | None = None,
        images: Picture | Sequence[Picture] | None = None,
    ) -> list[ContinualResult]:
        """Name what pictures show.

        Args:
            pictures: files, PIL pictures, arrays or encoded bytes; one or several.
            task: only the classes of this learned task; by default those of all learned tasks.
            classes: any names, also ones never trained; ``templates`` belong to them.
            templates: each with ``{}``.
            top: best answers to list, >= 1.
            batch_size: pictures at a time.
            images: the old name of ``pictures``.

        Raises:
            ConfigError: nothing learned and no names given. ImageError: a picture cannot be read.
        """
        self._candidates(task, classes, templates)  # refused before a picture is read
        asked = {"task": task, "classes": classes, "templates": templates, "top": top}
        size = 128 if batch_size is None else batch_size
        return super().predict(pictures if images is None else images, batch_size=size, **asked)

    def _shrunk(self, picture: Image, **options: Any) -> Tensor:
        return torch.from_numpy(np.array(self.towers.pixels(picture)))

    def _predict(
        self,
        pictures: Sequence[Tensor],
        files: Sequence[Path | None],
        *,
        task: str | None = None,
        classes: Sequence[str] | None = None,
        templates: Sequence[str] = (TEMPLATE,),
        top: int = 5,
    ) -> list[ContinualResult]:
        names, texts = self._candidates(task, classes, templates)
        scores = (self.towers.scale * self.towers.embed(torch.stack(list(pictures))) @ texts.T).softmax(1)
        return results_of(files, names, scores, top)

    def _candidates(
        self, task: str | None, classes: Sequence[str] | None, templates: Sequence[str]
    ) -> tuple[list[tuple[str, str]], Tensor]:
        """(class, task) pairs and their text rows, computed once per model."""
        groups = candidate_groups(self.learned, task, classes, templates)
        key = digest_of(groups)
        if key not in self._texts:
            prompts = [t.format(c) for _, names, forms in groups for t in forms for c in names]
            self.towers.grow(self.towers.unknown(prompts))
            rows = [self.towers.encode_prompts(names, forms).cpu() for _, names, forms in groups]
            self._texts[key] = torch.cat(rows)
        return [(c, name) for name, names, _ in groups for c in names], self._texts[key]

    def evaluate(
        self,
        source: str | Path | TaskSequence,
        *,
        split: str = "test",
        scenario: str | None = None,
        progress: bool = True,
    ) -> ContinualEvaluation:
        """Accuracy on the test pictures of every task of a source.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or a sequence already read.
            split: ``test`` alone.
            scenario: ``task`` or ``class``; by default the source's own.
            progress: show progress and the time left.

        Raises:
            DataError: the source does not fit its layout, or a task has no test picture.
            ConfigError: an unknown split or scenario.
        """
        self.check_fitted()
        return self._evaluate(self._read(source), split, progress, scenario=scenario)

    def _evaluate(
        self, data: TaskSequence, split: str, progress: bool, *, scenario: str | None = None
    ) -> ContinualEvaluation:
        if split != "test":
            raise ConfigError(f"split={split!r} is unknown", hint="use test")
        if scenario not in (None, *SCENARIOS):
            raise ConfigError(f"scenario={scenario!r} is unknown", hint=f"use {' or '.join(SCENARIOS)}")
        chosen, tasks = scenario or data.scenario, data.tasks
        scores = evaluate(self.towers, tasks, self.gallery, scenario=chosen, progress=progress)
        learned = ", ".join(t["name"] for t in self.learned) or "nothing"
        protocol = {**data.protocol, "scenario": chosen, "learned": learned}
        return replace(scores, protocol={**protocol, "hash": digest_of(protocol)})

    def _save_task(self, folder: Path, identity: str) -> None:
        """`save_pretrained` with the identity of the run that the checkpoint is part of."""
        self._run_identity = identity
        self.save_pretrained(folder)

    def _load_task(self, folder: Path, check: Check) -> None:
        """Take over a task's checkpoint; words that it lacks are kept, untrained."""
        tensors, config = load_checkpoint(folder, name=self.weights_name)
        check(config)
        words = self.towers.words
        self._load_state(tensors, config)
        self.towers.grow(words)

    def _to(self, device: torch.device) -> None:
        self.towers.to(device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = dict(self.towers.clip.state_dict())
        tensors |= {f"memory.{i}": part for i, part in enumerate(self.memory)} | {"trained": self.trained}
        return tensors, {
            "base": {"name": self.settings.backbone, "sha256": self.backbone.sha},
            "words": self.towers.words,
            "learned": self.learned,
            "matrix": self.matrix,
            "guard": self.guard,
            "identity": self._run_identity,
        }

    @classmethod
    def _restore(cls, tensors: dict[str, Tensor], config: dict[str, Any], **options: Any) -> Self:
        before = {"backbone_sha256": config["base"]["sha256"], "fitted_on": {}}  # not written until 0.1
        return super()._restore(tensors, {**before, **config}, **options)

    def _load_state(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        self.towers.renew(config["words"])
        memory = sorted((k for k in tensors if k.startswith("memory.")), key=lambda k: int(k[7:]))
        self.memory = [tensors[k] for k in memory]
        weights = {k: v for k, v in tensors.items() if k not in memory and k != "trained"}
        self.towers.clip.load_state_dict(weights)
        self.learned, self.matrix[:] = list(config["learned"]), list(config["matrix"])
        self.trained = tensors.get("trained", signatures([]))
        self.guard = dict(config.get("guard", {}))
        self._texts = {}
