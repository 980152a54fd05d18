"""``wildsight compression``: generate, profile, plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wildsight.cli.task import TaskCommands, source_help
from wildsight.compression import defaults

if TYPE_CHECKING:
    from wildsight.compression.evaluation.autotune import Candidate, TunedOptions
    from wildsight.compression.result import CompressedAnswer
    from wildsight.results import Table

app = typer.Typer(help="Make a multimodal LLM faster and smaller.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(help="nano-llava, a local folder, or a hub id.")]
Source = Annotated[str, typer.Argument(help="`world`, a folder, or NAME:PATH (e.g. pope:/data/pope).")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")]
Visual = Annotated[str, typer.Option(help="Who chooses the visual tokens.")]
Kv = Annotated[str, typer.Option(help="How the cache is shared out and ranked.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter of the chosen methods, such as K=7 or window=8; repeat it."),
]


def budget(text: str | None) -> int | float | None:
    """``64`` is a count, ``0.25`` and ``1.0`` are shares.

    >>> budget("64"), budget("0.25"), budget(None)
    (64, 0.25, None)
    """
    from wildsight.errors import BudgetError

    if text is None:
        return None
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise BudgetError(
            f"{text!r} is no budget", hint="give a count like 64 or a share like 0.25"
        ) from None


def _parameters(visual: str, kv: str, texts: list[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``--set`` gives to the method of visual tokens and to that of the cache, checked."""
    from wildsight.compression.config import split_options
    from wildsight.compression.methods.cache.base import CACHE_METHODS
    from wildsight.compression.methods.visual.base import SELECTORS
    from wildsight.estimators.registry import options_from

    visual_options, cache_options = split_options(visual, kv, options_from(texts or ()))
    SELECTORS.create(visual, visual_options)
    CACHE_METHODS.create(kv, cache_options)
    return visual_options, cache_options


@app.command()
def generate(
    model: Model,
    image: Annotated[Path, typer.Argument(help="A picture.")],
    prompt: Annotated[str, typer.Argument(help="What to ask about it.")],
    visual_tokens: Annotated[str | None, typer.Option(help="Tokens per image: 64, or a share: 0.25.")] = None,
    kv_cache: Annotated[str | None, typer.Option(help="Share of the cache: 0.3, or tokens a layer.")] = None,
    visual: Visual = defaults.SELECTOR,
    kv: Kv = defaults.CACHE,
    parameter: Parameters = None,
    profile: Annotated[Path | None, typer.Option(help="Layer sizes from `compression profile`.")] = None,
    settings: Annotated[Path | None, typer.Option(help="Settings from `compression plan`.")] = None,
    positions: Annotated[str, typer.Option(help="compact or original.")] = defaults.POSITIONS,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    figure: Annotated[Path | None, typer.Option(help="Picture of what was kept.")] = None,
    repeats: Annotated[int, typer.Option(min=0, help="Timed runs; 0 leaves the cost out.")] = 3,
    device: Device = "auto",
    precision: Precision = "auto",
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/compression-generate"),
) -> None:
    """Answer PROMPT about IMAGE, with and without compression, and say what it cost."""
    from wildsight.backbones.vlm import load_model
    from wildsight.cli.common import finish
    from wildsight.compression.evaluation.autotune import TunedOptions
    from wildsight.compression.reports import write_answer
    from wildsight.compression.result import answer
    from wildsight.errors import ConfigError

    visual_options, cache_options = _parameters(visual, kv, parameter)
    options: dict[str, Any] = {
        "visual_tokens": budget(visual_tokens),
        "kv_cache": budget(kv_cache),
        "visual": visual,
        "visual_options": visual_options,
        "cache": kv,
        "cache_options": cache_options,
        "positions": positions,
    }
    loaded = load_model(model, device=device, precision=precision)
    if settings is not None:
        found = TunedOptions.load(settings)
        if found.sha != loaded.sha:
            raise ConfigError(f"were found on {found.model}", where=settings, hint="plan for this model")
        options = found.options()
    if options["visual_tokens"] is None and options["kv_cache"] is None:
        options["visual_tokens"], options["kv_cache"] = 0.25, 0.4
    result = answer(
        loaded, image, prompt, max_new_tokens=max_new_tokens, repeats=repeats,
        profile=profile, **options,
    )  # fmt: skip
    _say(result)
    if figure is not None:
        _save(result, figure)
    finish(write_answer(result, options, out))


def _save(result: CompressedAnswer, path: Path) -> None:
    from wildsight.files import atomic_path

    kind = path.suffix.lstrip(".").lower() or "png"
    with atomic_path(path) as temporary:
        result.figure().savefig(temporary, format=kind, dpi=110)


