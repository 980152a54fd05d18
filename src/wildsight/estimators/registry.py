"""Methods by name, each a frozen dataclass whose fields are its hyper-parameters.

A method is one file: it registers itself, and its parameters are reachable wherever methods are named::

    @METHODS.register("vtc-cls")
    @dataclass(frozen=True)
    class VTCCLS(VisualSelector):
        K: int = 3

    METHODS.create("vtc-cls", {"K": 7})       # Python: a mapping, or VTCCLS(K=7) itself
    METHODS.parse("vtc-cls[K=7]")             # the command line and the bench
"""

from __future__ import annotations

import difflib
import functools
import importlib
import json
import math
import pkgutil
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import Any, Generic, TypeVar

from wildsight.errors import ConfigError

T = TypeVar("T")
C = TypeVar("C", bound=type)

_VARIANT = re.compile(r"(?P<name>[^\[\]@]+)(\[(?P<options>.*)\])?(@(?P<lr>[^@\[\]]+))?")


def unknown_name(
    kind: str, name: str, known: Iterable[str], where: str | None = None, unlisted: Iterable[str] = ()
) -> ConfigError:
    """The error for a name that is not there, with the nearest one that is; ``unlisted`` may be nearest, too.

    >>> print(unknown_name("setting", "dd", ["d", "heads"]))
    unknown setting 'dd'; did you mean 'd'? There are d, heads
    >>> print(unknown_name("method", "nosuch", ["ras", "uniad"]))
    unknown method 'nosuch'; use one of ras, uniad
    """
    names = list(known)
    candidates = [*names, *unlisted]
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in candidates], n=1, cutoff=0.5)
    nearest = next((n for n in candidates if close and n.lower() == close[0]), None)
    listed = ", ".join(names)
    if not names:
        hint = "leave it out; there are none"
    elif nearest is None:
        hint = f"use one of {listed}"
    else:
        hint = f"did you mean {nearest!r}? There are {listed}"
    return ConfigError(f"unknown {kind} {name!r}", where=where, hint=hint)


def from_data(default: Any) -> Any:
    """A field that the data decide (channels, a grid, the seed): no hyper-parameter, whatever its default."""
    return field(default=default, metadata={"from_data": True})


def hyper_names(kind: Any) -> list[str]:
    """The fields of a dataclass (or of an instance) that are a user's to set.

    >>> @dataclass(frozen=True)
    ... class Example:
    ...     d: int = 256
    ...     channels: int = from_data(0)
    >>> hyper_names(Example)
    ['d']
    """
    return [f.name for f in fields(kind) if f.init and not f.metadata.get("from_data")]


def configured(
    kind: type[T], given: Mapping[str, Any] | T | None = None, *, noun: str = "setting", **fixed: Any
) -> T:
    """An instance of the frozen dataclass ``kind``, every name and type checked.

    Args:
        kind: the dataclass.
        given: values by name, or an instance, which is returned as it is unless ``fixed`` differs.
        noun: what a field is called in messages: ``setting`` or ``hyper-parameter``.
        fixed: values that are not the user's to set; they win.

    Raises:
        ConfigError: an unknown name, with the nearest one; a value of another type or outside its range.

    >>> @dataclass(frozen=True)
    ... class Example:
    ...     d: int = 256
    >>> configured(Example, {"d": 128})
    Example(d=128)
    >>> configured(Example, {"d": "wide"})
    Traceback (most recent call last):
    wildsight.errors.ConfigError: setting d='wide' is not a whole number; it is 256 by default
    """
    if isinstance(given, kind) and _registered_as(given) == _registered_as(kind):
        values = {f.name: getattr(given, f.name) for f in fields(given) if f.init}  # type: ignore[arg-type]
    elif isinstance(given, Mapping) or given is None:
        values = dict(given or {})
    else:
        text = f"{noun}s of {kind.__name__} are given as {type(given).__name__}"
        raise ConfigError(text, hint=f"give a mapping such as {{'name': value}}, or {kind.__name__}(...)")
    known = [name for name in hyper_names(kind) if name not in fixed]
    for name in [] if isinstance(given, kind) else values:
        if name not in known:
            raise unknown_name(noun, str(name), known)
    hints = _hints(typing.cast(Any, kind))
    checked = {n: _checked(kind, n, v, hints.get(n, Any), noun) for n, v in values.items()}
    try:
        return kind(**{**checked, **fixed})
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{kind.__name__} cannot be made: {error}", hint=f"it has {', '.join(known)}"
        ) from error


