"""The public object of the discovery task: names for what is known, groups for what is new, doubt apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from wildsight.backbones import Backbone, load_backbone
from wildsight.discovery import features as feats
from wildsight.discovery.cms import CMSConfig
from wildsight.discovery.data import CategoryData, read_source, readable
from wildsight.discovery.estimate_k import Estimate, estimate_k
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
from wildsight.discovery.kmeans import KMeansConfig
from wildsight.discovery.methods import method as find_method
from wildsight.discovery.metrics import doubt_scores, score
from wildsight.discovery.nngcd import GCDHead, NNGCDConfig
from wildsight.discovery.result import DiscoveryResult, Evaluation, Fitted, results_of
from wildsight.discovery.saving import identity_of, made_with, plain, put_state, state_of
from wildsight.discovery.settings import DiscovererSettings, K, parse_k
from wildsight.discovery.space import Space, fit_space
from wildsight.discovery.sskmeans import Ids, SSKMeansConfig, check_rows, means, ss_kmeans
from wildsight.discovery.trunk import Trunk
from wildsight.errors import CheckpointError, ConfigError, DataError, WildSightError
from wildsight.estimators.legacy import SavedObject
from wildsight.images import Picture, as_list, as_picture, path_of
from wildsight.training import History
from wildsight.training.progress import Meter

BATCH = 16
TRIED = 20
"""About how many K an estimate tries."""


class CategoryDiscoverer(SavedObject):
    """Sorts unlabelled pictures into the classes that are known and groups that are new.

    >>> CategoryDiscoverer(k="many")
    Traceback (most recent call last):
    wildsight.errors.ConfigError: k='many'; give auto, a number of at least 1, or a range such as 10-40

    Args:
        method: ``sskmeans`` (no training, minutes), ``nngcd`` (the paper), or a peer: ``simgcd``, ``cms``,
            ``kmeans``.
        backbone: frozen network that gives the features.
        k: number of groups, known classes included; ``auto``, a number or a range.
        hyper: the method's own hyper-parameters by name, e.g. ``{"n_init": 3}``, or its dataclass, e.g.
            ``NNGCDConfig.released("cub")``.
        settings: other fields of `DiscovererSettings`.

    Raises:
        ConfigError: unknown method, backbone or setting.
    """

    task: ClassVar[str] = "discovery"

    def __init__(
        self,
        method: str = "sskmeans",
        backbone: str | Backbone = "nano-conv",
        *,
        k: K = "auto",
        hyper: Mapping[str, Any] | NNGCDConfig | SSKMeansConfig | CMSConfig | KMeansConfig | None = None,
        **settings: Any,
    ) -> None:
        self.method = find_method(method)
        self.config = self.method.settings(hyper or {})
        self.hyper = plain(hyper or {})
        try:
            self.settings = DiscovererSettings(method, str(backbone), parse_k(k), **settings)
        except TypeError as error:
            raise ConfigError(str(error), hint="see DiscovererSettings") from error
        self.backbone = load_backbone(backbone) if isinstance(backbone, str) else backbone
        self.known: tuple[str, ...] = ()
        self.k = 0
        self.k_from = "given"
        self.temperature = 0.1
        self.space = Space(np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
        self.centres: np.ndarray | None = None
        self.head: GCDHead | None = None
        self.groups: Ids = np.empty(0, np.int64)
        self.kept: Ids = np.empty(0, np.int64)
        self.fitted_on: dict[str, Any] = {}
        self.fitted: Fitted | None = None
        self.history: History | None = None

    def fit(
        self,
        source: str | Path | CategoryData,
        *,
        folder: Path | None = None,
        progress: bool = True,
        advance: Callable[[int], Any] | None = None,
        **training: Any,
    ) -> Self:
        """Learn the known classes of ``source`` and group its unlabelled pictures (transductive).

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            folder: where a trained method keeps its state; a killed fit with the same folder goes on there,
                one with another method, hyper-parameters, backbone, views or pictures is refused.
            progress: show progress and the time left of the training.
            advance: called with the number of pictures whose features are done.
            training: fields of `TrainConfig` in place of the method's recipe; trained methods alone.

        Raises:
            DataError: no labelled class, nothing unlabelled, or pictures that all look the same.
            ConfigError: K below the known classes or above the pictures there are.
            CheckpointError: ``folder`` holds the state of another fit.
        """
        if training and not self.method.trained:
            raise ConfigError(f"{self.method.title} trains nothing", hint="leave out the training settings")
        data, self.kept, frozen, errors = self._frozen(source, advance)
        self.known, self.space = data.known, fit_space(frozen, self.settings.space)
        rows_there = self.space(frozen)
        estimate = self._choose_k(rows_there, data.labels(), progress)
        check_rows(rows_there, data.labels(), self.k)
        if self.method.trained:
            self._train(data, frozen, folder, progress, training)
        else:
            self._cluster(data, rows_there, progress)
        embedding, projected, found = self._seen(data, frozen, self.groups)
        self.fitted = Fitted(data, embedding, projected, frozen, found, errors, estimate)
        self.groups = found.groups
        self.fitted_on = {
            "source": data.name,
            "k": self.k,
            "k_from": self.k_from,
            "not_read": len(errors),
            "protocol": dict(data.protocol),
        }
        return self

    def _frozen(
        self, source: str | Path | CategoryData, advance: Callable[[int], Any] | None
    ) -> tuple[CategoryData, Ids, np.ndarray, list[WildSightError]]:
        """The readable pictures, their rows among all, their unit vectors, and what could not be read."""
        data = source if isinstance(source, CategoryData) else read_source(source)
        if not data.known:
            raise DataError("no labelled class", where=data.root, hint="put pictures in labelled/<class>")
        size = self.settings.views.image_size
        cached = feats.vectors_of_files(self.backbone, [s.image for s in data.samples], size, advance)
        data, rows = readable(data, cached.ok)
        frozen = feats.unit(cached.array[rows])
        check_rows(frozen, data.labels(), len(data.known))
        return data, rows, frozen, cached.errors

    def estimate(
        self,
        source: str | Path | CategoryData,
        *,
        low: int | None = None,
        high: int | None = None,
        progress: bool = True,
        advance: Callable[[int], Any] | None = None,
    ) -> Estimate:
        """The number of classes in ``source`` as `fit` with ``k="auto"`` finds it; args as there and of
        `estimate_k`."""
        data, _, frozen, _ = self._frozen(source, advance)
        rows = fit_space(frozen, self.settings.space)(frozen)
        return self._estimated(rows, data.labels(), low, high, progress)

    def _estimated(
        self, rows: np.ndarray, labels: Ids, low: int | None, high: int | None, progress: bool
    ) -> Estimate:
        done = itertools.count(1)
        with Meter("how many classes", TRIED, enabled=progress) as meter:
            say = lambda _: meter.update(next(done))  # noqa: E731
            return estimate_k(rows, labels, low=low, high=high, seed=self.settings.seed, progress=say)

    def _choose_k(self, rows: np.ndarray, labels: Ids, progress: bool) -> Estimate | None:
        """Set K; estimates it, in the space of the groups, where it is not given."""
        k = self.settings.k
        if isinstance(k, int):
            self.k, self.k_from = k, "given"
            return None
        low, high = k if isinstance(k, tuple) else (None, None)
        estimate = self._estimated(rows, labels, low, high, progress)
        self.k, self.k_from = estimate.k, "estimated"
        return estimate

    def _cluster(self, data: CategoryData, rows: np.ndarray, progress: bool) -> None:
        """Group frozen features."""
        labels, group = data.labels(), self.method.group
        if group is None:
            raise ConfigError(f"{self.method.title} is trained", hint="call fit")
        seed, done = self.settings.seed, itertools.count(1)
        with Meter("grouping", getattr(self.config, "n_init", 1), enabled=progress) as meter:
            say = lambda _: meter.update(next(done))  # noqa: E731
            found = group(rows, labels, self.k, self.config, seed=seed, progress=say)
        found = renumbered(found, labels, len(self.known))
        self.centres, self.groups = found.centres, found.groups
        self.temperature = fit_temperature(rows, labels, found)

    def _train(
        self,
        data: CategoryData,
        frozen: np.ndarray,
        folder: Path | None,
        progress: bool,
        training: Mapping[str, Any],
    ) -> None:
        """Train a head on cached tokens, then number its new groups by size."""
        tokens = self.tokens(data)
        torch.manual_seed(self.settings.seed)
        head = self.new_head()
        if self.config.start == "centres":
            rows = self.space(frozen)
            start = ss_kmeans(rows, tokens.labels, self.k, seed=self.settings.seed)
            own = frozen if Trunk(self.backbone).transformer else rows
            head.start_at(torch.from_numpy(means(own, start.groups, self.k)[0]))
        self.history = fit_head(
            head,
            tokens,
            seed=self.settings.seed,
            folder=folder,
            progress=progress,
            extra=identity_of(self, data),
            **training,
        )
        logits = embed(head, tokens)[2]
        free = tokens.labels < 0
        place = torch.from_numpy(by_size(logits[free].argmax(1), len(self.known), self.k))
        for weights in (head.prototypes.data, head.teacher):
            weights[place] = weights.clone()
        self.head, self.temperature = head, self.config.tau

    def new_head(self) -> GCDHead:
        """A fresh head on the backbone and the space."""
        mean, basis = torch.from_numpy(self.space.mean), torch.from_numpy(self.space.basis)
        tail = Trunk(self.backbone).tail(mean, basis)
        return GCDHead(tail, tail.width, self.k, self.config)

    def tokens(self, data: CategoryData, whole: bool = False) -> Tokens:
        """Cached tokens; of the whole pictures alone where no training follows."""
        files = [s.image for s in data.samples]
        views = replace(self.settings.views, views=0) if whole else self.settings.views
        cached = feats.tokens_of_files(self.backbone, files, views)
        return Tokens(cached.array, np.arange(len(files)), data.labels())

    def _seen(
        self, data: CategoryData, frozen: np.ndarray, groups: Ids, whole: bool = False
    ) -> tuple[np.ndarray, np.ndarray, Verdict]:
        """Embedding and projection of pictures that were fitted into ``groups``, and the verdicts on them."""
        if self.head is not None:
            z, u, logits = embed(self.head, self.tokens(data, whole))
            return feats.unit(z), u, self._by_logits(logits)
        seen = (groups, np.bincount(self.groups, minlength=self.k))
        rows = self.space(frozen)
        found = judged(rows, self._need_centres(), self.temperature, len(self.known), seen)
        return rows, rows, found

    def _by_logits(self, logits: np.ndarray) -> Verdict:
        return verdict(softmax(logits.astype(np.float64) / self.temperature), None, len(self.known))

    @property
    def names(self) -> list[str]:
        """Names of the groups: the known classes, then ``new_000``, ``new_001``, ... by falling size."""
        return group_names(self.known, self.k)

    def _results(self, files: Sequence[Path | None], found: Verdict) -> list[DiscoveryResult]:
        return results_of(files, found, self.names, self.known, self.settings.doubt)

    def results(self) -> list[DiscoveryResult]:
        """One result per unlabelled picture of the fit, in its order."""
        fitted = self.need_fit()
        free = np.flatnonzero(fitted.data.labels() < 0)
        chosen = Verdict(*(v[free] for v in vars(fitted.verdict).values()))
        return self._results([s.image for s in fitted.data.unlabelled], chosen)

    def need_fit(self) -> Fitted:
        """What the fit saw; ConfigError where it was not in this process."""
        if self.fitted is None:
            raise ConfigError("the fitted pictures are not here", hint="call fit")
        return self.fitted

    def predict(self, images: Picture | Sequence[Picture]) -> list[DiscoveryResult]:
        """Put new pictures into the groups there are (inductive).

        Args:
            images: files, PIL pictures or arrays ([H, W] or [H, W, 3]); one or several.

        Raises:
            ImageError: a picture cannot be read.
            ConfigError: not fitted.
        """
        many = as_list(images)
        results: list[DiscoveryResult] = []
        for start in range(0, len(many), BATCH):
            batch = many[start : start + BATCH]
            found = self._verdict([as_picture(item) for item in batch])
            results += self._results([path_of(item) for item in batch], found)
        return results

    @torch.no_grad()
    def _verdict(self, pictures: list[Image]) -> Verdict:
        size = self.settings.views.image_size
        if self.head is not None:
            tokens = feats.tokens_of_images(self.backbone, pictures, size).half().float().cpu()
            z = self.head.eval()(tokens).z
            return self._by_logits(self.head.teacher_logits(z).numpy())
        centres = self._need_centres()
        rows = self.space(feats.vectors_of_images(self.backbone, pictures, size))
        return judged(rows, centres, self.temperature, len(self.known))

    def evaluate(self, source: str | Path | CategoryData) -> Evaluation:
        """Score the groups of the unlabelled pictures whose class is known for scoring.

        On the source it was fitted on, the groups of the fit are scored (transductive); on another, its
        pictures are predicted (inductive). Nothing is selected on these scores.

        Raises:
            DataError: no picture with a true class, or other known classes than the fitted ones.
        """
        data = source if isinstance(source, CategoryData) else read_source(source)
        if data.known != self.known:
            raise DataError(
                f"its known classes are not the {len(self.known)} fitted ones", hint="fit on it first"
            )
        same = data.protocol["hash"] == self.fitted_on["protocol"]["hash"]
        data, pred, sure, errors = self._scored(data, same)
        true = data.truths()
        kept = (data.labels() < 0) & (true >= 0)
        if not kept.any():
            raise DataError("no unlabelled picture with a true class", where=data.root, hint="add truth.csv")
        row = score(pred[kept], true[kept], len(self.known))
        row |= doubt_scores(pred[kept], true[kept], sure[kept] >= self.settings.doubt, len(self.known))
        facts = {"k": self.k, "k_from": self.k_from, "transductive": same, "pictures": int(kept.sum())}
        rows = [{**row, **facts}]
        classes = [*data.known, *data.new]
        return Evaluation(rows, pred[kept], true[kept], self.names, classes, errors, dict(data.protocol))

    def _scored(
        self, data: CategoryData, same: bool
    ) -> tuple[CategoryData, np.ndarray, np.ndarray, list[str]]:
        """Readable data, the groups and confidences of its pictures, and what could not be read."""
        files = [s.image for s in data.samples]
        views = self.settings.views
        cached = feats.vectors_of_files(self.backbone, files, views.image_size)
        errors, ok, groups = [str(e) for e in cached.errors], np.array(cached.ok), np.full(len(files), -1)
        if same:
            groups[self.kept] = self.groups
            late = np.flatnonzero(ok & (groups < 0))
            errors += [f"{files[int(i)]}: could not be read when the groups were made" for i in late]
            ok[late] = False
        data, rows = readable(data, ok)
        frozen = feats.unit(cached.array[rows])
        if self.head is None and not same:
            found = judged(self.space(frozen), self._need_centres(), self.temperature, len(self.known))
        else:
            found = self._seen(data, frozen, groups[rows], whole=self.fitted is None)[2]
        return data, found.groups, found.confidence, errors

    def _need_centres(self) -> np.ndarray:
        if self.centres is None:
            raise ConfigError("the discoverer is not fitted", hint="call fit or from_pretrained")
        return self.centres

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if self.centres is None and self.head is None:
            raise ConfigError("the discoverer is not fitted", hint="call fit first")
        return state_of(self)

    @classmethod
    def _restore(cls, tensors: dict[str, Tensor], settings: dict[str, Any], **options: Any) -> Self:
        name, backbone, given = made_with(settings)
        found = cls(name, options.get("backbone") or backbone, **given)
        if found.backbone.sha != settings["backbone_sha256"]:
            raise CheckpointError(
                f"was made with other weights than {found.backbone.name!r} holds now",
                hint="name the backbone it was made with, or fit again",
            )
        put_state(found, tensors, settings)
        return found


__all__ = ["CategoryDiscoverer", "DiscoveryResult", "Evaluation"]
