"""What an estimator says of its parameters: name, type, default and one line of help for each.

The forms of the app are built from it, and whatever else shows parameters can be.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
import textwrap
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any

from wildsight.estimators.registry import hyper_names

_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8,}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """A field that a person can set.

    Attributes:
        name: of the field; one inside a nested dataclass is called ``neck.image_size``.
        hint: its type.
        default: its value where nothing is given.
        help: what it means; empty where nothing is written of it.
    """

    name: str
    hint: Any
    default: Any
    help: str = ""

    @property
    def forms(self) -> tuple[Any, ...]:
        """The types it may have, None left out."""
        return tuple(t for t in _alternatives(self.hint) if t is not type(None))

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values it may have, None among them where it is optional; empty where there is no such list."""
        if len(self.forms) != 1 or typing.get_origin(self.forms[0]) is not typing.Literal:
            return ()
        return (*((None,) if self.optional else ()), *typing.get_args(self.forms[0]))

    @property
    def optional(self) -> bool:
        """Whether it may be None."""
        return type(None) in _alternatives(self.hint)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def parameters(kind: type[Any]) -> tuple[Parameter, ...]:
    """The parameters of a dataclass, those of nested ones under dotted names.

    >>> [p.name for p in parameters(Parameter)]
    ['name', 'hint', 'default', 'help']
    """
    try:
        hints = typing.get_type_hints(kind)
    except (NameError, TypeError):  # names that are imported for type checking alone
        hints = {}
    helps = field_help(kind)
    found: list[Parameter] = []
    names = set(hyper_names(kind))
    for item in (f for f in fields(kind) if f.name in names):
        default = item.default
        if item.default_factory is not MISSING:
            default = item.default_factory()
        hint = hints.get(item.name, Any)
        if is_dataclass(hint) and isinstance(hint, type) and is_dataclass(default):
            inner = (
                replace(p, name=f"{item.name}.{p.name}", default=getattr(default, p.name))
                for p in parameters(hint)
            )
            found += inner
        else:
            found.append(Parameter(item.name, hint, default, helps.get(item.name, "")))
    return tuple(found)


def field_help(kind: type[Any]) -> dict[str, str]:
    """What is written of each field: in the text beneath it, or under ``Attributes`` of the class.

    >>> field_help(Parameter)["hint"]
    'its type.'
    """
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__ == "builtins" or not is_dataclass(base):
            continue
        written = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        for names, text in _ENTRY.findall(written):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
        found |= _beneath(base)
    return found


@functools.cache
def _beneath(kind: type[Any]) -> dict[str, str]:
    """The texts that stand right beneath the fields of a class."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError, SyntaxError, IndentationError):
        return {}
    found: dict[str, str] = {}
    lines = body.body if isinstance(body, ast.ClassDef) else []
    for line, after in itertools.pairwise(lines):
        named = isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        text = after.value if isinstance(after, ast.Expr) else None
        if named and isinstance(text, ast.Constant) and isinstance(text.value, str):
            found[typing.cast(Any, line).target.id] = " ".join(text.value.split())
    return found


def unflattened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as nested mappings.

    >>> unflattened({"neck.image_size": 96, "seed": 1})
    {'neck': {'image_size': 96}, 'seed': 1}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        outer, dot, inner = name.partition(".")
        if dot:
            found.setdefault(outer, {})[inner] = value
        else:
            found[name] = value
    return found
