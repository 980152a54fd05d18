"""The public object of the retrieval task: photos found by a sketch, for classes never trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from wildsight.backbones import Backbone, load_backbone
from wildsight.errors import CheckpointError, ConfigError, DataError, ImageError, WildSightError
from wildsight.estimators.legacy import SavedObject
from wildsight.files import digest_of
from wildsight.images import Picture, as_list, as_picture, load_image, path_of
from wildsight.retrieval.bulk import ray_engine
from wildsight.retrieval.codes import Codes, hamming, train_codes
from wildsight.retrieval.collection import open_collection
from wildsight.retrieval.data import PHOTO, SKETCH, Item, RetrievalData, read_source
from wildsight.retrieval.encoder import Adapter, Untouched
from wildsight.retrieval.episodes import Episodes
from wildsight.retrieval.features import SIZE, features_of_files, features_of_pictures
from wildsight.retrieval.indexing import Indexer, IndexReport
from wildsight.retrieval.learner import Plan
from wildsight.retrieval.methods import METHODS, settings_of
from wildsight.retrieval.metrics import score
from wildsight.retrieval.result import Evaluation, SearchResult
from wildsight.retrieval.sketch import looks_like_photo
from wildsight.training import History, TrainConfig, depends_on, train

TRAINING = {"epochs": 10, "batch_size": 1, "lr": 1e-3, "weight_decay": 5e-4, "schedule": "cosine"}
EPISODES = 50
ENGINES = ("local", "ray")
CODES = ("codes.mean", "codes.project", "codes.rotate")


@dataclass(frozen=True)
class RetrieverSettings:
    """Everything but the method's own hyper-parameters.

    Attributes:
        method: a name from `METHODS`.
        backbone: hub id, local folder or ``nano-*``.
        image_size: side of the square that pictures are resized to, pixels.
        width: width of the embedding.
        dropout: of the adapter, in [0, 1).
        bits: length of binary codes, a multiple of 8; 0 for real-valued embeddings.
        seed: of initialisation, batches and codes.
    """

    method: str = "quadruplet"
    backbone: str = "nano-clip"
    image_size: int = SIZE
    width: int = 128
    dropout: float = 0.2
    bits: int = 0
    seed: int = 0


class SketchRetriever(SavedObject):
    """Finds photos by sketch, for classes that no training picture showed.

    >>> SketchRetriever(method="nosuch")
    Traceback (most recent call last):
    wildsight.errors.ConfigError: no method is called 'nosuch'; use one of ramln, quadruplet, margin-net, \
