"""Every parameter of every method from Python, command and bench; one default in one place; no circle."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from compression_models import llama, llava, llava_inputs
from wildsight.cli import main
from wildsight.compression import (
    CACHE_METHODS,
    SELECTORS,
    CompressionConfig,
    KVSettings,
    VisualSelector,
    compress,
    defaults,
    prune_visual_tokens,
)
from wildsight.compression.cache import build_cache
from wildsight.compression.config import split_options
from wildsight.compression.evaluation.autotune import TunedOptions, plan, search
from wildsight.compression.evaluation.bench import bench
from wildsight.compression.evaluation.bench_plan import Plan, cache_entry, visual_entry
from wildsight.compression.evaluation.evaluate import ask_cache, ask_visual
from wildsight.compression.families import family_of
from wildsight.compression.image_tokens import ImageView, Selection
from wildsight.compression.methods.cache.base import CacheMethod, Crossed
from wildsight.compression.methods.cache.prefixkv import PrefixKV, with_profile
from wildsight.compression.methods.cache.pyramidkv import PyramidKV
from wildsight.compression.methods.cache.snapkv import SnapKV
from wildsight.compression.methods.visual.fastv import FastV
from wildsight.compression.methods.visual.vtc_cls import VTCCLS, ensemble
from wildsight.compression.profile import Profile
from wildsight.errors import BudgetError, ConfigError, UnsupportedModelError

GREEDY = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
PROFILE = Profile("tiny", "prefix", {0.5: (0.8, 0.5, 0.2)})


# -- K of VTC-CLS -----------------------------------------------------------------------------------------


def test_K_layers_are_read_and_used() -> None:
    """A tower of 12 layers: K = 7 is the mean of the seven layers up to the features, not of five."""
    model = llava(vision_layers=12)
    inputs = llava_inputs()
    with torch.no_grad():
        model.set_attn_implementation("eager")
        maps = model.model.vision_tower(inputs["pixel_values"], output_attentions=True).attentions
    for K in (1, 5, 7, 11):
        pruned = prune_visual_tokens(model, inputs, 6, VTCCLS(K=K))
        for number, (picture, chosen) in enumerate(zip(pruned.pictures, pruned.selections, strict=True)):
            wanted = torch.stack([a[number, :, 0, 1:].mean(dim=0) for a in maps[11 - K : 11]])
            assert picture.view.rows.shape[0] == K
            assert torch.allclose(picture.view.rows, wanted, atol=1e-6)
            best = ensemble(wanted).sort(descending=True, stable=True).indices[:6].sort().values
            assert torch.equal(chosen.keep, best)


@pytest.mark.parametrize("name", ["vtc-cls", "hybrid"])
def test_K_above_the_depth_is_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigError, match="9 vision layers is asked for, and 4 lead up"):
        compress(llava(), visual_tokens=4, visual=name, visual_options={"K": 9})
    with pytest.raises(ConfigError, match="9 vision layers"):
        prune_visual_tokens(llava(), llava_inputs(), 4, name, options={"K": 9})
    with pytest.raises(ConfigError, match="K=0 is out of range; give at least 1"):
        SELECTORS.create(name, {"K": 0})


def test_a_tower_without_cls_has_one_row_whatever_K_is() -> None:
    model = llava(tower="siglip_vision_model")
    with compress(model, visual_tokens=4, visual=VTCCLS(K=7)) as handle:
        model.generate(**llava_inputs(), **GREEDY)
    assert handle.pruned is not None and handle.pruned.pictures[0].view.rows.shape[0] == 1


def test_a_picture_encoded_for_fewer_layers_is_refused() -> None:
    model, inputs = llava(), llava_inputs()
    pictures = family_of(model).encode(model, inputs, 2)
    assert pictures[0].view.rows.shape[0] == 2
    with pytest.raises(ConfigError, match="encode the picture with layers=3"):
        prune_visual_tokens(model, inputs, 4, "vtc-cls", encoded_pictures=pictures)
    assert family_of(model).encode(model, inputs)[0].view.rows.shape[0] == 4
    assert family_of(model).encode(model, inputs, 0)[0].view.rows.shape[0] == 0


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_what_a_selector_reads_is_all_it_uses(name: str) -> None:
    """`saliency_layers` of every selector is enough for it, and one layer less is not."""
    method = SELECTORS.create(name)
    if not isinstance(method, VisualSelector):
        return
    draw = torch.Generator().manual_seed(0)
    features, rows = torch.randn(25, 8, generator=draw), torch.rand(5, 25, generator=draw)
    enough = ImageView(features, rows[5 - method.saliency_layers :], "cls")
    assert method.select(enough, 7).keep.numel() == 7
    if method.saliency_layers:
        with pytest.raises((ConfigError, UnsupportedModelError)):
            method.select(ImageView(features, rows[6 - method.saliency_layers :], "cls"), 7)


# -- three ways to give a parameter -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"visual": VTCCLS(K=4)},
        {"visual": "vtc-cls", "visual_options": {"K": 4}},
        {"visual": "vtc-cls", "K": 4},
    ],
)
def test_a_selector_s_parameters(options: dict[str, Any]) -> None:
    with compress(llava(), visual_tokens=4, **options) as handle:
        assert handle.visual == VTCCLS(K=4)


@pytest.mark.parametrize(
    "options",
    [
        {"cache": SnapKV(window=4, start=2)},
        {"cache": "snapkv", "cache_options": {"window": 4, "start": 2}},
        {"kv": "snapkv", "window": 4, "start": 2},
        {"cache": "snapkv", "window": 4, "start": 2},
    ],
)
def test_a_cache_method_s_parameters(options: dict[str, Any]) -> None:
    with compress(llama(), kv_cache=0.5, **options) as handle:
        assert handle.settings is not None and handle.settings.method == SnapKV(window=4, start=2)
        assert handle.new_cache().ragged[0].scorer.window == 4


def test_pairs_take_the_parameters_of_both() -> None:
    made = CACHE_METHODS.create("prefix/window", {"window": 4, "rounding": "published", "start": 2})
    assert isinstance(made, Crossed) and made.title == "prefix/window"
    assert made.ranking == SnapKV(window=4, start=2)
    assert made.sizing == PrefixKV(rounding="published", start=2)
    assert made.start == 2 and made.floor == 3 and made.online
    assert CACHE_METHODS.create("pyramid/attention-mean", {"beta": 5.0}).title == "pyramid/attention-mean"
    assert with_profile(made, PROFILE).shares(0.5, 3) == PROFILE.shares(0.5, 3)
    with pytest.raises(ConfigError, match="unknown hyper-parameter 'betta'; did you mean 'beta'"):
        CACHE_METHODS.create("pyramid/window", {"betta": 3})
    with pytest.raises(ConfigError, match="did you mean 'window'"):
        CACHE_METHODS.create("prefix/windows")
    with pytest.raises(ConfigError, match="did you mean 'prefix'"):
        CACHE_METHODS.create("prefi/window")


def test_the_flat_settings_of_before() -> None:
    assert KVSettings(0.5, sizes="uniform", scorer="window", window=8).method.title == "uniform/window"
    assert KVSettings(0.5, "pyramidkv", beta=9.0).method == PyramidKV(beta=9.0)
    assert KVSettings(0.5) == KVSettings(0.5, PrefixKV())
    assert dataclasses.replace(KVSettings(0.5, SnapKV()), keep=0.3) == KVSettings(0.3, "snapkv")
    for options in ({"sizes": "no"}, {"heads": "no"}, {"rounding": "no"}, {"method": "h2o", "scorer": "mix"}):
        with pytest.raises(ConfigError):
            KVSettings(0.5, **options)


@pytest.mark.parametrize("registry", [SELECTORS, CACHE_METHODS])
def test_every_parameter_of_every_method_is_reached_by_name(registry: Any) -> None:
    for name, kind in registry.items():
        for field in dataclasses.fields(kind):
            if field.default is not None:
                made = registry.parse(f"{name}[{field.name}={str(field.default).lower()}]")
                assert made.method == registry.create(name), (name, field.name)
        assert inspect.getdoc(kind), name
        made = registry.create(name)
        assert dataclasses.is_dataclass(made) and kind.__dataclass_params__.frozen


def test_each_method_is_imported_by_its_class() -> None:
    import wildsight.compression as package

    for registry in (SELECTORS, CACHE_METHODS):
        for kind in registry.values():
            assert getattr(package, kind.__name__) is kind
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = package.Nonsense


# -- what is refused, and when ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"visual_tokens": 4, "windoww": 3}, "unknown keyword 'windoww'; did you mean 'window'"),
        ({"kv_cache": 0.5, "windoww": 3}, "unknown keyword 'windoww'; did you mean 'window'"),
        ({"visual_tokens": 4, "visuall": "vtc-cls"}, "did you mean 'visual'"),
        ({"visual_tokens": 4, "K": 7}, "'K' is a parameter of hybrid, vtc-cls, fastv"),
        ({"kv_cache": 0.5, "window": 8}, "'window' is a parameter of snapkv, pyramidkv, mixkv"),
        ({"visual_tokens": 4, "start": 2}, "start is for the cache, and all are kept; give kv_cache too"),
        ({"kv_cache": 0.5, "alpha": 0.1}, "alpha is for the visual tokens"),
        ({"visual_tokens": 4, "visual": "vtc-clss"}, "did you mean 'vtc-cls'"),
        ({"kv_cache": 0.5, "cache": "snapk"}, "did you mean 'snapkv'"),
        ({"visual_tokens": 4, "visual_options": {"alpa": 1}}, "did you mean 'alpha'"),
        ({"visual_tokens": 4, "visual": VTCCLS(), "visual_options": {"K": 1}}, "carries its parameters"),
        ({"visual_tokens": 4, "visual": "vtc-cls", "K": "many"}, "not a whole number"),
        ({"visual_tokens": 4, "positions": "any"}, "use one of compact, original"),
        ({"visual_tokens": 4, "visual": "fastv", "K": 3}, r"K=3 is outside \[1, 2\]"),
        ({"kv_cache": 0.5, "cache": "snapkv", "window": 0}, "window=0 is out of range"),
        ({"kv_cache": 0.5, "cache": "snapkv", "kernel": 4}, "give an odd number"),
        ({"kv_cache": 0.5, "cache": "h2o", "kv": "h2o"}, "two names"),
        ({"kv_cache": 0.5, "cache": "h2o", "profile": PROFILE}, "unknown hyper-parameter 'profile'"),
        ({"visual_tokens": 4, "kv_cache": 0.5, "visual": "fastv"}, "do not combine"),
    ],
)
def test_a_wrong_word_is_refused_at_once(options: dict[str, Any], said: str) -> None:
    model = llava()
    before = set(model.__dict__)
    with pytest.raises(ConfigError, match=said):
        compress(model, **options)
    assert set(model.__dict__) == before


def test_fastv_is_refused_where_pictures_differ() -> None:
    with pytest.raises(UnsupportedModelError, match="FastV"):
        compress(llava(next_=True), visual_tokens=4, visual="fastv")
    with pytest.raises(ConfigError, match="inside the language model"):
        prune_visual_tokens(llava(), llava_inputs(), 4, "fastv")
    with (
        compress(llava(), visual_tokens=4, visual="fastv") as handle,
        pytest.raises(ConfigError, match="no inputs"),
    ):
        handle.prune(llava_inputs())


def test_a_profile_by_its_file(tmp_path: Path) -> None:
    file = PROFILE.save(tmp_path / "p.json")
    model = llava()
    for options in ({"profile": file}, {"cache_options": {"profile": str(file)}}, {"profile": PROFILE}):
        with compress(model, kv_cache=0.5, **options) as handle:
            assert handle.settings is not None and not handle.settings.online
            model.generate(**llava_inputs(), **GREEDY)
    with pytest.raises(BudgetError, match="layers"):
        build_cache(llama(layers=4), KVSettings(0.5, PrefixKV(profile=PROFILE)))


# -- one default in one place -----------------------------------------------------------------------------


def default_of(call: Any, name: str) -> Any:
    return inspect.signature(call).parameters[name].default


def test_the_bench_measures_what_compress_ships() -> None:
    """The bench's defaults are those of `compress`, of autotune and of the command."""
    from wildsight.cli.compression import generate
    from wildsight.cli.compression import plan as plan_command

    shipped = compress(llava(), visual_tokens=4, kv_cache=0.5)
    config = shipped.config
    shipped.remove()
    entry = visual_entry(defaults.SELECTOR, {})
    assert entry.method == config.visual
    assert config.cache is not None and cache_entry("prefixkv-online", {}).method == config.cache.method
    assert default_of(bench, "positions") == config.positions == default_of(compress, "positions")
    for call in (ask_visual, ask_cache, prune_visual_tokens):
        assert default_of(call, "positions") == config.positions
    for name in SELECTORS:
        assert visual_entry(name, {}).method == CompressionConfig.of(4, visual=name).visual
    for name in CACHE_METHODS:
        kept = CompressionConfig.of(None, 0.5, cache=name).cache
        assert kept is not None and cache_entry(name, {}).method == kept.method
    for call in (search, plan, generate, plan_command):
        assert default_of(call, "visual") == defaults.SELECTOR == default_of(compress, "visual")
        assert default_of(call, "kv") == defaults.CACHE == default_of(compress, "cache")
    assert default_of(generate, "positions") == config.positions
    assert default_of(bench, "window") is None


