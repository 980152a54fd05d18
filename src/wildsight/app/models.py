"""Which model a tab asks: the sample's, one that learns from a person's data, or a checkpoint."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wildsight.app.jobs import learning
from wildsight.app.uploads import run_folder
from wildsight.errors import ConfigError
from wildsight.estimators import TASKS, kept, resolve
from wildsight.estimators.description import unflattened
from wildsight.files import MANIFEST, cache_folder, digest_of, recover_folder, sha256

KEPT = 4
DATA, CHECKPOINT = "a folder or data set", "a fitted checkpoint"
Values = Mapping[str, Mapping[str, Any]]
"""What was changed in a form, by section: ``hyper:METHOD``, ``settings``, ``training``."""


@dataclass(frozen=True)
class Preset:
    """What a tab begins with.

    Attributes:
        task: its name.
        sample: what learning from the sample is called.
        method: name.
        backbone: name, or what makes one that has none.
        settings, hyper: of the constructor.
        training: fields of `TrainConfig`.
        fit: further keywords of ``fit``.
        data: what the sample model learns from.
        sources: an example of what else it may learn from.
        apart: settings that the tab asks for outside the form.
    """

    task: str
    sample: str
    method: str
    backbone: str | Callable[[], Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    data: str | Callable[[], Any] = "world"
    sources: str = ""
    apart: tuple[str, ...] = ()

    @property
    def kind(self) -> Any:
        """The public object's class; imported now."""
        return resolve(TASKS[self.task].estimator)

    @property
    def backbone_name(self) -> str:
        """What the form shows."""
        return self.backbone if isinstance(self.backbone, str) else ""

    def samples(self) -> Any:
        """The sample data, or the name of their source."""
        return self.data if isinstance(self.data, str) else self.data()


@dataclass(frozen=True)
class Chosen:
    """What a form says: where the model comes from, and how it is made.

    Attributes:
        kind: `DATA`, `CHECKPOINT`, or another way of the tab's.
        folder: of the checkpoint.
        source: what the model learns from, for `DATA`.
        method, backbone, device: names; empty ones are the preset's.
        values: see `Values`.
    """

    kind: str = ""
    folder: str = ""
    source: str = ""
    method: str = ""
    backbone: str = ""
    device: str = ""
    values: Values = field(default_factory=dict)

    def section(self, name: str) -> dict[str, Any]:
        """The changed values of a section, nested."""
        return unflattened(self.values.get(name, {}))

    def training(self, preset: Preset) -> dict[str, Any]:
        """Training settings: the preset's, and what was changed."""
        own = preset.training if self._method(preset) == preset.method else {}
        return {**own, **self.section("training")}

    def _method(self, preset: Preset) -> str:
        return (self.method or "").strip() or preset.method

    def made(self, preset: Preset, **settings: Any) -> Any:
        """A new, unfitted object.

        Raises:
            ConfigError: whatever the constructor refuses.
        """
        method = self._method(preset)
        hyper = {**(preset.hyper if method == preset.method else {}), **self.section(f"hyper:{method}")}
        name = (self.backbone or "").strip()
        backbone: Any = name or preset.backbone
        if callable(backbone):
            backbone = backbone()
        return preset.kind(
            method,
            backbone,
            hyper=hyper or None,
            device=(self.device or "").strip() or "auto",
            **unflattened({**preset.settings, **self.values.get("settings", {})}),
            **settings,
        )

    def model(self, preset: Preset, data: Any = None, key: Any = None, **settings: Any) -> Any:
        """The fitted model; learns on first use, and is then kept in memory and in the cache.

        Args:
            preset: the tab's.
            data: what it learns from, or what makes that, in place of the sample or the source.
            key: what tells these data from others.
            settings: of the constructor.

        Raises:
            WildSightError: whatever the constructor, the data or the checkpoint are refused for.
        """
        if self.kind == CHECKPOINT:
            device = (self.device or "").strip() or "auto"
            name = f"{preset.task}-{device}"
            return fitted(name, self.folder, lambda f: preset.kind.from_pretrained(f, device=device))
        if self.kind == DATA:
            key = source_state(self.source)
        made_of = [preset.task, self.method, self.backbone, self.device, dict(self.values), key]
        whole = digest_of([*made_of, preset.training, settings])
        return shelf.get(whole, lambda: self._learned(preset, data, key, settings))

    def _learned(self, preset: Preset, data: Any, key: Any, settings: Mapping[str, Any]) -> Any:
        made = self.made(preset, **settings)
        if made.fitted:  # nothing to learn
            return made
        training = self.training(preset)
        facts = [made.backbone.sha, asdict(made.settings), made.hyper, made.settings.method, training, key]

        more = {} if self.kind == DATA else dict(preset.fit)

        def learn() -> Any:
            if self.kind == DATA:
                source: Any = self.source.strip()
            else:
                source = preset.samples() if data is None else data() if callable(data) else data
            return made.fit(source, progress=False, **training, **more)

        def load(folder: Path) -> Any:
            own = {} if isinstance(preset.backbone, str) or self.backbone else {"backbone": made.backbone}
            return preset.kind.from_pretrained(folder, device=self.device or "auto", **own)

        name = f"{preset.task}-{digest_of([*facts, more])[:12]}"
        with learning():
            return kept(cache_folder("app") / name, load, learn)