joint, shuffled, triplet, contrastive, sake, classes, zero-shot

    Args:
        method: ``quadruplet`` (the paper's loss with a fixed margin), ``ramln`` (the learned margin), or a
            peer from `METHODS`.
        backbone: frozen tower that gives the features.
        hyper: the method's own hyper-parameters by name; see `RAMLNConfig`.
        settings: other fields of `RetrieverSettings`.

    Raises:
        ConfigError: unknown method, backbone, hyper-parameter or setting.
    """

    task: ClassVar[str] = "retrieval"

    def __init__(
        self,
        method: str = "quadruplet",
        backbone: str | Backbone = "nano-clip",
        *,
        hyper: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.hyper = dict(hyper or {})
        self.config = settings_of(method, self.hyper)
        self.backbone = load_backbone(backbone) if isinstance(backbone, str) else backbone
        try:
            self.settings = RetrieverSettings(method=method, backbone=self.backbone.name, **settings)
        except TypeError as error:
            raise ConfigError(str(error), hint="see RetrieverSettings") from error
        self.encoder: nn.Module | None = Untouched() if METHODS[method].build is None else None
        self.codes: Codes | None = None
        self.fitted_on: dict[str, Any] = {}
        self.history: History | None = None

    def fit(
        self,
        source: str | Path | RetrievalData,
        *,
        folder: Path | None = None,
        progress: bool = True,
        **training: Any,
    ) -> Self:
        """Train the adapter on the seen classes of ``source``; validation and test classes stay unseen.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            folder: where the training state is kept; a killed fit goes on there, another one is refused.
            progress: show progress and the time left.
            training: fields of `TrainConfig`; an epoch is `EPISODES` batches.

        Raises:
            DataError: fewer than four classes with both sketches and photos.
            ConfigError: a setting outside its range.
            CheckpointError: ``folder`` holds the state of another fit.
        """
        data = source if isinstance(source, RetrievalData) else read_source(source)
        features, label, modality, items = self._training_set(data)
        self.fitted_on = {"source": data.name, "pictures": len(label), "protocol": dict(data.protocol)}
        build = METHODS[self.settings.method].build
        if build is not None:
            config, seed = self._train_config(training), self.settings.seed
            adapter, count = self._adapter(features, modality), len(np.unique(label))
            plan = Plan(adapter, count, self.config, EPISODES * config.epochs, seed)
            episodes = Episodes(features, label, modality.numpy(), count=EPISODES, seed=seed)
            learner, name = build(plan, features, modality), self.settings.method
            told = depends_on(
                self.settings,
                self.config,
                items,
                data.root,
                backbone=self.backbone.sha,
                without=("bits",),
            )
            self.history = train(
                learner,
                episodes,
                episodes.step,
                config,
                folder=folder,
                progress=progress,
                label=name,
                extra=told,
            )
            self.encoder = adapter.cpu().eval()
        if self.settings.bits:
            photos = modality == PHOTO
            embedded = self.embed_features(features[photos].numpy(), PHOTO)
            self.codes = train_codes(embedded, self.settings.bits, seed=self.settings.seed)
        return self

    def _training_set(self, data: RetrievalData) -> tuple[Tensor, np.ndarray, Tensor, list[Item]]:
        """Features [N, D], class numbers [N] and modalities [N] of the readable training pictures; these."""
        names = {name: number for number, name in enumerate(data.classes("train"))}
        parts = [self._features(data.part("train", kind), kind) for kind in (SKETCH, PHOTO)]
        items = [item for _, kept, _ in parts for item in kept]
        features = torch.from_numpy(np.concatenate([f for f, _, _ in parts]))
        label = np.array([names[i.label] for i in items])
        return features, label, torch.tensor([i.modality for i in items]), items

    def _features(self, items: Sequence[Item], modality: int) -> tuple[np.ndarray, list[Item], list[str]]:
        """Features [N, D] of the readable pictures, these pictures, and one sentence per other one."""
        if not items:
            raise DataError("no pictures", hint="see the layouts in the documentation")
        files = [i.file for i in items]
        cached = features_of_files(self.backbone, files, modality, size=self.settings.image_size)
        kept = [i for i, ok in zip(items, cached.ok, strict=True) if ok]
        return np.asarray(cached.array[cached.ok], np.float32), kept, [str(e) for e in cached.errors]

    def _adapter(self, features: Tensor, modality: Tensor) -> Adapter:
        torch.manual_seed(self.settings.seed)
        adapter = Adapter(features.shape[1], self.settings.width, dropout=self.settings.dropout)
        adapter.standardise(features, modality)
        return adapter

    def _train_config(self, given: Mapping[str, Any]) -> TrainConfig:
        try:
            return TrainConfig(**{**TRAINING, "seed": self.settings.seed, **given})
        except TypeError as error:
            raise ConfigError(str(error), hint="see TrainConfig") from error

    @torch.no_grad()
    def embed_features(self, features: np.ndarray, modality: int) -> np.ndarray:
        """Unit embeddings [N, width] of tower features [N, D] of one modality."""
        if self.encoder is None:
            raise ConfigError("the retriever is not fitted", hint="call fit or from_pretrained")
        values = torch.from_numpy(np.asarray(features, np.float32))
        found = self.encoder(values, torch.full((len(values),), modality, dtype=torch.long))
        return found.numpy().astype(np.float32)

    def embed(self, pictures: Sequence[Picture], modality: int) -> np.ndarray:
        """Unit embeddings [N, width] of sketches or photos.

        Raises:
            ImageError: a picture cannot be read, or a sketch has no strokes.
        """
        read = [as_picture(p) for p in pictures]
        size = self.settings.image_size
        return self.embed_features(features_of_pictures(self.backbone, read, modality, size=size), modality)

    @property
    def maker(self) -> str:
        """Identity of the weights that make the embeddings; an index remembers it."""
        if self.encoder is None:
            raise ConfigError("the retriever is not fitted", hint="call fit or from_pretrained")
        weights = [w.double().sum().item() for w in self.encoder.state_dict().values()]
        return digest_of([self.backbone.sha, self.settings.image_size, weights])[:32]

    @property
    def out_width(self) -> int:
        """Width of the embeddings."""
        return int(self.embed([np.zeros((32, 32, 3), np.uint8)], PHOTO).shape[1])

    def index(
        self,
        files: Sequence[Path],
        uri: str | Path,
        *,
        root: Path | None = None,
        progress: Callable[[int], Any] | None = None,
        engine: str = "local",
        workers: int = 2,
        address: str | None = None,
    ) -> IndexReport:
        """Bring an index in step with photos: new ones in, moved ones found again, duplicates together.

        Args:
            files: the photos.
            uri: an embedded file (``photos.db``), a folder that is searched from disk (``photos.shelf``) or a
                Milvus cluster's address.
            root: rows of files below it that are gone are removed; None removes nothing.
            progress: called with the number of files just done.
            engine: ``local``, or ``ray`` to embed on several processes or machines.
            workers: processes at most, with ``ray``.
            address: of a running Ray cluster; None starts one here.

        Raises:
            ConfigError: unknown engine, or Ray is not installed.
            CheckpointError: the index was made by another model.
            DataError: the database does not answer, or is in use.
        """
        if engine not in ENGINES:
            raise ConfigError(f"engine={engine!r}", hint=f"use one of {', '.join(ENGINES)}")
        run = ray_engine(self, workers=workers, address=address) if engine == "ray" else None
        with open_collection(uri, self.out_width, self.maker) as collection:
            return Indexer(collection, self.embed_files, root, run).run(files, progress)

    def embed_files(self, files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, list[WildSightError]]:
        """Unit embeddings [n, width] of the readable photos, whether each is one, and the faults."""
        pictures, ok, errors = [], [], []
        for file in files:
            try:
                pictures.append(load_image(file))
                ok.append(True)
            except WildSightError as error:
                errors.append(error)
                ok.append(False)
        vectors = self.embed(pictures, PHOTO) if pictures else np.zeros((0, 1), np.float32)
        return vectors, np.array(ok), errors

    def search(
        self, sketches: Picture | Sequence[Picture], uri: str | Path, *, k: int = 24
    ) -> list[SearchResult]:
        """The ``k`` nearest photos of an index for each sketch.

        Args:
            sketches: files, PIL pictures or arrays; one or several.
            uri: the index.
            k: photos per sketch, 1 to 1000.

        Raises:
            ImageError: a sketch without strokes, or one that cannot be read.
            CheckpointError: the index was made by another model.
            DataError: no such index, or the database does not answer.
        """
        if not 1 <= k <= 1000:
            raise ConfigError(f"k={k}", hint="give 1 to 1000")
        many = as_list(sketches)
        pictures = [as_picture(s) for s in many]
        queries = np.concatenate([self._query(p, s) for p, s in zip(pictures, many, strict=True)])
        with open_collection(uri, queries.shape[1], self.maker, create=False) as database:
            found = database.nearest(queries, k)
        odd = [("looks like a photo, not like a sketch",) if looks_like_photo(p) else () for p in pictures]
        return [
            SearchResult(path_of(s), tuple(hits), warnings)
            for s, hits, warnings in zip(many, found, odd, strict=True)
        ]

    predict = search

    def _query(self, picture: Image, given: Picture) -> np.ndarray:
        """The embedding [1, width] of one sketch; a fault names its file."""
        try:
            return self.embed([picture], SKETCH)
        except ImageError as error:
            raise (error.at(given) if isinstance(given, str | Path) else error) from error

    def evaluate(
        self, source: str | Path | RetrievalData, *, split: str = "test", binary: bool = True
    ) -> Evaluation:
        """Rank all photos of the unseen classes for every sketch of them.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            split: ``test``, or ``validation`` for choosing settings.
            binary: rank by binary codes if the retriever has them.

        Raises:
            DataError: no pictures in that split.
        """
        data = source if isinstance(source, RetrievalData) else read_source(source)
        parts = [self._features(data.part(split, kind), kind) for kind in (SKETCH, PHOTO)]
        query, gallery = (self.embed_features(f, kind) for kind, (f, _, _) in enumerate(parts))
        names = {name: number for number, name in enumerate(data.classes(split))}
        labels = [np.array([names[i.label] for i in kept]) for _, kept, _ in parts]
        if self.codes is not None and binary:
            sides = (self.codes.encode(query), self.codes.encode(gallery))
            row = score(*sides, labels[0], labels[1], hamming)
        else:
            row = score(query, gallery, labels[0], labels[1])
        files = tuple([i.file for i in kept] for _, kept, _ in parts)
        spelled = tuple([i.label for i in kept] for _, kept, _ in parts)
        errors = [e for _, _, faults in parts for e in faults]
        return Evaluation(
            row, (query, gallery), (files[0], files[1]), (spelled[0], spelled[1]), errors, dict(data.protocol)
        )

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if self.encoder is None:
            raise ConfigError("the retriever is not fitted", hint="call fit first")
        tensors = dict(self.encoder.state_dict())
        if self.codes is not None:
            values = (self.codes.mean, self.codes.project, self.codes.rotate)
            tensors |= {
                n: torch.from_numpy(np.ascontiguousarray(v)) for n, v in zip(CODES, values, strict=True)
            }
        shape = getattr(self.encoder, "mean", torch.zeros(2, 0)).shape
        return tensors, {
            "settings": asdict(self.settings),
            "hyper": self.hyper,
            "inputs": int(shape[1]),
            "backbone_sha256": self.backbone.sha,
            "fitted_on": self.fitted_on,
        }

    @classmethod
    def _restore(cls, tensors: dict[str, Tensor], settings: dict[str, Any], **options: Any) -> Self:
        saved = dict(settings["settings"])
        named = saved.pop("backbone")
        retriever = cls(
            saved.pop("method"), options.get("backbone") or named, hyper=settings["hyper"], **saved
        )
        if retriever.backbone.sha != settings["backbone_sha256"]:
            raise CheckpointError("was trained on another backbone", where=named, hint="give that backbone")
        codes = [tensors.pop(n) for n in CODES if n in tensors]
        if codes:
            retriever.codes = Codes(*(c.numpy() for c in codes))
        if retriever.encoder is None:
            adapter = Adapter(
                settings["inputs"], retriever.settings.width, dropout=retriever.settings.dropout
            )
            adapter.load_state_dict(tensors)
            retriever.encoder = adapter.eval()
        retriever.fitted_on = settings["fitted_on"]
        return retriever