def test_the_settings_of_the_committed_tables_are_reached() -> None:
    """``--set positions=original --set window=8``."""
    made = Plan.of(["snapkv", "mixkv", "prefix/window", "h2o", "random"], (4,), (0.5,), 1, window=8)
    windows = [getattr(getattr(e.method, "ranking", e.method), "window", None) for e in made.cache]
    assert windows == [8, 8, 8, None, None]
    assert Plan.of(["vtc-cls"], (4,), (0.5,), 1, window=8) == Plan.of(["vtc-cls"], (4,), (0.5,), 1)


def test_bench_names_carry_parameters() -> None:
    made = Plan.of(
        ["vtc-cls[K=7]", "vtc-cls", "snapkv[window=32]", "sensitivity/window"], (4,), (0.5,), 3, {"K": 2}
    )
    assert [e.text for e in made.visual] == ["vtc-cls[K=7]", "vtc-cls", "random"]
    assert [getattr(e.method, "K", None) for e in made.visual] == [7, 2, None]
    assert [e.sizes for e in made.cache] == ["", "sensitivity", ""]
    assert list(made.seeds_of(made.visual[2])) == [0, 1, 2] and list(made.seeds_of(made.visual[0])) == [0]
    assert cache_entry("prefixkv", {}).sizes == "prefix" and cache_entry("prefixkv-online", {}).sizes == ""
    for methods, parameters, said in (
        (["vtc-cls[k=7]"], {}, "unknown hyper-parameter 'k'"),
        (["vtc-clss"], {}, "did you mean 'vtc-cls'"),
        (["vtc-cls@1e-3"], {}, "learning rate"),
        (["vtc-cls"], {"windoww": 8}, "unknown option of this bench 'windoww'"),
        (None, {"windoww": 8}, "did you mean 'window'"),
        (["scope"], {"K": 7}, "unknown option of this bench 'K'"),
    ):
        with pytest.raises(ConfigError, match=said):
            Plan.of(methods, (4,), (0.5,), 1, parameters)


