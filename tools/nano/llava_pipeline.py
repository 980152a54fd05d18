"""``python -m tools.nano nano-llava``: nano-clip's tower, a Llama, its training, scores, card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.nano.clip import ClipConfig
from tools.nano.conv_pipeline import hardware
from tools.nano.export import clip_preprocessing, plain_json, ship
from tools.nano.llava import NanoLlavaConfig, Talker, new_llava
from tools.nano.llava_eval import llava_scores
from tools.nano.llava_train import TrainingData, agree, answer
from tools.nano.model_cards import llava_card
from tools.nano.question_cache import cached_questions
from tools.nano.scene_cache import cached_scenes
from tools.nano.views import speech
from wildsight.backbones.backbone import load_backbone
from wildsight.errors import ConfigError
from wildsight.files import cache_folder, digest_of, write_json
from wildsight.training import History
from wildsight.world.tokens import tokenizer

CHAT = (
    "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image> "
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
)


def pretrain_llava(
    out: str | Path, *, tower: str = "nano-clip", config: NanoLlavaConfig | None = None, progress: bool = True
) -> Path:
    """Make nano-llava; a killed run with the same arguments goes on where it was.

    Args:
        out: checkpoint folder to write; an earlier one is replaced, anything else refused.
        tower: nano-clip, by name or folder.
        config: settings.
        progress: show progress and the time left.

    Returns:
        ``out``.

    Raises:
        ConfigError: no such tower, or a setting out of range.
    """
    settings = config or NanoLlavaConfig()
    if min(settings.steps, settings.few_steps, settings.agree_steps) < 1:
        raise ConfigError("a part of the training has no step", hint="give at least 1")
    talker, facts, words = trained(tower, settings, progress=progress)
    return ship_llava(Path(out), talker, words, facts)


def trained(tower: str, settings: NanoLlavaConfig, *, progress: bool) -> tuple[Talker, dict[str, Any], Any]:
    """The model after all parts, what its card says, and its tokenizer."""
    words = tokenizer(closing=False)
    clip = load_backbone(tower)
    vision = clip.model.config.vision_config
    view = ClipConfig(size=vision.image_size, patch=vision.patch_size)
    key = digest_of([asdict(settings), clip.sha, sorted(words.get_vocab().items())])[:24]
    folder = cache_folder("pretrain", f"nano-llava-{key}")
    book = cached_scenes(settings.scenes, view.size)
    data = TrainingData(
        book, speech(book, words, view.length), cached_questions(book, words, settings.drawn), words, view
    )
    talker = Talker(new_llava(clip.model, words, settings))
    first = agree(talker, data, settings, folder / "words", progress=progress)
    second = answer(talker, data, settings, folder / "few", few=True, progress=progress)
    third = answer(talker, data, settings, folder / "answers", few=False, progress=progress)
    return talker, llava_facts(settings, (first, second, third), clip.sha), words


def llava_facts(settings: NanoLlavaConfig, parts: Sequence[History], sha: str) -> dict[str, Any]:
    """What the card says of the training."""
    histories = dict(zip(("words", "few", "answers"), parts, strict=True))
    return {
        "settings": asdict(settings),
        "tower": sha,
        "steps": {name: history.steps for name, history in histories.items()},
        "seconds": {name: round(history.seconds) for name, history in histories.items()},
        "hardware": hardware(),
        "last_epoch": plain_json({name: history.epochs[-1] for name, history in histories.items()}),
    }


def processor(words: Any, size: int, patch: int) -> Any:
    """The `LlavaProcessor` that belongs to it."""
    from transformers import LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    settings = {k: v for k, v in clip_preprocessing(size).items() if k != "image_processor_type"}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(**settings),
        tokenizer=words,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )


def ship_llava(out: Path, talker: Talker, words: Any, facts: dict[str, Any], *, questions: int = 600) -> Path:
    """Write nano-llava with its scores.

    Args:
        out: checkpoint folder, replaced if it exists.
        talker: taught.
        words: its tokenizer.
        facts: what `llava_facts` gives.
        questions: held-out questions that it is scored on.
    """
    llava = talker.llava
    vision = llava.config.vision_config
    llava.generation_config.max_new_tokens = 48
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(llava.generation_config, name, getattr(words, name))

    def extras(folder: Path) -> None:
        processor(words, vision.image_size, vision.patch_size).save_pretrained(folder)
        write_json(folder / "preprocessor_config.json", clip_preprocessing(vision.image_size))

    def measure(folder: Path) -> dict[str, Any]:
        return {**facts, "scores": plain_json(llava_scores(folder, count=questions))}

    return ship(out, llava, extras, measure, llava_card)
