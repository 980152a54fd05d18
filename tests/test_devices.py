"""Devices by name: what is understood, what is refused, and the precision of frozen networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wildsight.backbones import load_backbone
from wildsight.backbones.cache import cached_embeddings
from wildsight.cli import doctor
from wildsight.devices import VARIABLE, driver_trouble, precision_for, resolve_device
from wildsight.errors import ConfigError

CPU_ONLY = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")


@pytest.fixture(autouse=True)
def _no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_the_cpu_in_every_spelling() -> None:
    for name in ("cpu", "CPU", " Cpu ", "cpu:0", torch.device("cpu")):
        assert resolve_device(name) == torch.device("cpu")


@CPU_ONLY
def test_auto_takes_the_best_there_is() -> None:
    best = "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device() == resolve_device(None) == resolve_device("AUTO") == torch.device(best)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_in_every_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("auto", None, "cuda", "CUDA", "gpu", "gpu:0", "0", 0, "cuda:0", torch.device("cuda")):
        assert resolve_device(name) == torch.device("cuda", 0)
    with pytest.raises(ConfigError, match="there is no device cuda:99; use"):
        resolve_device(99)
    monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count() - 1))
    assert resolve_device("auto").index == torch.cuda.device_count() - 1


@CPU_ONLY
@pytest.mark.parametrize("name", ["cuda", "CUDA:1", 0, "1", torch.device("cuda")])
def test_an_absent_gpu_says_why_and_what_works(name: str | int | torch.device) -> None:
    with pytest.raises(ConfigError, match=r"^CUDA cannot be used \(.+\); use --device cpu") as raised:
        resolve_device(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cuad", "no device is called 'cuad'; did you mean 'cuda'"),
        ("cp", "did you mean 'cpu'"),
        ("tpu9", "no device is called 'tpu9'; "),
        ("cuda:x", "has no valid number"),
        (-1, "has no valid number"),
        (True, "is no device"),
        (1.5, "is no device"),
        ("meta", "is not on this machine"),
        ("xpu", "is not on this machine"),
        ("", "no device is called ''"),
    ],
)
def test_misspelt_devices(name: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        resolve_device(name)  # type: ignore[arg-type]
    assert raised.value.hint and "\n" not in str(raised.value)


def test_a_driver_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch with CUDA says on a machine whose driver it cannot use."""

    def init() -> None:
        raise RuntimeError(
            "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver"
        )

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    too_old = "The NVIDIA driver on your system is too old (found version 11040)"
    with pytest.raises(ConfigError) as raised:
        resolve_device("cuda")
    assert str(raised.value).startswith(f"CUDA cannot be used ({too_old}); ")
    assert driver_trouble() == too_old
    assert too_old in str(doctor.device_trouble())


def test_the_environment_is_the_default_of_auto_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "CPU")
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setenv(VARIABLE, "cpuu")
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(
        ConfigError, match=r"^WILDSIGHT_DEVICE: no device is called 'cpuu'; did you mean 'cpu'"
    ):
        resolve_device("auto")
    assert "WILDSIGHT_DEVICE" in str(doctor.device_trouble())
    monkeypatch.setenv(VARIABLE, "auto")
    resolve_device("auto")


def test_precision() -> None:
    assert precision_for("cpu") == precision_for(torch.device("cpu"), "auto") == torch.float32
    assert precision_for("mps") == torch.float16
    assert precision_for("cpu", "bf16") == torch.bfloat16
    with pytest.raises(ConfigError, match="precision='half' is unknown; use one of auto, fp32"):
        precision_for("cpu", "half")


def test_a_backbone_knows_its_device() -> None:
    backbone = load_backbone("nano-clip", device="CPU")
    assert backbone.device == torch.device("cpu") and backbone.dtype == torch.float32
    assert backbone.to("cpu") is backbone
    with pytest.raises(ConfigError, match="did you mean 'cuda'"):
        backbone.to("cuad")
    for wrong in ({"device": "cuad"}, {"precision": "int3"}):
        with pytest.raises(ConfigError):
            load_backbone("nano-nosuch", **wrong)  # type: ignore[arg-type]


def test_half_precision_is_for_the_arithmetic_alone() -> None:
    """bf16 changes the features a little; they come out in fp32, and the weights are as they were."""
    exact, half = (
        load_backbone("nano-clip", device="cpu"),
        load_backbone("nano-clip", precision="bf16", device="cpu"),
    )
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pairs = [
        (
            b.embed_images(pixels),
            b.embed_texts(["a cat"]),
            b.features(pixels).patches,
            b.pyramid(pixels, b.strides)[b.strides[0]],
        )
        for b in (exact, half)
    ]
    for left, right in zip(*pairs, strict=True):
        assert right.dtype == torch.float32 and not torch.equal(left, right)
        cosine = torch.nn.functional.cosine_similarity(left.flatten(), right.flatten(), dim=0)
        assert cosine > 0.99
    assert all(p.dtype == torch.float32 for p in half.model.parameters())


def test_another_precision_is_cached_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setenv("WILDSIGHT_CACHE", str(tmp_path / "cache"))
    Image.new("RGB", (40, 40), (200, 20, 20)).save(tmp_path / "a.png")
    rows = []
    for precision in ("fp32", "bf16", "auto"):
        backbone = load_backbone("nano-clip", device="cpu", precision=precision)
        found = cached_embeddings(backbone, [tmp_path / "a.png"], 64, backbone.embed_images, {})
        rows.append(torch.from_numpy(found.array.copy()))
    assert not torch.equal(rows[0], rows[1]) and torch.equal(rows[0], rows[2])