def test_rows_stand_in_the_order_of_the_committed_tables() -> None:
    made = Plan.of(None, (4,), (0.5,), 1)
    assert [e.text for e in made.visual] == list(SELECTORS)
    texts = [e.text for e in made.cache]
    assert texts[: len(CACHE_METHODS)] == list(CACHE_METHODS)
    assert texts[len(CACHE_METHODS) :] == [
        "prefix/window", "prefixkv-online", "sensitivity/attention", "sensitivity/window",
    ]  # fmt: skip


def test_parameters_find_their_method() -> None:
    assert split_options("vtc-cls", "snapkv", {"K": 7, "window": 8}) == ({"K": 7}, {"window": 8})
    assert split_options(FastV(), PyramidKV(), {"K": 1, "beta": 2.0}) == ({"K": 1}, {"beta": 2.0})


def test_tuned_options_of_before_are_read(tmp_path: Path) -> None:
    """A settings file that was written before methods had parameters."""
    from wildsight.files import write_json

    old = {"format": 1, "model": "m", "sha": "s", "visual_tokens": 8, "kv_cache": None, "visual": "hybrid",
           "kv": "prefixkv", "measured": {}, "positions": "original"}  # fmt: skip
    write_json(tmp_path / "old.json", old)
    found = TunedOptions.load(tmp_path / "old.json")
    assert CompressionConfig.of(**found.options()).positions == "original"
    more = dataclasses.replace(found, visual_options={"K": 2}, kv_options={"rounding": "exact"})
    again = TunedOptions.load(more.save(tmp_path / "new.json"))
    assert CompressionConfig.of(**again.options()).visual == SELECTORS.create("hybrid", {"K": 2})


