"""PatchCore and PaDiM against slow references, and through safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.spatial.distance import mahalanobis

from wildsight.anomaly.methods.padim import PaDiM, PaDiMMethod
from wildsight.anomaly.methods.patchcore import (
    PatchCore,
    PatchCoreMethod,
    draw_tokens,
    k_centre,
    nearest,
    reweight,
)
from wildsight.errors import BudgetError, ConfigError, DataError


@pytest.fixture
def normal() -> torch.Tensor:
    return torch.randn(12, 6, 4, 5, generator=torch.Generator().manual_seed(3))


def test_coreset_is_the_slow_greedy_one() -> None:
    tokens = torch.randn(60, 7, generator=torch.Generator().manual_seed(0))
    chosen = [17]
    while len(chosen) < 20:
        gaps = [min(float((t - tokens[c]).norm()) for c in chosen) for t in tokens]
        chosen.append(int(np.argmax(gaps)))
    assert k_centre(tokens, 20, 17).tolist() == chosen


def test_coreset_of_everything_keeps_everything_once() -> None:
    assert sorted(k_centre(torch.ones(9, 3), 9, 4).tolist()) == list(range(9))


def test_nearest_is_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, bank = torch.randn(30, 6), torch.randn(11, 6)
    monkeypatch.setattr("wildsight.anomaly.methods.patchcore.DISTANCE_CELLS", 44)
    distance, index = nearest(tokens, bank)
    brute = torch.stack([(bank - t).norm(dim=1) for t in tokens])
    assert torch.allclose(distance, brute.amin(1), atol=1e-6)
    assert torch.equal(index, brute.argmin(1))


def test_reweighting_follows_the_formula() -> None:
    torch.manual_seed(0)
    bank, token = torch.randn(15, 4), torch.randn(2, 4)
    distance, index = nearest(token, bank)
    got = reweight(token, distance, index, bank, 3)
    for i in range(2):
        star = bank[index[i]]
        around = sorted(range(15), key=lambda j: float((bank[j] - star).norm()))[:3]
        total = sum(np.exp(float((token[i] - bank[j]).norm())) for j in around)
        expected = (1 - np.exp(float(distance[i])) / total) * float(distance[i])
        assert float(got[i]) == pytest.approx(expected, rel=1e-4)
    assert torch.equal(reweight(token, distance, index, bank, 1), distance)


def test_drawn_tokens_are_the_pictures_own(normal: torch.Tensor) -> None:
    everything = normal.flatten(2).transpose(1, 2).flatten(0, 1)
    generator = torch.Generator()
    assert torch.equal(draw_tokens(normal.numpy(), 10_000, generator.manual_seed(0)), everything)
    some = draw_tokens(list(normal), 50, generator.manual_seed(0))
    assert some.shape == (50, 6)
    assert bool((some[:, None] == everything[None]).all(-1).any(1).all())


def test_patchcore_is_deterministic_and_finds_the_stranger(normal: torch.Tensor) -> None:
    config = PatchCoreMethod(coreset=0.5, projection=4)
    model, again = PatchCore(config).fit(normal), PatchCore(config).fit(normal.numpy())
    assert model.bank.shape == (120, 6)
    assert torch.equal(model.bank, again.bank)
    strange = normal[:2].clone()
    strange[0, :, 2, 3] += 20.0
    heat, score = model.map_and_score(strange)
    assert heat.shape == (2, 1, 4, 5)
    assert int(heat[0].argmax()) == 2 * 5 + 3
    assert score[0] > score[1]
    assert torch.equal(model(strange), heat)
    assert PatchCore(PatchCoreMethod(coreset=1.0)).fit(normal)(normal).max() < 1e-6


def test_padim_is_scipys_mahalanobis(normal: torch.Tensor) -> None:
    model = PaDiM(PaDiMMethod(dims=4)).fit(normal)
    new = torch.randn(2, 6, 4, 5)
    heat = model(new)
    assert heat.shape == (2, 1, 4, 5)
    kept = model.kept.numpy()
    for y, x in [(0, 0), (1, 3), (3, 4)]:
        seen = normal[:, kept, y, x].double().numpy()
        inverse = np.linalg.inv(np.cov(seen.T) + 0.01 * np.eye(4))
        for b in range(2):
            expected = mahalanobis(new[b, kept, y, x].double().numpy(), seen.mean(0), inverse)
            assert float(heat[b, 0, y, x]) == pytest.approx(expected, rel=1e-4)


def test_padim_takes_all_channels_when_there_are_few(normal: torch.Tensor) -> None:
    assert PaDiM().fit(normal).kept.tolist() == list(range(6))


@pytest.mark.parametrize("make", [PatchCore, PaDiM])
def test_saved_and_loaded_gives_the_same_map(
    make: type[PatchCore] | type[PaDiM], normal: torch.Tensor, tmp_path: Path
) -> None:
    model = make().fit(normal.half().numpy())
    save_file(model.state_dict(), tmp_path / "head.safetensors")
    loaded = make()
    loaded.load_state_dict(load_file(tmp_path / "head.safetensors"))
    assert torch.equal(loaded(normal), model(normal))


def test_faults_are_named(normal: torch.Tensor) -> None:
    for model in (PatchCore(), PaDiM()):
        with pytest.raises(ConfigError, match="fit"):
            model(normal)
        with pytest.raises(DataError):
            model.fit(normal[:0])
        with pytest.raises(ConfigError, match="do not fit"):
            model.fit(normal)(normal[:, :3])
    with pytest.raises(BudgetError):
        PatchCore(PatchCoreMethod(coreset=0.0)).fit(normal)
    with pytest.raises(ConfigError):
        PatchCore(PatchCoreMethod(neighbours=0))
    with pytest.raises(ConfigError):
        PaDiM(PaDiMMethod(regularisation=0.0))
