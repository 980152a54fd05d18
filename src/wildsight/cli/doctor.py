"""``wildsight doctor``: what is here, what is missing, what is broken."""

from __future__ import annotations

import importlib
import shutil

import typer

EXTRAS = {
    "annotations": ("pycocotools", "COCO, YOLO, LabelMe and Label Studio, in and out"),
    "app": ("gradio", "the browser page"),
    "export": ("onnxruntime", "ONNX export that is proved on pictures"),
    "hub": ("datasets", "data sets of the Hugging Face hub"),
    "index": ("pymilvus", "the vector database of sketch retrieval"),
    "peers": ("pytorch-metric-learning", "losses of two retrieval peers"),
    "scale": ("ray", "embedding large folders on several machines"),
    "timm": ("timm", "backbones by timm name"),
    "docs": ("mkdocs-material", "building the documentation"),
    "dev": ("pytest", "tests, linters and type checks"),
}


def doctor() -> None:
    """Print versions, devices, memory and extras; exit code 1 if something is broken."""
    from wildsight.cli.common import console
    from wildsight.results import environment, version_of

    broken = [fault for fault in _faults() if fault]
    facts = environment() | _machine()
    for name, value in facts.items():
        console.print(f"{name:22} {value}", markup=False, soft_wrap=True, highlight=False)
    for extra, (package, purpose) in EXTRAS.items():
        version = version_of(package)
        state = f"installed ({version})" if version else f"pip install 'wildsight[{extra}]'"
        console.print(f"extra {extra:16} {purpose}: {state}", markup=False, soft_wrap=True, highlight=False)
    for fault in broken:
        console.print(f"BROKEN: {fault}", markup=False, soft_wrap=True, highlight=False)
    if broken:
        raise typer.Exit(1)
    console.print("nothing is broken")


def _faults() -> list[str | None]:
    return [torch_trouble(), torchvision_trouble(), device_trouble(), cache_trouble()]


def torch_trouble() -> str | None:
    """Why torch cannot be imported; None if it can."""
    try:
        importlib.import_module("torch")
    except Exception as error:
        return f"torch cannot be imported ({error}); run: pip install --force-reinstall torch"
    return None


def torchvision_trouble() -> str | None:
    """A torchvision that does not fit torch breaks the vision models of transformers; None if it fits."""
    from wildsight.results import version_of

    if version_of("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        return f"torchvision does not fit this torch ({error}); run: pip uninstall torchvision timm"
    return None


def device_trouble() -> str | None:
    """Why a device that is here, or that the environment names, cannot be used; None if all is well."""
    from wildsight.errors import WildSightError

    try:
        from wildsight.devices import driver_trouble, resolve_device

        fault = driver_trouble()
        resolve_device("auto")
    except WildSightError as error:
        return str(error)
    except ImportError:
        return None  # reported as trouble with torch
    if fault is None:
        return None
    return f"CUDA cannot be used ({fault}); update the driver, or install a torch built for it"


def cache_trouble() -> str | None:
    """Why the cache folder cannot be used; None if it can."""
    from wildsight.errors import WildSightError
    from wildsight.files import atomic_path, cache_folder

    try:
        with atomic_path(cache_folder() / "doctor"):
            pass
        (cache_folder() / "doctor").unlink()
    except WildSightError as error:
        return str(error)
    return None


def _machine() -> dict[str, str]:
    return {"memory": _memory(), "cache": _cache(), "devices": _devices()}


def _cache() -> str:
    from wildsight.errors import WildSightError
    from wildsight.files import cache_folder

    try:
        folder = cache_folder()
    except WildSightError:
        return "cannot be made"
    return f"{folder} ({shutil.disk_usage(folder).free / 2**30:.0f} GiB free)"


def _memory() -> str:
    import os

    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):
        return "unknown"


def _devices() -> str:
    try:
        from wildsight.devices import device_names

        return ", ".join(device_names())
    except Exception:
        return "unknown"