def _say(result: CompressedAnswer) -> None:
    from wildsight.cli.common import tell

    kept, before = result.visual_tokens
    lines = [
        f"answer: {result.answer}",
        f"full model's answer: {result.full_answer}",
        f"visual tokens: {kept} of {before}",
    ]
    if result.saliency:
        lines.append(f"saliency from: {result.saliency}")
    if result.layers:
        depth = len(result.layers)
        read, whole = result.cache_tokens * depth, (result.cache_tokens + before - kept) * depth
        dropped = f", {whole} with the whole picture" if whole > read else ""
        lines.append(f"cache: {sum(result.layers)} tokens over {depth} layers; uncompressed {read}{dropped}")
    for name in ("first_token_ms", "token_ms", "cache_bytes"):
        if name in result.cost:
            own, full = result.cost[name], result.cost[f"full {name}"]
            lines.append(f"{name}: {own:.4g} (full {full:.4g}, {full / own:.2f}x)")
    if "first_token_limit" in result.cost:
        lines.append(f"first token, at most by the products counted: {result.cost['first_token_limit']:.2f}x")
    tell(lines)


@app.command()
def profile(
    model: Annotated[str, typer.Argument(help="A model; with --published, any name.")] = "nano-llava",
    source: Source = "world",
    out: Annotated[Path, typer.Option(help="The profile's file.")] = Path("runs/profile.json"),
    how: Annotated[str, typer.Option(help="prefix or sensitivity.")] = "prefix",
    samples: Annotated[int, typer.Option(min=1, help="Pictures to look at.")] = 10,
    scorer: Annotated[str, typer.Option(help="Key scorer, for sensitivity.")] = "attention",
    parameter: Parameters = None,
    published: Annotated[
        list[Path] | None, typer.Option(help="Import published PrefixKV lists; repeat it.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Find the layer sizes of MODEL on a few pictures of SOURCE, or import published ones."""
    from wildsight.cli.common import console
    from wildsight.compression.profile import Profile
    from wildsight.estimators.registry import options_from

    if published:
        found = Profile.from_published(published)
    else:
        from wildsight.backbones.vlm import load_model
        from wildsight.compression.evaluation.layer_profiles import find_profile

        loaded = load_model(model, device=device, precision=precision)
        found = find_profile(
            loaded, source, how=how, samples=samples, scorer=scorer, options=options_from(parameter or ())
        )
    found.save(out)
    table = _profile_table(found)
    console.print(table.rich())
    console.print(f"profile: {out}", markup=False, soft_wrap=True, highlight=False)


def _profile_table(found: Any) -> Table:
    from wildsight.results import Table

    budgets = sorted(found.budgets)
    rows = [[layer, *(f"{found.budgets[b][layer]:.3f}" for b in budgets)] for layer in range(found.layers)]
    return Table(["layer", *(f"{b:g}" for b in budgets)], rows)


@app.command()
def plan(
    model: Model,
    source: Source = "world",
    target: Annotated[str, typer.Option(help="How many times cheaper: 2x.")] = "2x",
    max_drop: Annotated[str, typer.Option(help="Accuracy that may be lost: 1%.")] = "1%",
    measure: Annotated[str, typer.Option(help="What gets cheaper: time or memory.")] = "time",
    count: Annotated[int, typer.Option(min=1, help="Questions to try on.")] = 200,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Length of the timed answer.")] = 16,
    visual: Visual = defaults.SELECTOR,
    kv: Kv = defaults.CACHE,
    parameter: Parameters = None,
    device: Device = "auto",
    precision: Precision = "auto",
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/compression-plan"),
) -> None:
    """Search visual tokens and cache together on SOURCE's questions, and write OUT/settings.json."""
    from wildsight.backbones.vlm import load_model
    from wildsight.cli.common import finish
    from wildsight.compression.evaluation import questions
    from wildsight.compression.evaluation.autotune import plan as find
    from wildsight.compression.evaluation.autotune import read_drop, read_target

    wanted, allowed = read_target(target), read_drop(max_drop)
    chosen, kept = _parameters(visual, kv, parameter)
    parameters = chosen | kept
    loaded = load_model(model, device=device, precision=precision)
    data = questions.read_source(source, count, loaded.image_size or questions.SIZE)
    settings, candidates = find(
        loaded, data, wanted, allowed, visual=visual, kv=kv, parameters=parameters,
        measured=measure, answer_tokens=answer_tokens,
    )  # fmt: skip
    settings.save(out / "settings.json")
    finish(_plan_report(settings, candidates, data.protocol, out))


def _plan_report(
    settings: TunedOptions, candidates: list[Candidate], protocol: dict[str, Any], out: Path
) -> Path:
    from dataclasses import asdict

    from wildsight.cli.common import console
    from wildsight.report import Report
    from wildsight.results import RunFolder, Table, environment, write_csv

    folder = RunFolder(out)
    rows = [asdict(c) for c in candidates]
    write_csv(folder.results, rows)
    folder.write_scores({"chosen": asdict(settings), "tried": rows, "environment": environment()})
    table = Table(
        list(rows[0]), [[f"{v:.3f}" if isinstance(v, float) else v for v in r.values()] for r in rows]
    )
    console.print(table.rich())
    line = f"chosen: {settings.visual_tokens or 'all'} tokens per image, cache {settings.kv_cache or 'whole'}"
    console.print(line, markup=False, soft_wrap=True, highlight=False)
    report = Report("Compression plan", line)
    report.table(table, "Tried: gain over the full model, accuracy, its drop and the drop's 95 % interval")
    report.facts({**settings.measured, **protocol, **environment()})
    return report.save(folder.report)


TaskCommands(task="compression", app=app, source=source_help("pope:/data/pope")).add(
    "check", "bench", "methods"
)
