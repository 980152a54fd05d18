"""Repositories and folders that cannot be used: one sentence, with a hint that helps."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hub_server import TOKEN, hub
from wildsight.backbones import load_backbone
from wildsight.backbones.hub import full_name, split_name
from wildsight.backbones.texts import read_tokenizer
from wildsight.errors import CheckpointError, ConfigError, UnsupportedModelError, WildSightError
from wildsight.estimators.hub import card
from zoo.models import folder


def copied(name: str, place: Path) -> Path:
    return Path(shutil.copytree(folder(name), place))


def edited(place: Path, **entries: object) -> None:
    file = place / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def rewritten(place: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(place / "model.safetensors")
    change(weights)
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})


def code(place: Path) -> None:
    edited(place, model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})
    (place / "evil.py").write_text(f"open({str(place / 'RAN')!r}, 'w')")


def half(place: Path) -> None:
    (place / "model.safetensors").rename(place / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def pointer(place: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    (place / "model.safetensors").write_text(text)


def cut(place: Path) -> None:
    file = place / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def other(place: Path) -> None:
    shutil.copy(folder("ResNet") / "model.safetensors", place)


def broken(place: Path) -> None:
    rewritten(place, lambda w: next(v for v in w.values() if v.ndim > 1).view(-1)[:1].fill_(float("nan")))


def wider(place: Path) -> None:
    edited(place, hidden_size=48)


def no_timm(place: Path) -> None:
    settings = {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3}
    edited(place, model_type="timm_wrapper", architecture="resnet18", pretrained_cfg=settings)


BAD: dict[str, tuple[Callable[[Path], None], type[WildSightError], str]] = {
    "code of its own": (code, UnsupportedModelError, "code of its own repository, which is never run; use a"),
    "half a snapshot": (half, CheckpointError, "1 of 2 weight files were not fetched, .*; fetch it"),
    "git-lfs": (pointer, CheckpointError, "git-lfs's pointer to the weights.*; run `git lfs pull`"),
    "cut off": (cut, ConfigError, "cannot be loaded .*; check that its config.json and weights .* fetch it"),
    "another architecture": (other, CheckpointError, "weights are missing.*; give the weights that belong"),
    "NaN": (broken, CheckpointError, "1 weights hold NaN or infinity, .*; fetch or save it again"),
    "another width": (wider, ConfigError, "cannot be loaded .*; check that its config.json and weights"),
    "no timm": (no_timm, ConfigError, r"cannot be loaded .*; pip install 'wildsight\[timm\]'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_folder_that_cannot_be_used(case: str, tmp_path: Path) -> None:
    spoil, kind, words = BAD[case]
    if case == "no timm" and importlib.util.find_spec("timm"):
        pytest.skip("timm is installed")
    place = copied("ViT", tmp_path / "model")
    spoil(place)
    with pytest.raises(kind, match=words) as refused:
        load_backbone(place)
    assert "\n" not in str(refused.value) and not (place / "RAN").exists()


def test_what_is_no_device_and_what_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="toaster"):
        load_backbone(folder("ViT"), device="toaster")
    for name in (str(folder("ViT")), "nano-conv"):
        with pytest.raises(ConfigError, match="a folder has no revisions; leave out revision="):
            load_backbone(name, revision="v1")
    with pytest.raises(ConfigError, match="name one revision"):
        load_backbone("someone/model@v1", revision="v2")
    with pytest.raises(UnsupportedModelError, match=r"has no tokenizer; add its tokenizer\.json"):
        read_tokenizer(folder("ViT"), "vit")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("user/name", ("user/name", None, "")),
        ("user/name@v1.0", ("user/name", "v1.0", "")),
        ("user/name@refs/pr/3/deep/inside", ("user/name", "refs/pr/3", "deep/inside")),
        ("user/name/deep/inside", ("user/name", None, "deep/inside")),
        ("name@main", ("name", "main", "")),
        ("nano-conv", ("nano-conv", None, "")),
        ("/no/such/folder", ("/no/such/folder", None, "")),
    ],
)
def test_names_as_the_hub_spells_them(name: str, parts: tuple[str, str | None, str]) -> None:
    assert split_name(name) == parts
    repo, revision, place = parts
    assert full_name(repo, revision, place) == name


def test_a_card_names_the_repository_alone() -> None:
    text = card({"task": "anomaly"}, "ras", "facebook/dinov2-small@v1/tower", "AnomalyDetector")
    assert "base_model: facebook/dinov2-small\n" in text


def test_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revisions and subfolders come; what is gated, private or misspelt is named, each with what helps."""
    deep = copied("ResNet", tmp_path / "repo" / "towers" / "small")
    main = copied("ViT", tmp_path / "main")
    repositories = {("user/model", "main"): main, ("user/model", "v1"): tmp_path / "repo"}
    closed = {(f"user/{n}", "main"): main for n in ("gated", "private")}
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0")
    facts = {"repositories": repositories | closed, "gated": {"user/gated"}, "private": {"user/private"}}
    with hub(monkeypatch, tmp_path / "cache", **facts):
        assert load_backbone("user/model").sha == load_backbone(main).sha
        named = load_backbone("user/model@v1/towers/small")
        assert (named.name, named.sha) == ("user/model@v1/towers/small", load_backbone(deep).sha)
        asked = load_backbone("user/model", revision="v1", subfolder="towers/small")
        assert (asked.name, asked.sha) == (named.name, named.sha)
        for name, words in (
            ("user/gated", "is gated, .*; accept its terms"),
            ("user/private", "is no repository that this account can see; .* private, set HF_TOKEN"),
            ("user/nothing", "is no repository that this account can see; check its spelling"),
            ("user/model@v9", "'user/model@v9' has no revision 'v9'; check the revision"),
            ("user/model@v1/nowhere", "could not be fetched|has no subfolder"),
        ):
            with pytest.raises(ConfigError, match=words) as refused:
                load_backbone(name)
            assert "\n" not in str(refused.value)
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        with pytest.raises(ConfigError, match="the token is refused; set HF_TOKEN to a valid token"):
            load_backbone("user/private")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert load_backbone("user/private").sha == load_backbone(main).sha