def call(words: list[str]) -> int:
    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compression", "generate", "m", "p.png", "x", "--set", "K=7"], "'K' is a parameter of hybrid"),
        (["compression", "generate", "m", "p.png", "x", "--visual", "vtc-cls", "--set", "KK=7"], "KK"),
        (["compression", "plan", "m", "--set", "windoww=7"], "did you mean 'window'"),
        (["bench", "compression", "--set", "windoww=7"], "did you mean 'window'"),
        (["bench", "compression", "--set", "positions=any"], "use one of compact, original"),
        (["bench", "compression", "--method", "vtc-cls[KK=7]"], "KK"),
    ],
)
def test_commands_refuse_before_anything_is_loaded(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*words, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


# -- a method of one's own, and the shape of the package --------------------------------------------------


def test_a_new_method_is_one_class() -> None:
    @dataclasses.dataclass(frozen=True)
    class LastTokens(VisualSelector):
        """The last tokens."""

        step: int = 1

        def select(self, view: ImageView, count: int) -> Selection:
            n = view.features.shape[0]
            return Selection(torch.arange(n - count * self.step, n, self.step))

    with compress(llava(), visual_tokens=4, visual=LastTokens(step=2)) as handle:
        handle.model.generate(**llava_inputs(), **GREEDY)
    assert handle.pruned is not None
    assert handle.pruned.selections[0].keep.tolist() == [8, 10, 12, 14]
    assert isinstance(CACHE_METHODS.create("h2o"), CacheMethod)


def imports() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports anywhere, under TYPE_CHECKING and in functions too."""
    import wildsight.compression as package

    root = Path(str(package.__file__)).parent
    names = {}
    for file in sorted(root.rglob("*.py")):
        parts = ["wildsight", "compression", *file.relative_to(root).with_suffix("").parts]
        names[".".join(parts).removesuffix(".__init__")] = file
    edges: dict[str, set[str]] = {name: set() for name in names}
    for name, file in names.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found = []
            if isinstance(node, ast.ImportFrom) and node.module:
                found = [f"{node.module}.{a.name}" for a in node.names]
                found = [f if f in names else node.module for f in found]
            elif isinstance(node, ast.Import):
                found = [a.name for a in node.names]
            edges[name] |= {f for f in found if f in names and f != name}
    return edges


def test_no_circle_between_any_two_files() -> None:
    edges = imports()
    while free := [name for name, wanted in edges.items() if not wanted & set(edges)]:
        edges = {name: wanted for name, wanted in edges.items() if name not in free}
    assert not edges