def _registered_as(method: Any) -> Any:
    """The name by which a method's class, or the one it is derived from, is registered; None without one."""
    return getattr(method if isinstance(method, type) else type(method), "name", None)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except (NameError, TypeError):  # names that are imported for type checking alone
        return {}


def _checked(kind: type, name: str, value: Any, hint: Any, noun: str) -> Any:
    """``value`` where it fits ``hint``; a list becomes the tuple and a whole number the float asked for."""
    for fits, _, convert in _accepted(hint):
        if fits(value):
            return convert(value)
    default = next((f.default for f in fields(kind) if f.name == name), MISSING)
    usual = "" if default is MISSING else f"it is {default!r} by default"
    words = " or ".join(words for _, words, _ in _accepted(hint))
    raise ConfigError(f"{noun} {name}={value!r} is not {words}", hint=usual or f"see {kind.__name__}")


ENDLESS = ("inf", "-inf")
"""Infinity as JSON and the command line can hold it."""


def plain_value(value: Any) -> Any:
    """Infinity as the word that JSON can hold, which is read again as a number.

    >>> plain_value(float("inf")), plain_value(0.5)
    ('inf', 0.5)
    """
    return str(value) if isinstance(value, float) and math.isinf(value) else value


_Form = tuple[Callable[[Any], bool], str, Callable[[Any], Any]]


