"""The public object of the discovery task: names for what is known, groups for what is new, doubt apart."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from wildsight.discovery import features as feats
from wildsight.discovery.clustering import Ids, check_rows, means
from wildsight.discovery.data import CategoryData, read_source
from wildsight.discovery.estimate_k import Estimate, estimated
from wildsight.discovery.features import Advance, Frozen, ViewConfig, frozen_pictures
from wildsight.discovery.fitting import Tokens, embed, fit_head
from wildsight.discovery.grouping import (
    Verdict,
    by_size,
    fit_temperature,
    group_names,
    judged,
    renumbered,
    softmax,
    verdict,
)
from wildsight.discovery.methods import METHODS, ClusteringMethod, DiscoveryMethod
from wildsight.discovery.methods.nngcd import NNGCD, GCDHead
from wildsight.discovery.methods.sskmeans import ss_kmeans
from wildsight.discovery.partial_finetune import Trunk
from wildsight.discovery.reports import RunFacts, write_run
from wildsight.discovery.result import DiscoveryEvaluation, DiscoveryResult, Fitted, evaluated, results_of
from wildsight.discovery.settings import DiscovererSettings, K, parse_k, space_of, views_of
from wildsight.discovery.sorting import check_unedited
from wildsight.discovery.whitening import Space, SpaceConfig, fit_space
from wildsight.errors import CheckpointError, ConfigError, DataError
from wildsight.estimators import PictureEstimator
from wildsight.estimators.registry import plain_value
from wildsight.images import Picture
from wildsight.results import RunFolder
from wildsight.training import TrainConfig
from wildsight.training.progress import Meter


class CategoryDiscoverer(PictureEstimator[CategoryData, DiscoveryResult]):
    """Sorts unlabelled pictures into the classes that are known and groups that are new.

    >>> CategoryDiscoverer(k="many")
    Traceback (most recent call last):
    wildsight.errors.ConfigError: k='many'; give auto, a number of at least 1, or a range such as 10-40

    Args:
        method: ``sskmeans`` (no training, minutes), ``nngcd`` (the paper; ``nngcd-text``,
            ``nngcd-released:cub``, ... for its presets), or a peer: ``simgcd``, ``legogcd``, ``cms``,
            ``kmeans``; or the method itself, such as ``NNGCD.released("cub")``.
        backbone: frozen network that gives the features.
        k: number of groups, known classes included; ``auto``, a number or a range.
        hyper: the method's own hyper-parameters by name, e.g. ``{"n_init": 3}``.
        device: where everything runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        views: how pictures are looked at, or the number of random views.
        image_size, crop: of the views.
        space: in which frozen features are grouped.
        components, whiten: of the space.
        settings: other fields of `DiscovererSettings`.

    Raises:
        ConfigError: unknown method, hyper-parameter, setting, backbone or device.
    """

    task: ClassVar[str] = "discovery"
    methods = METHODS
    default_method = "sskmeans"
    default_backbone = "nano-conv"
    settings_type = DiscovererSettings
    noun = "discoverer"
    free_settings = frozenset({"doubt", "lr", "epochs", "batch_size", "weight_decay"})

    method: DiscoveryMethod
    settings: DiscovererSettings

    def __init__(
        self,
        method: str | DiscoveryMethod | None = None,
        backbone: Any = None,
        *,
        k: K = "auto",
        hyper: Mapping[str, Any] | DiscoveryMethod | None = None,
        device: str | int | torch.device | None = "auto",
        views: ViewConfig | Mapping[str, Any] | int | None = None,
        image_size: int | None = None,
        crop: float | None = None,
        space: SpaceConfig | Mapping[str, Any] | None = None,
        components: int | None = None,
        whiten: float | None = None,
        **settings: Any,
    ) -> None:
        nested: dict[str, Any] = {
            "views": views_of(views, image_size=image_size, crop=crop),
            "space": space_of(space, components=components, whiten=whiten),
        }
        super().__init__(method, backbone, hyper=hyper, device=device, k=parse_k(k), **nested, **settings)
        self.known: tuple[str, ...] = ()
        self.k = 0
        self.k_from = "given"
        self.temperature = 0.1
        self.space = Space(np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
        self.centres: np.ndarray | None = None
        self.head: GCDHead | None = None
        self.groups: Ids = np.empty(0, np.int64)
        self.rows: Ids = np.empty(0, np.int64)
        self._record: Fitted | None = None

    def fit(
        self,
        source: str | Path | CategoryData,
        out: str | Path | None = None,
        *,
        folder: str | Path | None = None,
        progress: bool = True,
        advance: Advance | None = None,
        again: bool = False,
        **training: Any,
    ) -> Self:
        """Learn the known classes of ``source`` and group its unlabelled pictures (transductive).

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            out: folder of the run: checkpoint, tables, contact sheets, scores and report, and the training
                state while a trained method is at work; a killed fit goes on there.
            folder: where a trained method keeps its state, in place of ``out/train``; one with another
                method, hyper-parameters, backbone, views or pictures is refused.
            progress: show progress and the time left.
            advance: called with the number of pictures whose features are done.
            again: replace a run in ``out`` whose tables were edited.
            training: fields of `TrainConfig` in place of the method's recipe; trained methods alone.

        Raises:
            DataError: a trained method without a labelled class, nothing unlabelled, or pictures that all
                look the same.
            ConfigError: K below the known classes or above the pictures there are, or edited tables in
                ``out``.
            CheckpointError: the folder holds the state of another fit.
        """
        if training and not self.method.trained:
            raise ConfigError(f"{self.method.title} trains nothing", hint="leave out the training settings")
        if out is not None and not again:
            check_unedited(Path(out))
        return self._run_fit(source, out, folder, progress, training, again=again, advance=advance)

    def _read(self, source: Any) -> CategoryData:
        return source if isinstance(source, CategoryData) else read_source(source)

    def _recipe(self) -> TrainConfig:
        return self.method.recipe()

    def _fit(
        self, data: CategoryData, config: TrainConfig, folder: Path | None, progress: bool, **options: Any
    ) -> dict[str, Any]:
        self.head = self.centres = None
        pictures = self._frozen(data, progress, options["advance"])
        data, self.rows, frozen = pictures.data, pictures.rows, pictures.vectors
        self.known, self.space = data.known, fit_space(frozen, self.settings.space)
        estimate = self._choose_k(projected := self.space(frozen), data.labels(), progress)
        check_rows(projected, data.labels(), self.k)
        if isinstance(self.method, NNGCD):
            self._train(self.method, data, frozen, config, folder, progress)
        elif isinstance(self.method, ClusteringMethod):
            self._cluster(self.method, data, projected, progress)
        embedding, projected, verdicts = self._of_fit(data, frozen, self.groups)
        record = (data, embedding, projected, frozen, verdicts, pictures.errors, estimate)
        self._record = Fitted(*record, self.names, self.settings.doubt)
        self.groups, self.not_read = verdicts.groups, [str(error) for error in pictures.errors]
        facts = {"k": self.k, "k_from": self.k_from, "not_read": len(pictures.errors)}
        return {**facts, "protocol": dict(data.protocol)}

    def _choose_k(self, rows: np.ndarray, labels: Ids, progress: bool) -> Estimate | None:
        """Set K; estimates it, in the space of the groups, where it is not given."""
        k = self.settings.k
        if isinstance(k, int):
            self.k, self.k_from = k, "given"
            return None
        low, high = k if isinstance(k, tuple) else (None, None)
        estimate = estimated(rows, labels, low, high, self.settings.seed, progress)
        self.k, self.k_from = estimate.k, "estimated"
        return estimate

    def _frozen(self, data: CategoryData, progress: bool, advance: Advance | None = None) -> Frozen:
        """The readable pictures and their unit vectors."""
        if not data.known and self.method.trained:
            hint = "put pictures in labelled/<class>, or group them by sskmeans"
            raise DataError(f"{self.method.title} needs a labelled class", where=data.root, hint=hint)
        size = self.settings.views.image_size
        frozen = frozen_pictures(self.backbone, data, size, progress=progress, advance=advance)
        check_rows(frozen.vectors, frozen.data.labels(), max(len(data.known), 1))
        return frozen

    def estimate(
        self,
        source: str | Path | CategoryData,
        *,
        low: int | None = None,
        high: int | None = None,
        progress: bool = True,
        advance: Advance | None = None,
    ) -> Estimate:
        """The number of classes in ``source`` as `fit` with ``k="auto"`` finds it; args as there and of
        `estimate_k`."""
        frozen = self._frozen(self._read(source), progress, advance)
        rows = fit_space(frozen.vectors, self.settings.space)(frozen.vectors)
        return estimated(rows, frozen.data.labels(), low, high, self.settings.seed, progress)

    def _cluster(
        self, method: ClusteringMethod, data: CategoryData, rows: np.ndarray, progress: bool
    ) -> None:
        """Group frozen features."""
        labels = data.labels()
        with Meter("grouping", method.runs, enabled=progress) as meter:
            clustering = method.group(rows, labels, self.k, seed=self.settings.seed, progress=meter.add)
        clustering = renumbered(clustering, labels, len(self.known))
        self.centres, self.groups = clustering.centres, clustering.groups
        held = labels if self.known else self.groups  # where nothing is labelled, the groups are all there is
        self.temperature = fit_temperature(rows, held, clustering)

    def _train(
        self,
        method: NNGCD,
        data: CategoryData,
        frozen: np.ndarray,
        config: TrainConfig,
        folder: Path | None,
        progress: bool,
    ) -> None:
        """Train a head on cached tokens, then number its new groups by size."""
        tokens = self.tokens(data)
        torch.manual_seed(self.settings.seed)
        head = self.new_head(method)
        if method.start == "centres":
            rows = self.space(frozen)
            start = ss_kmeans(rows, tokens.labels, self.k, seed=self.settings.seed)
            ends = frozen if Trunk(self.backbone).transformer else rows
            head.start_at(torch.from_numpy(means(ends, start.groups, self.k)[0]))
        depends = self.depends([data.samples, data.known], data.root, k=self.k)
        self.history = fit_head(
            head, tokens, config, folder=folder, progress=progress, extra=depends, device=self.device
        )
        logits = embed(head, tokens)[2]
        head.renumber(by_size(logits[tokens.labels < 0].argmax(1), len(self.known), self.k))
        self.head, self.temperature = head, method.tau

    def new_head(self, method: NNGCD) -> GCDHead:
        """A fresh head on the backbone and the space."""
        mean, basis = torch.from_numpy(self.space.mean), torch.from_numpy(self.space.basis)
        tail = Trunk(self.backbone).tail(mean, basis)
        return GCDHead(tail, tail.width, self.k, method, len(self.known)).to(self.device)

    def tokens(self, data: CategoryData, whole: bool = False) -> Tokens:
        """Cached tokens; of the whole pictures alone where no training follows."""
        files = [s.image for s in data.samples]
        views = replace(self.settings.views, views=0) if whole else self.settings.views
        cached = feats.tokens_of_files(self.backbone, files, views)
        return Tokens(cached.array, np.arange(len(files)), data.labels())

    def _of_fit(
        self, data: CategoryData, frozen: np.ndarray, groups: Ids, whole: bool = False
    ) -> tuple[np.ndarray, np.ndarray, Verdict]:
        """Embedding and projection of pictures that were fitted into ``groups``, and the verdicts on them."""
        if self.head is not None:
            z, u, logits = embed(self.head, self.tokens(data, whole))
            return feats.unit(z), u, self._by_logits(logits)
        members = (groups, np.bincount(self.groups, minlength=self.k))
        rows = self.space(frozen)
        return rows, rows, judged(rows, self._need_centres(), self.temperature, len(self.known), members)

    def _by_logits(self, logits: np.ndarray) -> Verdict:
        return verdict(softmax(logits.astype(np.float64) / self.temperature), None, len(self.known))

    @property
    def names(self) -> list[str]:
        """Names of the groups: the known classes, then ``new_000``, ``new_001``, ... by falling size."""
        return group_names(self.known, self.k)

    def results(self) -> list[DiscoveryResult]:
        """One result per unlabelled picture of the fit, in its order."""
        return self.need_fit().results()

    def need_fit(self) -> Fitted:
        """What the fit saw.

        Raises:
            ConfigError: it was not in this process.
        """
        if self._record is None:
            raise ConfigError("the pictures of the fit are not in memory", hint="call fit in this process")
        return self._record

    def write_run(self, out: str | Path, title: str = "Category discovery") -> Path:
        """Write the folder of a run from the fit of this process: tables, contact sheets, scores, report.

        Args:
            out: the folder; `wildsight discovery apply` makes folders of pictures from it.
            title: heading of the report.

        Returns:
            The report.

        Raises:
            ConfigError: not fitted in this process. DataError: the folder cannot be written.
        """
        record = self.need_fit()
        truth = record.data.truths()[record.data.labels() < 0]
        facts = RunFacts(
            settings=self.settings,
            hyper={name: plain_value(value) for name, value in asdict(self.method).items()},
            fitted_on=self.fitted_on,
            trained=self.method.trained,
            evaluation=self._scores(record.data, False) if (truth >= 0).any() else None,
        )
        return write_run(record, facts, Path(out), title)

    def _leave(self, run: RunFolder) -> None:
        self.save_pretrained(run.checkpoint)
        self.write_run(run.path)
        shutil.rmtree(run.path / "train" / "state", ignore_errors=True)  # nothing is left to go on with

    def predict(
        self,
        pictures: Picture | Sequence[Picture] = (),
        *,
        batch_size: int | None = None,
        images: Picture | Sequence[Picture] | None = None,
    ) -> list[DiscoveryResult]:
        """Put new pictures into the groups there are (inductive).

        Args:
            pictures: files, PIL pictures, arrays ([H, W] or [H, W, 3]) or encoded bytes; one or several.
            batch_size: pictures at a time.
            images: the old name of ``pictures``.

        Raises:
            ImageError: a picture cannot be read.
            ConfigError: not fitted.
        """
        return super().predict(pictures if images is None else images, batch_size=batch_size)

    def _shrunk(self, picture: Image, **options: Any) -> Image:
        return self.backbone.resized(picture, self.settings.views.image_size)

    def _predict(
        self, pictures: Sequence[Image], files: Sequence[Path | None], **options: Any
    ) -> list[DiscoveryResult]:
        return results_of(files, self._verdict(pictures), self.names, self.known, self.settings.doubt)

    @torch.no_grad()
    def _verdict(self, pictures: Sequence[Image]) -> Verdict:
        size = self.settings.views.image_size
        if self.head is not None:
            tokens = feats.tokens_of_images(self.backbone, pictures, size).half().float()
            z = self.head.eval()(tokens.to(self.device)).z
            return self._by_logits(self.head.teacher_logits(z).cpu().numpy())
        rows = self.space(feats.vectors_of_images(self.backbone, pictures, size))
        return judged(rows, self._need_centres(), self.temperature, len(self.known))

    def _evaluate(
        self, data: CategoryData, split: str, progress: bool, **options: Any
    ) -> DiscoveryEvaluation:
        """The unlabelled pictures whose class is known for scoring. On the source of the fit, its groups are
        scored (transductive); on another, its pictures are predicted (inductive)."""
        if split != "test":
            raise ConfigError(f"split={split!r} is unknown", hint="use test: the unlabelled pictures")
        if data.known != self.known:
            raise DataError(
                f"its known classes are not the {len(self.known)} fitted ones", hint="fit on it first"
            )
        return self._scores(data, progress)

    def _scores(self, data: CategoryData, progress: bool) -> DiscoveryEvaluation:
        fitted_on = self.fitted_on.get("protocol", {})
        same = data.protocol["hash"] == fitted_on.get("hash")
        groups, only = np.full(len(data.samples), -1), None
        if same:
            groups[self.rows] = self.groups
            only = (groups >= 0, "could not be read when the groups were made")
        size = self.settings.views.image_size
        pictures = frozen_pictures(self.backbone, data, size, progress=progress, only=only)
        if self.head is None and not same:
            rows = self.space(pictures.vectors)
            verdicts = judged(rows, self._need_centres(), self.temperature, len(self.known))
        else:
            whole = self._record is None
            verdicts = self._of_fit(pictures.data, pictures.vectors, groups[pictures.rows], whole)[2]
        facts = {"k": self.k, "k_from": self.k_from, "transductive": same}
        doubtful, errors = verdicts.confidence < self.settings.doubt, [str(e) for e in pictures.errors]
        return evaluated(pictures.data, verdicts.groups, doubtful, self.names, facts, errors)

    def _need_centres(self) -> np.ndarray:
        if self.centres is None:
            raise ConfigError("the discoverer is not fitted", hint="call fit or from_pretrained")
        return self.centres

    def _to(self, device: torch.device) -> None:
        if self.head is not None:
            self.head.to(device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"groups": torch.from_numpy(self.groups), "rows": torch.from_numpy(self.rows)}
        tensors |= {f"space.{k}": torch.from_numpy(v) for k, v in vars(self.space).items()}
        if self.centres is not None:
            tensors["centres"] = torch.from_numpy(self.centres)
        if self.head is not None:
            tensors |= {f"head.{k}": v for k, v in self.head.state_dict().items()}
        facts = {"known": list(self.known), "k": self.k, "k_from": self.k_from}
        return tensors, {**facts, "temperature": self.temperature}

    def _load_state(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        self.known, self.k, self.k_from = tuple(config["known"]), config["k"], config["k_from"]
        self.temperature = config["temperature"]
        self.groups = tensors["groups"].numpy()
        if "rows" not in tensors and self.fitted_on["not_read"]:
            raise CheckpointError("does not say which pictures could not be read", hint="fit again")
        self.rows = tensors["rows"].numpy() if "rows" in tensors else np.arange(len(self.groups))
        self.space = Space(tensors["space.mean"].numpy(), tensors["space.basis"].numpy())
        if "centres" in tensors:
            self.centres = tensors["centres"].numpy()
        state = {k.removeprefix("head."): v for k, v in tensors.items() if k.startswith("head.")}
        if state and isinstance(self.method, NNGCD):
            self.head = self.new_head(self.method)
            self.head.load_state_dict(state)
            self.head.eval()


Evaluation = DiscoveryEvaluation
"""The old name of the evaluation."""

__all__ = ["CategoryDiscoverer", "DiscoveryEvaluation", "DiscoveryResult", "Evaluation"]
