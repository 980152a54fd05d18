"""Data out of the pickles that benchmarks are published in, without running them.

The opcodes are read one by one and only ever build dicts, lists, tuples, strings, numbers and numpy arrays;
a name that stands for anything else is refused. Nothing is imported, called or executed.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.errors import DataError

_PUSHED = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_FIXED: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_IGNORED = {"PROTO", "FRAME", "STOP"}


class _Name(str):
    """A global's name; never looked up."""


class _Dtype:
    """A numpy dtype under construction."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    def value(self) -> np.dtype[Any]:
        if self.code.lstrip("<>=|")[:1] in ("O", "V"):
            raise DataError(f"an array of {self.code} holds objects")
        found = np.dtype(self.code)
        return found.newbyteorder(">") if self.order == ">" else found


class _Array:
    """A numpy array under construction."""

    value: Any = None

    def fill(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        raw = data.encode("latin-1") if isinstance(data, str) else data
        flat = np.frombuffer(raw, dtype.value())
        self.value = flat.reshape(shape, order="F" if fortran else "C")


_MARK = object()


class _Machine:
    """The stack that the opcodes work on."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            self._do(opcode.name, argument)
        return _resolved(self.stack.pop())

    def _do(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _STRINGS:
            self.stack.append(argument.encode("latin-1") if isinstance(argument, str) else argument)
        elif name in _FIXED:
            self.stack.append(_FIXED[name]())
        elif name not in _IGNORED:
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise DataError(f"holds the operation {name}, which is not plain data")
            step(argument)

    def _since_mark(self) -> list[Any]:
        at = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def _mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _put(self, at: Any) -> None:
        self.memo[int(at)] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, at: Any) -> None:
        self.stack.append(self.memo[int(at)])

    _binget = _long_binget = _get

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _join(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _tuple1(self, _: Any) -> None:
        self._join(1)

    def _tuple2(self, _: Any) -> None:
        self._join(2)

    def _tuple3(self, _: Any) -> None:
        self._join(3)

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self.stack[-1].append(item)

    def _appends(self, _: Any) -> None:
        items = self._since_mark()
        self.stack[-1].extend(items)

    def _setitem(self, _: Any) -> None:
        key, value = self.stack[-2:]
        del self.stack[-2:]
        self.stack[-1][key] = value

    def _setitems(self, _: Any) -> None:
        items = self._since_mark()
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _dict(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _list(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def _global(self, text: Any) -> None:
        self.stack.append(_Name(str(text).replace(" ", ".")))

    def _stack_global(self, _: Any) -> None:
        module, name = self.stack[-2:]
        del self.stack[-2:]
        self.stack.append(_Name(f"{module}.{name}"))

    def _reduce(self, _: Any) -> None:
        name, arguments = self.stack[-2:]
        del self.stack[-2:]
        self.stack.append(_built(str(name).replace("numpy._core", "numpy.core"), arguments))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _Array):
            target.fill(state)
        elif isinstance(target, _Dtype):
            target.order = _text(state[1])
        else:
            raise DataError("sets the state of an object that is not plain data")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _built(name: str, arguments: tuple[Any, ...]) -> Any:
    """What the few names that numpy's own pickles hold stand for."""
    if name == "numpy.core.multiarray._reconstruct":
        return _Array()
    if name == "numpy.dtype":
        return _Dtype(_text(arguments[0]))
    if name == "numpy.core.multiarray.scalar":
        raw = arguments[1]
        return np.frombuffer(
            raw.encode("latin-1") if isinstance(raw, str) else raw, arguments[0].value()
        ).item()
    if name == "_codecs.encode":
        return _text(arguments[0]).encode("latin-1")
    raise DataError(f"names {name}, which is not plain data")


def _resolved(value: Any) -> Any:
    """``value`` with its arrays in place."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {_key(k): _resolved(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_resolved(v) for v in value)
    return value


def _key(key: Any) -> Any:
    return key.decode("latin-1") if isinstance(key, bytes) else key


def read_plain_pickle(path: str | Path) -> Any:
    """The data in a pickle; byte-string keys become text.

    Raises:
        DataError: missing, damaged, or anything but plain data and numpy arrays.
    """
    file = Path(path)
    try:
        return _Machine().run(file.read_bytes())
    except FileNotFoundError as error:
        raise DataError("no such file", where=file, hint="check the path") from error
    except DataError as error:
        raise DataError(error.what, where=file, hint="get it from its publisher again") from error
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"damaged ({error})", where=file, hint="get it again") from error
