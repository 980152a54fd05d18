"""Which epoch is kept: synthetic defects, the keeper of the best, the oracle's warning, devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.overrides import TorchFunctionMode

from wildsight.anomaly import AnomalyDetector
from wildsight.anomaly.data import AnomalySample
from wildsight.anomaly.features import NeckConfig
from wildsight.anomaly.methods import METHODS
from wildsight.anomaly.scoring import figures, score_tokens
from wildsight.anomaly.select import Selector, cut_paste, held_back, synthetic_score
from wildsight.cli import main
from wildsight.datasets.masks import resize_mask
from wildsight.errors import ConfigError

NECK = NeckConfig(image_size=64, strides=(4, 8))
SMALL = {"d": 16, "heads": 2, "ffn": 16, "encoder_layers": 1, "decoder_steps": 1, "kernel": 3}


def picture(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_cut_paste_changes_the_mask_and_nothing_else() -> None:
    draw, shares = np.random.default_rng(0), []
    for seed in range(20):
        before = picture(seed)
        after, mask = cut_paste(before, draw)
        changed = (np.asarray(before) != np.asarray(after)).any(axis=2)
        assert not (changed & ~mask).any() and changed[mask].mean() > 0.9
        rows, columns = np.nonzero(mask)
        assert mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        shares.append(mask.mean())
    assert min(shares) > 0.01 and max(shares) < 0.12


def test_cut_paste_comes_from_its_generator_and_small_pictures_pass() -> None:
    first, again = (cut_paste(picture(1), np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(np.asarray(first[0]), np.asarray(again[0])) and (first[1] == again[1]).all()
    assert cut_paste(picture(1, 4, 4), np.random.default_rng(0))[1].any()


def test_resize_mask_is_nearest() -> None:
    mask = np.random.default_rng(0).random((60, 90)) > 0.5
    small = Image.fromarray(mask).resize((30, 20), Image.Resampling.NEAREST)
    assert (resize_mask(mask, (20, 30)) == np.asarray(small)).all()


def test_held_back_is_a_tenth_and_parts_the_rest() -> None:
    learn = np.arange(5, 105)
    rest, held = held_back(learn, 3)
    assert len(held) == 10 and sorted([*rest, *held]) == learn.tolist()
    assert (held_back(learn, 3)[1] == held).all() and (held_back(learn, 4)[1] != held).any()


def test_synthetic_score_is_one_for_a_perfect_detector() -> None:
    masks = np.zeros((4, 8, 8), np.bool_)
    masks[2:, 2:4, 2:4] = True
    maps = masks.astype(np.float32)
    assert synthetic_score(["a", "b"], maps.max(axis=(1, 2)), maps, masks) == 1.0
    assert synthetic_score(["a", "b"], 1 - maps.max(axis=(1, 2)), 1 - maps, masks) == 0.0


def test_selector_keeps_the_best_and_survives_a_restart(tmp_path: Path) -> None:
    model, scores = nn.Linear(1, 1), iter([0.5, 0.9, 0.7])
    keep = Selector(lambda _: next(scores), tmp_path / "best")
    for value in (1.0, 2.0, 3.0):
        nn.init.constant_(model.weight, value)
        keep(model)
    again = Selector(lambda _: 0.8, tmp_path / "best")
    assert again(model) == pytest.approx(0.2) and again.best == 0.9
    for selector in (keep, again):
        nn.init.zeros_(model.weight)
        selector.restore(model)
        assert model.weight.item() == 2.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("select")
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(root / "network")
    for part, count in (("train/good", 24), ("test/good", 4), ("test/spot", 4)):
        folder = root / "data" / "part" / part
        folder.mkdir(parents=True)
        for i in range(count):
            picture(i + len(part)).save(folder / f"{i}.png")
    return root


def fitted(root: Path, **settings: Any) -> AnomalyDetector:
    detector = AnomalyDetector("ras", str(root / "network"), hyper=SMALL, neck=NECK)
    return detector.fit(f"mvtec-ad:{root / 'data'}", epochs=3, progress=False, **settings)


def test_validation_chooses_among_the_epochs(root: Path) -> None:
    detector = fitted(root, select="val")
    assert detector.history is not None and len(detector.history.curve("validation")) == 3
    assert detector.fitted_on["good"] + detector.fitted_on["held_out"] == 22
    assert "synthetic" in detector.fitted_on["selection"]
    with pytest.raises(ConfigError, match="last, val, test"):
        fitted(root, select="luck")


def test_an_oracle_says_so(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, network = f"mvtec-ad:{root / 'data'}", str(root / "network")
    assert fitted(root).evaluate(source).protocol["selection"].startswith("last epoch")
    oracle = fitted(root, select="test")
    oracle.save_pretrained(tmp_path / "c")
    loaded = AnomalyDetector.from_pretrained(tmp_path / "c")
    assert loaded.evaluate(source).protocol["selection"].startswith("ORACLE")
    main_words = ["anomaly", "evaluate", str(tmp_path / "c"), source, "--out", str(tmp_path / "e")]
    with pytest.raises(SystemExit):
        main(main_words)
    assert "warning: ORACLE" in capsys.readouterr().out
    assert "ORACLE" in (tmp_path / "e" / "report.html").read_text()
    with pytest.raises(SystemExit) as end:
        main(["anomaly", "fit", source, "--backbone", network, "--select", "test"])
    assert end.value.code == 2 and "--reproduce-paper" in capsys.readouterr().err


class OffTheDevice(TorchFunctionMode):
    """Behaves as a GPU does: only what went through ``.cpu()`` may become numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.home: set[int] = set()
        self.kept: list[torch.Tensor] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        if function is torch.Tensor.numpy and id(arguments[0]) not in self.home:
            raise TypeError("can't convert a device tensor to numpy")
        out = function(*arguments, **(named or {}))
        if function is torch.Tensor.cpu:
            out = out.clone()
            self.home.add(id(out))
            self.kept.append(out)  # keeps the id from being used again
        return out


