"""The public object of the retrieval task: photos found by a sketch, for classes never trained."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from wildsight.errors import ConfigError, DataError, WildSightError
from wildsight.estimators import Estimator
from wildsight.estimators.registry import hyper_names, unknown_name
from wildsight.estimators.reporting import write_fit
from wildsight.estimators.streaming import FileAnswer, Ready, Stream, bytes_of, shown_of
from wildsight.images import Picture, as_list, as_picture, path_of
from wildsight.report import Report
from wildsight.report.plots import curve
from wildsight.results import RunFolder, Table
from wildsight.retrieval.bulk import ray_engine
from wildsight.retrieval.codes import Codes, train_codes
from wildsight.retrieval.data import PHOTO, SKETCH, Item, RetrievalData, read_source
from wildsight.retrieval.embedding import Embedding
from wildsight.retrieval.encoder import Adapter, Untouched
from wildsight.retrieval.features import features_of_files
from wildsight.retrieval.fitting import TrainingSet, fit_adapter
from wildsight.retrieval.indexing import Indexer, IndexReport, open_collection
from wildsight.retrieval.methods import METHODS, RetrievalMethod, TrainedMethod
from wildsight.retrieval.result import RetrievalEvaluation, SearchResult
from wildsight.retrieval.searching import score_embeddings, search_index
from wildsight.retrieval.settings import RetrieverSettings
from wildsight.training import TrainConfig
from wildsight.training.progress import Meter

ENGINES = ("local", "ray")
SPLITS = ("test", "validation", "train")
CODES = ("codes.mean", "codes.project", "codes.rotate")
LOADER = "wildsight.retrieval:SketchRetriever"
TOGETHER = 1
"""Sketches that are embedded together: alone, so that no answer depends on the other sketches."""


class SketchRetriever(Estimator[RetrievalData, SearchResult]):
    """Finds photos by sketch, for classes that no training picture showed.

    A fit into a folder also measures what it learned, on the test classes.

    >>> SketchRetriever(method="triplt")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    wildsight.errors.ConfigError: unknown method 'triplt'; did you mean 'triplet'? There are ramln, ...

    Args:
        method: ``quadruplet`` (the paper's loss with a fixed margin), ``ramln`` (the learned margin), a peer
            from `METHODS`, or the method itself, such as ``RAMLN(memory=256)``.
        backbone: frozen tower that gives the features.
        hyper: the method's own hyper-parameters by name, e.g. ``{"mu0": 0.3}``.
        device: where everything runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        settings: other fields of `RetrieverSettings`.

    Raises:
        ConfigError: unknown method, hyper-parameter, setting, backbone or device.
    """

    task: ClassVar[str] = "retrieval"
    methods = METHODS
    default_method = "quadruplet"
    default_backbone = "nano-clip"
    settings_type = RetrieverSettings
    noun = "retriever"
    free_settings = frozenset({"bits"})

    method: RetrievalMethod
    settings: RetrieverSettings

    def __init__(
        self,
        method: str | RetrievalMethod | None = None,
        backbone: Any = None,
        *,
        hyper: Mapping[str, Any] | RetrievalMethod | None = None,
        device: str | int | torch.device | None = "auto",
        **settings: Any,
    ) -> None:
        super().__init__(method, backbone, hyper=hyper, device=device, **settings)
        self.encoder: nn.Module | None = None if self.method.trained else Untouched()
        self.codes: Codes | None = None
        self._data: RetrievalData | None = None
        self._measured: RetrievalEvaluation | None = None

    @property
    def fitted(self) -> bool:
        """Whether it can search; the untouched tower can without a fit."""
        return self.encoder is not None

    # -- fit ------------------------------------------------------------------------------------------------

    def _read(self, source: Any) -> RetrievalData:
        return source if isinstance(source, RetrievalData) else read_source(source)

    def _recipe(self) -> TrainConfig:
        return self.method.recipe

    def _fit(
        self, data: RetrievalData, config: TrainConfig, folder: Path | None, progress: bool, **options: Any
    ) -> dict[str, Any]:
        names = {name: number for number, name in enumerate(data.classes("train"))}
        parts = [self._features(data.part("train", kind), kind, progress) for kind in (SKETCH, PHOTO)]
        items = [item for _, readable, _ in parts for item in readable]
        features = torch.from_numpy(np.concatenate([f for f, _, _ in parts]))
        label = np.array([names[i.label] for i in items])
        modality = torch.tensor([i.modality for i in items])
        self.not_read = [error for _, _, errors in parts for error in errors]
        self._data, self._measured = data, None
        if isinstance(self.method, TrainedMethod):
            depends = self.depends(items, data.root)
            self.encoder, self.history = fit_adapter(
                self.method,
                TrainingSet(features, label, modality, depends),
                config,
                width=self.settings.width,
                dropout=self.settings.dropout,
                seed=self.settings.seed,
                folder=folder,
                progress=progress,
                device=self.device,
            )
            self.encoder.to(self.device)
        if self.settings.bits:
            photos = self.embed_features(features[modality == PHOTO].numpy(), PHOTO)
            self.codes = train_codes(photos, self.settings.bits, seed=self.settings.seed)
        return {"pictures": len(label), "protocol": dict(data.protocol)}

    def _features(
        self, items: Sequence[Item], modality: int, progress: bool
    ) -> tuple[np.ndarray, list[Item], list[str]]:
        """Features [N, D] of the readable pictures, these pictures, and one sentence per other one."""
        if not items:
            raise DataError("no pictures", hint="see the layouts in the documentation")
        files = [i.file for i in items]
        with Meter("features", len(files), enabled=progress) as meter:
            cached = features_of_files(
                self.backbone, files, modality, size=self.settings.image_size, progress=meter.add
            )
        readable = [i for i, ok in zip(items, cached.ok, strict=True) if ok]
        return np.asarray(cached.array[cached.ok], np.float32), readable, [str(e) for e in cached.errors]

    def _leave(self, run: RunFolder) -> None:
        """Checkpoint first, then the report, with what is measured on the classes that were not trained."""
        self.save_pretrained(run.checkpoint)
        if self._data is not None:
            self._measured = self.evaluate(self._data, compare=True)
        write_fit(self, run)

    def fit_tables(self) -> list[tuple[Table, str]]:
        """What a fit into a folder measured: every metric, trained and untouched."""
        return [] if self._measured is None else [(self._measured.table(), self._measured.caption)]

    def fit_facts(self) -> dict[str, Any]:
        """The same for ``scores.json``."""
        if self._measured is None or self._measured.untouched is None:
            return {}
        return {"scores": self._measured.row, "untouched": self._measured.untouched.row}

    def show_fit(self, report: Report) -> None:
        """Learned margins where there are any, and what was measured."""
        history = self.history
        margins = {n: history.curve(n) for n in ("margin", "spread") if history.curve(n)} if history else {}
        if margins:
            report.figure(curve(margins, "margin: mean and spread in the batch"), "The margins over training")
        if self._measured is not None:
            self._measured.show(report)
            report.gallery(self._measured.pictures(), "Best and worst queries: green is the right class")

    # -- embed and index ------------------------------------------------------------------------------------

    def _embedding(self) -> Embedding:
        """Tower and encoder.

        Raises:
            ConfigError: not fitted.
        """
        if self.encoder is None:
            raise ConfigError("the retriever is not fitted", hint="call fit or from_pretrained")
        return Embedding(self.backbone, self.encoder, self.settings.image_size, self.device)

    def embed_features(self, features: np.ndarray, modality: int) -> np.ndarray:
        """Unit embeddings [N, width] of tower features [N, D] of one modality."""
        return self._embedding().of_features(features, modality)

    def embed(self, pictures: Sequence[Picture], modality: int) -> np.ndarray:
        """Unit embeddings [N, width] of sketches or photos.

        Raises:
            ImageError: a picture cannot be read, or a sketch has no strokes.
        """
        return self._embedding().of_pictures(pictures, modality)

    def embed_files(self, files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, list[WildSightError]]:
        """Unit embeddings [n, width] of the readable photos, whether each is one, and the faults."""
        return self._embedding().of_files(files)

    @property
    def maker(self) -> str:
        """Identity of the weights that make the embeddings; an index remembers it."""
        return self._embedding().maker

    @property
    def out_width(self) -> int:
        """Width of the embeddings."""
        return self._embedding().width

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
        run = None
        if engine == "ray":
            kind = self.device.type
            run = ray_engine(LOADER, self._checkpoint_files, workers=workers, address=address, device=kind)
        with open_collection(uri, self.out_width, self.maker) as collection:
            return Indexer(collection, self.embed_files, root, run).run(files, progress)

    def _checkpoint_files(self) -> dict[str, bytes]:
        """The files of a checkpoint, name -> content."""
        with tempfile.TemporaryDirectory() as folder:
            model = self.save_pretrained(Path(folder) / "model")
            return {f.name: f.read_bytes() for f in model.iterdir()}

    # -- search ---------------------------------------------------------------------------------------------

    def search(
        self, sketches: Picture | Sequence[Picture], uri: str | Path, *, k: int = 24
    ) -> list[SearchResult]:
        """The ``k`` nearest photos of an index for each sketch: `predict` in the words of retrieval.

        Args:
            sketches: files, PIL pictures, arrays ([H, W] or [H, W, 3]) or encoded bytes; one or several.
            uri: the index.
            k: photos per sketch, 1 to 1000.

        Raises:
            WildSightError: as `predict`.
        """
        return self.predict(sketches, uri, k=k)

    def predict(
        self,
        pictures: Picture | Sequence[Picture] | None = None,
        index: str | Path | None = None,
        *,
        k: int = 24,
        batch_size: int | None = None,
        sketches: Picture | Sequence[Picture] | None = None,
        uri: str | Path | None = None,
    ) -> list[SearchResult]:
        """The ``k`` nearest photos of an index for each sketch; the same as `search`.

        Args:
            pictures: sketches as files, PIL pictures, arrays ([H, W] or [H, W, 3]) or encoded bytes; one or
                several.
            index: the index, see `index`.
            k: photos per sketch, 1 to 1000.
            batch_size: sketches that are embedded together; one by one where not given, so that no answer
                depends on the other sketches.
            sketches: the same as ``pictures``, its name until 0.1.
            uri: the same as ``index``, its name until 0.1.

        Returns:
            One result per sketch, in order.

        Raises:
            ImageError: a sketch without strokes, or one that cannot be read.
            CheckpointError: the index was made by another model.
            DataError: no such index, or the database does not answer.
            ConfigError: not fitted, no index, or an option outside its range.
        """
        given = sketches if pictures is None else pictures
        if given is None:
            raise ConfigError("no sketches were given", hint="predict('sketch.png', 'photos.db')")
        where = self._checked(uri if index is None else index, k)
        many = as_list(given)
        decoded = [as_picture(s) for s in many]
        queries = self._embedding().of_sketches(decoded, many, TOGETHER if batch_size is None else batch_size)
        return search_index(where, self.maker, queries, decoded, [path_of(s) for s in many], k)

    def iter_files(
        self,
        files: Sequence[Picture],
        index: str | Path | None = None,
        *,
        k: int = 24,
        batch_size: int | None = None,
        workers: int | None = None,
        side: int | None = 0,
        progress: Callable[[int], Any] | None = None,
    ) -> Iterator[FileAnswer[SearchResult]]:
        """See `Estimator.iter_files`; each sketch is embedded by itself, and one without strokes is a fault.

        Args:
            files, batch_size, workers, side, progress: as there.
            index: the index, see `index`.
            k: photos per sketch, 1 to 1000.
        """
        where, embedding = self._checked(index, k), self._embedding()
        maker = embedding.maker

        def read(item: Picture) -> Ready[tuple[Picture, Image]]:
            picture = as_picture(item)
            shown = shown_of(picture, side)
            return Ready((item, picture), bytes_of(picture, shown), shown)

        def answer(batch: Sequence[tuple[Picture, Image]]) -> Iterator[Any]:
            queries = [embedding.of_sketch(*one) for one in batch]
            good = [(q, *one) for q, one in zip(queries, batch, strict=True) if isinstance(q, np.ndarray)]
            vectors = np.concatenate([q for q, _, _ in good]) if good else np.zeros((0, 1), np.float32)
            pictures, readable = [p for _, _, p in good], [path_of(item) for _, item, _ in good]
            found = iter(search_index(where, maker, vectors, pictures, readable, k))
            return (q if isinstance(q, WildSightError) else [next(found)] for q in queries)

        return Stream(read, answer, batch_size, workers, progress).run(files)

    def _checked(self, index: str | Path | None, k: int) -> str | Path:
        """The index of a search whose options are in their ranges."""
        self.check_fitted()
        if index is None:
            raise ConfigError("no index is named", hint="predict('sketch.png', 'photos.db')")
        if not 1 <= k <= 1000:
            raise ConfigError(f"k={k}", hint="give 1 to 1000")
        return index

    # -- evaluate -------------------------------------------------------------------------------------------

    def evaluate(
        self,
        source: str | Path | RetrievalData,
        *,
        split: str = "test",
        progress: bool = True,
        binary: bool = True,
        compare: bool = False,
    ) -> RetrievalEvaluation:
        """Rank all photos of the unseen classes for every sketch of them.

        Args:
            source: ``world``, a folder, ``NAME:PATH``, or data already read.
            split: ``test``, ``validation`` for choosing settings, or ``train``.
            progress: show progress and the time left.
            binary: rank by binary codes if the retriever has them.
            compare: also score the tower's own features, as ``untouched``.

        Raises:
            DataError: no pictures in that split.
            ConfigError: not fitted, or an unknown split.
        """
        self.check_fitted()
        return self._evaluate(self._read(source), split, progress, binary=binary, compare=compare)

    def _evaluate(
        self, data: RetrievalData, split: str, progress: bool, **options: Any
    ) -> RetrievalEvaluation:
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        parts = [self._features(data.part(split, kind), kind, progress) for kind in (SKETCH, PHOTO)]
        sketches, photos = (readable for _, readable, _ in parts)
        shared: dict[str, Any] = {
            "errors": [error for _, _, errors in parts for error in errors],
            "protocol": dict(data.protocol),
            "files": ([i.file for i in sketches], [i.file for i in photos]),
            "labels": ([i.label for i in sketches], [i.label for i in photos]),
        }
        classes = "unseen" if split == "test" else split

        def scored(encoder: Embedding, codes: Codes | None) -> dict[str, Any]:
            sides = [encoder.of_features(f, kind) for kind, (f, _, _) in enumerate(parts)]
            row = score_embeddings((sides[0], sides[1]), shared["labels"], codes)
            return {"rows": [{RetrievalEvaluation.group: classes, **row}], "embeddings": tuple(sides)}

        embedding, untouched = self._embedding(), None
        if options.get("compare"):
            plain = replace(embedding, encoder=Untouched())
            untouched = RetrievalEvaluation(**shared, **scored(plain, None))
        codes = self.codes if options.get("binary", True) else None
        return RetrievalEvaluation(**shared, **scored(embedding, codes), untouched=untouched)

    # -- checkpoints ----------------------------------------------------------------------------------------

    def _to(self, device: torch.device) -> None:
        if self.encoder is not None:
            self.encoder.to(device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        encoder = self._embedding().encoder
        tensors = dict(encoder.state_dict())
        if self.codes is not None:
            values = (self.codes.mean, self.codes.project, self.codes.rotate)
            arrays = [np.ascontiguousarray(v) for v in values]
            tensors |= {name: torch.from_numpy(a) for name, a in zip(CODES, arrays, strict=True)}
        return tensors, {"inputs": int(getattr(encoder, "mean", torch.zeros(2, 0)).shape[1])}

    @classmethod
    def _arguments(cls, config: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Until 0.1 every method was given the hyper-parameters of all; those that it has not go."""
        arguments, backbone = super()._arguments(config)
        known = hyper_names(METHODS[arguments["method"]])
        arguments["hyper"] = {n: v for n, v in arguments["hyper"].items() if n in known}
        return arguments, backbone

    def _load_state(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        codes = [tensors.pop(n).numpy() for n in CODES if n in tensors]
        self.codes = Codes(*codes) if codes else None
        if self.encoder is None:
            adapter = Adapter(config["inputs"], self.settings.width, dropout=self.settings.dropout)
            adapter.load_state_dict(tensors)
            self.encoder = adapter.to(self.device).eval()


__all__ = ["RetrievalEvaluation", "RetrieverSettings", "SearchResult", "SketchRetriever"]
