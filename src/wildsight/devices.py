"""Where networks run, and in which precision: CUDA, then MPS, then the CPU, unless a device is named."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

from wildsight.errors import BudgetError, ConfigError

if TYPE_CHECKING:
    import torch

VARIABLE = "WILDSIGHT_DEVICE"
"""Environment variable that names the device meant by ``auto``."""
NAMES = ("auto", "cpu", "cuda", "gpu", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
T = TypeVar("T")
Done = TypeVar("Done")


def resolve_device(device: str | int | torch.device | None = "auto") -> torch.device:
    """The device that ``device`` names, once it is known to be there.

    Args:
        device: ``auto`` or None (the environment variable ``WILDSIGHT_DEVICE`` if it is set, else CUDA, then
            MPS, then the CPU), ``cpu``, ``cuda``, ``gpu`` (CUDA or MPS), ``cuda:1``, ``1`` (the same),
            ``mps``, or a `torch.device`; upper case is the same as lower case.

    Returns:
        The device; of CUDA always with its number, which is ``LOCAL_RANK`` under ``torchrun``.

    Raises:
        ConfigError: a misspelt device, or one that is not there.
    """
    name = _name(device)
    if name == "auto":
        name, where = os.environ.get(VARIABLE, "").strip().lower() or "auto", VARIABLE
    else:
        where = None
    try:
        return _best() if name == "auto" else _named(name)
    except ConfigError as error:
        raise error.at(where) if where else error from None


def precision_for(device: torch.device | str, precision: str = "auto") -> torch.dtype:
    """The number format of a frozen network on ``device``.

    Args:
        device: where it runs.
        precision: ``fp32``, ``bf16`` or ``fp16``; ``auto`` is fp32 on the CPU, bf16 on CUDA devices that
            compute in it, and fp16 on older ones and on MPS.

    Raises:
        ConfigError: an unknown precision.
    """
    import torch

    if precision not in PRECISIONS:
        hint = f"use one of {', '.join(PRECISIONS)}"
        raise ConfigError(f"precision={precision!r} is unknown", hint=hint)
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision != "auto":
        return kinds[precision]
    kind = torch.device(device).type
    if kind == "cuda":
        return _cuda_precision(torch.device(device))
    return torch.float16 if kind == "mps" else torch.float32


def device_names() -> list[str]:
    """The devices of this machine in words, the one that ``auto`` takes first."""
    import torch

    cuda = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def driver_trouble() -> str | None:
    """Why torch cannot use an NVIDIA driver that is installed, such as one that is too old; None if it can,
    or if there is none."""
    import torch

    if torch.version.cuda is None or torch.cuda.is_available():
        return None
    reason = _cuda_fault()
    return None if "no NVIDIA driver" in reason else reason


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or of the system says that memory is full."""
    words = ("out of memory", "allocate memory")
    full = isinstance(error, RuntimeError) and any(w in str(error) for w in words)
    return full or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's own


class Halving:
    """Calls a function with no more of a batch at a time than memory holds.

    Args:
        noun: what the batch holds, for messages.
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.most: int | None = None

    def parts(self, call: Callable[[Sequence[T]], Done], batch: Sequence[T]) -> Iterator[Done]:
        """``call`` of the batch, or of parts of it: halved, from now on, each time that memory is full.

        Raises:
            BudgetError: memory does not hold even one.
        """
        start = 0
        while start < len(batch):
            part = batch[start : start + (self.most or len(batch))]
            try:
                done = call(part)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(part) == 1:
                    hint = "use a smaller image size, another device, or free some memory"
                    raise BudgetError(f"no memory for one of the {self.noun}", hint=hint) from error
                self._halve(len(part))
                continue
            yield done
            start += len(part)

    def _halve(self, count: int) -> None:
        self.most = count // 2
        text = f"memory does not hold {count} {self.noun} at a time: going on with {self.most}"
        warnings.warn(text, UserWarning, stacklevel=4)
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
            sys.modules["torch"].cuda.empty_cache()


def _name(device: Any) -> str:
    """The device in lower case, numbers as CUDA's."""
    if device is None:
        return "auto"
    if isinstance(device, bool) or not (isinstance(device, str | int) or hasattr(device, "type")):
        raise ConfigError(f"device={device!r} is no device", hint=_hint())
    name = str(device).strip().lower()
    return f"cuda:{name}" if name.lstrip("-").isdigit() else name


def _hint(name: str = "") -> str:
    near = get_close_matches(name.partition(":")[0], NAMES, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return "use auto, cpu, cuda, cuda:1 or mps"


def _best() -> torch.device:
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", _own_number(torch.cuda.device_count()))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _own_number(count: int) -> int:
    """The CUDA device of this process."""
    rank = os.environ.get("LOCAL_RANK", "0")
    return int(rank) % count if rank.isdigit() else 0


def _named(name: str) -> torch.device:
    import torch

    kind, colon, number = name.partition(":")
    if kind == "gpu":
        kind = "mps" if not torch.cuda.is_available() and torch.backends.mps.is_available() else "cuda"
    if colon and not number.isdigit():
        raise ConfigError(f"device {name!r} has no valid number", hint=_hint())
    if kind == "cuda":
        return _cuda(int(number) if colon else None)
    return _other(kind, int(number) if colon else None)


def _cuda(number: int | None) -> torch.device:
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(f"CUDA cannot be used ({_cuda_fault()})", hint="use --device cpu (device='cpu')")
    count = torch.cuda.device_count()
    number = _own_number(count) if number is None else number
    if number >= count:
        last = "cuda:0" if count == 1 else f"one of cuda:0 to cuda:{count - 1}"
        raise ConfigError(f"there is no device cuda:{number}", hint=f"use {last}")
    return torch.device("cuda", number)


def _cuda_fault() -> str:
    """Why CUDA is not available, in a clause."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch is built without it"
    try:
        torch.cuda.init()
    except Exception as error:
        return _clause(str(error))
    return "no device is visible"


def _clause(message: str) -> str:
    """The first sentence of a message of torch."""
    first = message.strip().split("\n")[0].split(". ")[0].rstrip(".")
    return first or "no reason given"


def _other(kind: str, number: int | None) -> torch.device:
    """A device that is neither CUDA nor named by us alone: the CPU, MPS, or another that torch can use."""
    import torch

    try:
        device = torch.device(kind) if number is None else torch.device(kind, number)
    except RuntimeError:
        raise ConfigError(f"no device is called {kind!r}", hint=_hint(kind)) from None
    if kind == "cpu":
        return torch.device("cpu")
    try:
        usable = kind != "meta" and torch.zeros(1, device=device).cpu().numel() == 1
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        usable = False
    if not usable:
        raise ConfigError(f"device {str(device)!r} is not on this machine", hint="use cpu, or see doctor")
    return device


def _cuda_precision(device: torch.device) -> torch.dtype:
    """bf16 from compute capability 8 on, fp16 from 7 on, where tensor cores begin; fp32 on older ones."""
    import torch

    if torch.version.hip is not None:
        return torch.bfloat16
    major, _ = torch.cuda.get_device_capability(device)
    if major >= 8:
        return torch.bfloat16
    return torch.float16 if major >= 7 else torch.float32