class Shelf:
    """Fitted objects by key; the one not used for longest goes when there are more than ``KEPT``."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, Any] = OrderedDict()

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """The object under ``key``, made if it is not there."""
        item = self._items.get(key)
        if item is None:
            item = make()
        self._items[key] = item
        self._items.move_to_end(key)
        while len(self._items) > KEPT:
            self._items.popitem(last=False)
        return item


shelf = Shelf()


def fitted(task: str, folder: str, load: Callable[[Path], Any]) -> Any:
    """The model of a checkpoint folder; read again once another one stands there.

    Args:
        task: whose it is.
        folder: as it was typed.
        load: reads the model from a folder.

    Raises:
        ConfigError: no folder is named.
    """
    if not (folder or "").strip():
        raise ConfigError("no checkpoint is named", hint="name the folder of the checkpoint")
    root = recover_folder(Path(folder.strip()).expanduser())
    return shelf.get(f"{task}-{root}-{state_of(root)}", lambda: load(root))


def state_of(folder: Path) -> str:
    """What tells a folder of a model from what stood there before: its manifest's hash, else sizes and times.

    >>> state_of(Path("no such folder"))
    ''
    """
    if (folder / MANIFEST).is_file():
        return sha256(folder / MANIFEST)
    if not folder.is_dir():
        return ""
    return _listed(folder, sorted(folder.iterdir()))


def source_state(source: str) -> list[str]:
    """What tells the data behind a source from what stood there before.

    Raises:
        ConfigError: no source is named.

    >>> source_state("world")
    ['world', '']
    """
    text = (source or "").strip()
    if not text:
        raise ConfigError("no data are named", hint="name a folder, or NAME:PATH of a data set")
    places = [Path(part).expanduser() for part in (text, text.partition(":")[2]) if part]
    root = next((place for place in places if place.is_dir()), None)
    return [text, "" if root is None else _listed(root, sorted(root.rglob("*")))]


def _listed(root: Path, files: list[Path]) -> str:
    states = [(f.relative_to(root).as_posix(), f.stat()) for f in files if f.is_file()]
    return digest_of([[name, s.st_size, s.st_mtime_ns] for name, s in states])


def saved(model: Any, task: str) -> tuple[str, list[str]]:
    """Where a model was saved, in words, and its checkpoint as a zip to take away.

    Args:
        model: has ``save_pretrained``.
        task: whose it is.
    """
    name = f"{task}-{digest_of([model.fitted_on, asdict(model.settings), model.hyper])[:12]}"
    folder = model.save_pretrained(cache_folder("app") / "saved" / name)
    archive = shutil.make_archive(str(run_folder(task) / name), "zip", folder)
    text = (
        f"Saved in `{folder}`. Name that folder under *{CHECKPOINT}*, or use it by the command: "
        f"`wildsight {task} predict {folder} PICTURES`. The zip holds the same."
    )
    return text, [archive]


def careful(model: Any, *results: Any) -> list[str]:
    """What a reader of the answer must know first, as list items."""
    texts = [*model.warnings(), *(w for r in results for w in getattr(r, "warnings", ()))]
    return [f"- careful: {text}" for text in dict.fromkeys(texts)]
