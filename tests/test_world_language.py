"""What is said about a scene is true of it, and the tokenizer gives it back."""

from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wildsight.errors import ConfigError
from wildsight.files import digest_of
from wildsight.world.asking import KINDS, Examiner, all_questions, form_of
from wildsight.world.labels import label
from wildsight.world.language import SIDES, caption, expression, plural
from wildsight.world.render import render
from wildsight.world.scene import COLOURS, MATERIALS, SHAPES, SIZES, random_scene
from wildsight.world.tokens import SPECIAL, WORDS, tokenizer

scenes = st.builds(random_scene, st.integers(0, 10**6), count=st.integers(1, 6))
TOKENIZER = tokenizer()


def fits(thing, words):
    own = {thing.shape, plural(thing.shape), thing.colour, thing.material, thing.size}
    return all(w in own for w in words if w in {*SHAPES, *map(plural, SHAPES), *COLOURS, *MATERIALS, *SIZES})


@settings(max_examples=40, deadline=None)
@given(scene=scenes)
def test_every_text_goes_through_the_tokenizer_and_back(scene):
    texts = [caption(scene, level) for level in (1, 2, 3)]
    texts += [e for i in range(len(scene.things)) if (e := expression(scene, i))]
    texts += [part for q in all_questions(scene)[::7] for part in (q.text, q.answer)]
    for text in texts:
        ids = TOKENIZER(text).input_ids
        assert TOKENIZER.unk_token_id not in ids, text
        assert ids[0] == TOKENIZER.bos_token_id and ids[-1] == TOKENIZER.eos_token_id
        assert TOKENIZER.decode(ids, skip_special_tokens=True) == text


def test_the_vocabulary_stays():
    """Checkpoints hold rows for these words in this order: a new word needs new checkpoints."""
    assert digest_of([*SPECIAL, *WORDS])[:16] == "30c26fdc07785a5b"


def test_the_tokenizer_survives_its_folder(tmp_path):
    from transformers import PreTrainedTokenizerFast

    TOKENIZER.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    texts = ["<image> what colour is the cube ?", "a red cube at -1.05 , 12", "zebra"]
    assert again(texts, padding=True).input_ids == TOKENIZER(texts, padding=True).input_ids
    assert again.convert_tokens_to_ids("<image>") == 4
    assert len(again) == len(WORDS) + len(SPECIAL)
    assert tokenizer(closing=False)("a cube").input_ids == TOKENIZER("a cube").input_ids[:-1]
    assert TOKENIZER("1.25").input_ids[1:-1] == TOKENIZER("1 . 2 5").input_ids[1:-1]


@settings(max_examples=40, deadline=None)
@given(scene=scenes)
def test_an_expression_fits_its_thing_alone(scene):
    for index in range(len(scene.things)):
        words = (expression(scene, index) or "").split()
        found = [i for i, thing in enumerate(scene.things) if words and fits(thing, words)]
        if words:
            assert index in found
            assert len(found) == 1 or words[1] in ("left", "right", "nearest")


@settings(max_examples=30, deadline=None)
@given(scene=scenes)
def test_captions_name_everything(scene):
    brief, full, longest = (caption(scene, level).split() for level in (1, 2, 3))
    assert Counter(t.colour for t in scene.things) == Counter(w for w in full if w in COLOURS)
    for size in SIZES:
        assert longest.count(size) == sum(t.size == size for t in scene.things)
    assert longest[-1] == scene.floor
    for thing in scene.things:
        assert thing.shape in brief or plural(thing.shape) in brief


@settings(max_examples=25, deadline=None)
@given(scene=scenes)
@example(scene=random_scene(797154, count=4))  # "the left orange cylinder", in front of or behind something
def test_answers_agree_with_the_masks(scene):
    """Counts, existence, attributes and sides are read again from the rendered labels."""
    labels = label(scene, render(scene, 96, smooth=False))
    seen = [item for item in labels if item.mask.any()]
    assert len(seen) == len(labels)
    for question in all_questions(scene):
        words, things = question.text.split(), [item.thing for item in labels]
        if question.kind in ("existence", "count"):
            found = sum(fits(thing, words) for thing in things)
            number = ("zero", "one", "two", "three", "four", "five", "six")[found]
            assert question.answer == (number if question.kind == "count" else ("yes" if found else "no"))
        if question.kind == "attribute":
            assert question.answer == getattr(things[question.things[0]], words[1])
        if question.kind == "relation" and "left or right" in question.text:
            one, two = (labels[i].box3d.centre for i in question.things)
            assert question.answer == ("left" if one[0] / one[2] < two[0] / two[2] else "right")
        if question.kind == "relation" and "or behind" in question.text:
            one, two = (labels[i].box3d.centre for i in question.things)
            assert question.answer == ("front" if one[2] < two[2] else "behind")


def test_no_kind_is_answered_by_its_commonest_word_or_by_its_form():
    examiner, given_out = Examiner(), {}
    for seed in range(150):
        for q in examiner.ask(random_scene(seed, count=None), 6):
            given_out.setdefault(q.kind, {}).setdefault(form_of(q.text), Counter())[q.answer] += 1
    assert set(given_out) == set(KINDS)
    for kind, forms in given_out.items():
        total = sum(map(Counter.total, forms.values()))
        share = max(sum(forms.values(), Counter()).values()) / total
        blind = sum(max(c.values()) for c in forms.values()) / total
        assert share < 0.35 or (kind in ("existence", "comparison") and share < 0.6), (kind, share)
        assert blind < 0.6, (kind, blind)


def test_an_examiner_asks_the_same_again_and_never_twice():
    scene = random_scene(4, count=5)
    first, again = Examiner(seed=1).ask(scene, 12), Examiner(seed=1).ask(scene, 12)
    assert first == again
    assert len({q.text for q in first}) == 12
    assert {q.kind for q in Examiner(("count",)).ask(scene, 3)} == {"count"}
    assert set(SIDES) == {"left", "right", "front", "behind"}


def test_unknown_kinds_and_levels():
    for broken in (lambda: Examiner(("smell",)), lambda: caption(random_scene(0), 4), lambda: Examiner(())):
        with pytest.raises(ConfigError, match=r"choose from|give"):
            broken()