def _same(value: Any) -> Any:
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _accepted(hint: Any) -> list[_Form]:
    """(test, words, conversion) of each form that a type hint allows; any value fits an unknown hint."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return [form for part in typing.get_args(hint) for form in _accepted(part)]
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        return [(lambda v: v in choices, f"one of {', '.join(map(str, choices))}", _same)]
    if hint is type(None):
        return [(lambda v: v is None, "None", _same)]
    if hint is bool:
        return [(lambda v: isinstance(v, bool), "true or false", _same)]
    if hint is int:
        return [(lambda v: isinstance(v, int) and not isinstance(v, bool), "a whole number", _same)]
    if hint is float:
        return [(_is_number, "a number", float), (lambda v: v in ENDLESS, "infinity", float)]
    if hint is str:
        return [(lambda v: isinstance(v, str), "a text", _same)]
    if hint is tuple or origin is tuple:
        return [(lambda v: isinstance(v, tuple | list), "a list", tuple)]
    if isinstance(hint, type) and is_dataclass(hint):
        nested = typing.cast("type[Any]", hint)
        return [
            (lambda v: isinstance(v, nested), f"a {nested.__name__}", _same),
            (lambda v: isinstance(v, Mapping), "a mapping", lambda v: configured(nested, v)),
        ]
    return [(lambda _: True, "anything", _same)]


Range = tuple[Callable[[Any], bool], str]
"""A test of a value, and the hint for one that fails it."""
ABOVE_ZERO: Range = (lambda v: 0 < v < math.inf, "give a number above 0")
SHARE: Range = (lambda v: 0 <= v < 1, "give a number in [0, 1)")
UP_TO_ONE: Range = (lambda v: 0 <= v <= 1, "give a number in [0, 1]")


def at_least(low: float) -> Range:
    """The range of finite numbers from ``low`` on."""
    return (lambda v: low <= v < math.inf, f"give {low:g} or more")


def check_ranges(made: Any, **ranges: Range) -> None:
    """Refuse a dataclass whose fields are outside their ranges; for its ``__post_init__``.

    >>> check_ranges(Variant("x@2", "x", None, {}, lr=-1.0), lr=ABOVE_ZERO)
    Traceback (most recent call last):
    wildsight.errors.ConfigError: lr=-1.0 is outside its range; give a number above 0

    Raises:
        ConfigError: with the first such field.
    """
    for name, (fits, hint) in ranges.items():
        value = getattr(made, name)
        if not fits(value):
            raise ConfigError(f"{name}={value!r} is outside its range", hint=hint)


@dataclass(frozen=True)
class Variant(Generic[T]):
    """A method with parameters of its own, as a bench names it: ``ras[d=128]@7e-4``.

    Attributes:
        text: as it was written; its row in tables.
        name: of the method.
        method: the method with its parameters.
        options: the parameters that were given.
        lr: learning rate in place of the method's own; None keeps it.
    """

    text: str
    name: str
    method: T
    options: Mapping[str, Any]
    lr: float | None = None

    @property
    def stem(self) -> str:
        """A file name for it."""
        return re.sub(r"[^\w.@=+-]+", "_", self.text).strip("_")


class Registry(Mapping[str, type[T]]):
    """The methods of a task by name.

    Args:
        kind: what one is called in messages.
        package: a package whose modules are imported on first use, so that each registers its own methods:
            adding a method is adding one file.
        order: names in the order of tables; others follow in the order of their files.
    """

    def __init__(self, kind: str = "method", package: str | None = None, order: Iterable[str] = ()) -> None:
        self.kind, self.package, self.order = kind, package, tuple(order)
        self._methods: dict[str, type[T]] = {}
        self._presets: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._loaded = package is None

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator: the class is the method called ``name``; it gets ``name`` as a class attribute.

        Raises:
            ConfigError: two methods of one name.
        """

        def keep(cls: C) -> C:
            if name in self._methods and self._methods[name].__qualname__ != cls.__qualname__:
                raise ConfigError(f"two {self.kind}s are called {name!r}", hint="give one another name")
            cls.name, cls.registry = name, self  # type: ignore[attr-defined]
            self._methods[name] = cls
            return cls

        return keep

    def add_presets(self, method: str, presets: Mapping[str, Mapping[str, Any]]) -> None:
        """Further names of one method, each with other hyper-parameters, such as the rungs of an ablation.

        Args:
            method: the name that it is registered by.
            presets: name -> hyper-parameters; a name that is registered itself keeps its meaning.
        """
        self._presets |= {name: (method, options) for name, options in presets.items()}

    def _load(self) -> dict[str, type[T]]:
        if not self._loaded and self.package is not None:
            self._loaded = True
            package = importlib.import_module(self.package)
            for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
                importlib.import_module(f"{self.package}.{module}")
            first = [n for n in self.order if n in self._methods]
            self._methods = {
                n: self._methods[n] for n in [*first, *(m for m in self._methods if m not in first)]
            }
        return self._methods

    def __getitem__(self, name: str) -> type[T]:
        methods = self._load()
        if name not in methods:
            raise unknown_name(self.kind, str(name), methods, unlisted=self._presets)
        return methods[name]

    def __contains__(self, name: object) -> bool:
        return name in self._load()

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())

    def create(self, method: str | T, options: Mapping[str, Any] | T | None = None) -> T:
        """A method with its parameters checked.

        Args:
            method: its name, also that of a preset, or the method itself.
            options: parameters by name, or the method itself.

        Raises:
            ConfigError: an unknown name or parameter, with the nearest one; a value outside its range; the
                method of another registry.
        """
        if not isinstance(method, str):
            if options:
                raise ConfigError(f"the {self.kind} carries its parameters", hint="give them once")
            if getattr(method, "registry", self) is not self:
                text = f"{type(method).__name__} is no {self.kind} here"
                raise ConfigError(text, hint=f"use one of {', '.join(self)}")
            return configured(type(method), method, noun="hyper-parameter")
        if "[" in method:
            return self._variant_of(method, options)
        name, preset = self._named(method)
        if not preset:
            return configured(self[name], options, noun="hyper-parameter")
        if options is not None and not isinstance(options, Mapping):
            text = f"{method} carries hyper-parameters of its own"
            raise ConfigError(text, hint="give the others as a mapping such as {'name': value}")
        return configured(self[name], {**preset, **(options or {})}, noun="hyper-parameter")

    def _variant_of(self, text: str, options: Mapping[str, Any] | T | None) -> T:
        """The method that ``NAME[a=1]`` names, with further options."""
        variant = self.parse(text)
        if variant.lr is not None:
            raise ConfigError("a learning rate is no hyper-parameter", where=text, hint="give lr to fit")
        if options is not None and not isinstance(options, Mapping):
            raise ConfigError(f"the {self.kind} carries its parameters", where=text, hint="give them once")
        preset = self._named(text.partition("[")[0].strip())[1]
        return self.create(variant.name, {**preset, **variant.options, **(options or {})})

    def _named(self, name: str) -> tuple[str, Mapping[str, Any]]:
        """The registered name behind a name, and the hyper-parameters of a preset."""
        return (name, {}) if name in self else self._presets.get(name, (name, {}))

    def name_of(self, method: T) -> str:
        """The name that a method is registered by."""
        return str(type(method).name)  # type: ignore[attr-defined]

    def parse(self, text: str) -> Variant[T]:
        """The method that ``NAME``, ``NAME[a=1,b=false]`` or ``NAME[...]@LR`` names.

        Raises:
            ConfigError: another form, an unknown name or parameter, or a learning rate that is not above 0.
        """
        found = _VARIANT.fullmatch(text.strip())
        if found is None:
            raise ConfigError(
                f"{text!r} names no {self.kind}", hint="write NAME, NAME[option=value] or NAME@RATE"
            )
        options = options_from(split_options(found["options"] or ""))
        rate = found["lr"]
        try:
            lr = None if rate is None else float(rate)
        except ValueError:
            lr = math.nan
        if lr is not None and not 0 < lr < math.inf:
            raise ConfigError(f"{rate!r} is no learning rate", where=text, hint="write NAME@7e-4")
        name, preset = self._named(found["name"].strip())
        method = self.create(name, {**preset, **options})
        if lr is not None and not getattr(method, "trained", True):
            raise ConfigError(f"{name} is not trained by gradient", where=text, hint=f"write {name}")
        return Variant(text.strip(), name, method, options, lr)


