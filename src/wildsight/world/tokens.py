"""The world's words, and a real tokenizer for them."""

from __future__ import annotations

from typing import Any

from wildsight.world.language import NUMBERS, plural
from wildsight.world.scene import COLOURS, FLOORS, MATERIALS, MODELS, SHAPES, SIZES

SPECIAL: tuple[str, ...] = (
    "<pad>",
    "<unk>",
    "<bos>",
    "<eos>",
    "<image>",
)  # eos: not 2, which CLIP reads otherwise
_GRAMMAR = """
a an the is are there of and or on in to than with as what which how many where does have same this next not
object objects colour material shape size floor left right front behind near nearer nearest closest far away
from larger smaller more fewer yes no none metres distance camera between at high wide long length height turn
width centre photo picture sketch drawing image thermal night fog depth good defect scratch stain crack
missing wrong part deformed foreign texture bolt washer cable tile cap board fabric
"""
_MARKS = (",", ".", "?", ":", "-", *"0123456789")


def _vocabulary() -> tuple[str, ...]:
    nouns = (*SHAPES, *MODELS)
    words = (
        *_MARKS,
        *_GRAMMAR.split(),
        *NUMBERS,
        *SIZES,
        *COLOURS,
        *MATERIALS,
        *FLOORS,
        *nouns,
        *map(plural, nouns),
    )
    return tuple(dict.fromkeys(words))


WORDS: tuple[str, ...] = _vocabulary()


def tokenizer(*, closing: bool = True) -> Any:
    """A `transformers.PreTrainedTokenizerFast` over `SPECIAL` and `WORDS`, one token a word, a digit or a
    mark.

    Args:
        closing: end every text with ``<eos>``, as a text encoder wants it; a prompt to be continued wants
        it off.
            ``<bos>`` always stands first, ``<pad>`` pads on the right.

    >>> ids = tokenizer()("a red cube").input_ids
    >>> tokenizer().decode(ids, skip_special_tokens=True)
    'a red cube'
    """
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    table = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    core = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    core.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    core.normalizer = normalizers.Lowercase()
    digits = pre_tokenizers.Digits(individual_digits=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), digits])
    ends = [(word, table[word]) for word in ("<bos>", "<eos>")]
    form = "<bos> $A <eos>" if closing else "<bos> $A"
    core.post_processor = processors.TemplateProcessing(single=form, special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
