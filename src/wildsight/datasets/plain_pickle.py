"""Data out of the pickles that benchmarks are published in, without running them.

A `pickle.Unpickler` whose `find_class` knows the few names that numpy's own pickles hold and refuses every
other one (Python's documentation, "Restricting Globals"). What the names stand for is built here, by methods
that give plain data alone: a pickle can set the state of numpy's own types, to flags that corrupt memory.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from wildsight.errors import DataError

_DTYPE = re.compile(r"[<>=|]?[biufcSU]\d+")
_DAMAGED = (
    pickle.UnpicklingError, EOFError, OSError, ValueError, IndexError, KeyError, TypeError, AttributeError,
    OverflowError, RecursionError, MemoryError,
)  # fmt: skip
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


class _Dtype:
    """The type of an array; its state adds the byte order."""

    def __init__(self, code: str) -> None:
        if not _DTYPE.fullmatch(code):
            raise DataError(f"holds an array of {code}, which is not plain data")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if _text(state[1]) == ">":
            self.value = self.value.newbyteorder(">")


class _Array:
    """An array; its state is shape, type, order and bytes."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = np.frombuffer(_raw(data), dtype.value).reshape(shape, order="F" if fortran else "C")


class _PlainUnpickler(pickle.Unpickler):
    """Builds containers, strings, numbers and numpy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """What an allowed name stands for.

        Raises:
            DataError: any other name.
        """
        full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full == "numpy.ndarray":
            return None  # an argument of `_reconstruct`
        allowed = {
            "numpy.dtype": self._dtype,
            "numpy.core.multiarray._reconstruct": self._reconstruct,
            "numpy.core.multiarray.scalar": self._scalar,
            "numpy.core.numeric._frombuffer": self._frombuffer,
            "_codecs.encode": self._encode,
            "__builtin__.bytes": self._encode,
        }
        if full not in allowed:
            raise DataError(f"names {module}.{name}, which is not plain data")
        return allowed[full]

    def _dtype(self, code: Any, *_: Any) -> _Dtype:
        return _Dtype(_text(code))

    def _reconstruct(self, *_: Any) -> _Array:
        return _Array()

    def _scalar(self, dtype: _Dtype, data: Any) -> Any:
        return np.frombuffer(_raw(data), dtype.value).item()

    def _frombuffer(self, data: Any, dtype: _Dtype, shape: Any, order: str) -> Any:
        return np.frombuffer(_raw(data), dtype.value).reshape(shape, order="F" if order == "F" else "C")

    def _encode(self, text: Any = "", *_: Any) -> bytes:
        return _raw(text)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _raw(value: Any) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else bytes(memoryview(value))


def _resolved(value: Any) -> Any:
    """``value`` with its arrays in place and its byte-string keys as text."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {k.decode("latin-1") if isinstance(k, bytes) else k: _resolved(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_resolved(v) for v in value)
    if value is None or isinstance(
        value, bool | int | float | complex | str | bytes | bytearray | np.ndarray
    ):
        return value
    raise DataError(f"holds a {type(value).__name__}, which is not plain data")


def _read(data: bytes) -> Any:
    for code, argument, _ in pickletools.genops(data):
        if code.name in _PUTS and int(argument or 0) > len(data):
            raise ValueError("a memo number larger than the file")  # the reader would make room for as many
    return _resolved(_PlainUnpickler(io.BytesIO(data), encoding="bytes").load())


def read_plain_pickle(path: str | Path) -> Any:
    """The data in a pickle; byte-string keys become text.

    Raises:
        DataError: missing, damaged, or anything but plain data and numpy arrays.
    """
    file = Path(path)
    try:
        return _read(file.read_bytes())
    except FileNotFoundError as error:
        raise DataError("no such file", where=file, hint="check the path") from error
    except DataError as error:
        raise DataError(error.what, where=file, hint="get it from its publisher again") from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split())
        raise DataError(f"damaged ({reason})", where=file, hint="download it again") from error
