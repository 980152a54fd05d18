"""``wildsight doctor``: what is here, what is missing, what is broken."""

from __future__ import annotations

import importlib
import shutil

import typer

EXTRAS = {
    "timm": ("timm", "backbones by timm name"),
    "docs": ("mkdocs-material", "building the documentation"),
    "dev": ("pytest", "tests, linters and type checks"),
}


def doctor() -> None:
    """Print versions, devices, memory and the state of the extras; exit code 1 if something is broken."""
    from wildsight.cli.common import console
    from wildsight.results import environment, version_of

    facts = environment() | _machine() | _device()
    for name, value in facts.items():
        console.print(f"{name:22} {value}", markup=False, soft_wrap=True, highlight=False)
    for extra, (package, purpose) in EXTRAS.items():
        version = version_of(package)
        state = f"installed ({version})" if version else f"pip install 'wildsight[{extra}]'"
        console.print(f"extra {extra:16} {purpose}: {state}", markup=False, soft_wrap=True, highlight=False)
    trouble = torchvision_trouble()
    if trouble:
        console.print(f"BROKEN: {trouble}", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    console.print("nothing is broken")


def torchvision_trouble() -> str | None:
    """A torchvision that does not fit torch breaks every vision model of transformers; None if all is well."""
    from wildsight.results import version_of

    if version_of("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        return f"torchvision does not fit this torch ({error}); run: pip uninstall torchvision timm"
    return None


def _machine() -> dict[str, str]:
    from wildsight.files import cache_folder

    cache = cache_folder()
    free = shutil.disk_usage(cache).free / 2**30
    return {"memory": _memory(), "cache": f"{cache} ({free:.0f} GiB free)"}


def _memory() -> str:
    import os

    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):
        return "unknown"


def _device() -> dict[str, str]:
    import torch

    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(0)}
    return {"device": "mps" if torch.backends.mps.is_available() else "cpu"}