@pytest.mark.parametrize("name", sorted(METHODS))
def test_scoring_never_takes_numpy_off_a_device(name: str) -> None:
    hyper = SMALL if name == "ras" else {"d": 16, "heads": 2, "ffn": 16, "kernel": 3}
    method = METHODS.create(name, hyper if METHODS[name].trained else {}).on(6, (8, 8), 0)
    head = method.head()
    features = torch.randn(20, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    if not method.trained:
        head.fit(features)
    expected = score_tokens(method, head.eval(), features, 64)
    with OffTheDevice() as mode, pytest.raises(TypeError):
        features.numpy()
    with OffTheDevice() as mode:
        found = score_tokens(method, head, features, 64)
    assert len(mode.home) == 4
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_detector_moves_to_the_gpu_and_back(root: Path) -> None:
    detector = fitted(root)
    file = next((root / "data" / "part" / "test" / "spot").iterdir())
    here = detector.predict(file)[0]
    there = detector.to("cuda").predict(file)[0]
    assert there.score == pytest.approx(here.score, rel=1e-3)


def test_a_defect_that_vanishes_when_its_mask_is_resized_is_named_and_stays_a_defect(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[0, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    picture, mask = tmp_path / "a.png", (tmp_path / "mask.png",)
    samples = [
        AnomalySample(picture, mask, 1, "c", "hole", "test"),
        AnomalySample(picture, (), 0, "c", "good", "test"),
    ]
    rows, faults = figures(samples, np.array([2.0, 1.0]), np.zeros((2, 8, 8), np.float32))
    assert rows[0]["image_auroc"] == 1.0 and rows[0]["pixel_auroc"] is None
    assert len(faults) == 1 and "no pixel of its defect is left at 8 x 8" in faults[0]