def split_options(text: str) -> list[str]:
    """``a=1,b=[2,3]`` cut at the commas between options.

    >>> split_options("a=1,b=[2,3],c=x")
    ['a=1', 'b=[2,3]', 'c=x']
    """
    return [
        part
        for part in re.split(r",(?=[^\[\]()]*(?:[\[(][^\[\]()]*[\])][^\[\]()]*)*$)", text)
        if part.strip()
    ]


def options_from(texts: Iterable[str], where: str = "--set") -> dict[str, Any]:
    """``name=value`` texts as a mapping, each value as JSON where it is, else as text.

    >>> options_from(["epochs=3", "kind=unseen", "avg-freq=null"])
    {'epochs': 3, 'kind': 'unseen', 'avg_freq': None}

    Raises:
        ConfigError: one without a name or a value.
    """
    given: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError("needs a name and a value", where=f"{where} {text}", hint="write name=value")
        try:
            given[name.strip().replace("-", "_")] = json.loads(value)
        except ValueError:
            given[name.strip().replace("-", "_")] = value.strip()
    return given


def changed_fields(method: Any) -> dict[str, Any]:
    """The fields that differ from their defaults, nested ones as mappings, infinity as a word."""
    if not is_dataclass(method) or isinstance(method, type):
        return {}
    values = asdict(method)
    plain = type(method)()
    changed = [n for n in hyper_names(method) if getattr(method, n) != getattr(plain, n)]
    return {n: plain_value(values[n]) for n in changed}
