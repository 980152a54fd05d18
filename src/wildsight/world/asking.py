"""Questions about a scene with exact answers, and a balanced choice among them.

Every kind lists all the questions it can ask of a scene. `Examiner` picks, question by question, the form
asked and the answer given least often, so that no kind is answered well by its commonest word, nor by the
question's form alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wildsight.errors import ConfigError
from wildsight.world.language import APART, NUMBERS, View, expression, name, plural, view_of, with_article
from wildsight.world.scene import COLOURS, MATERIALS, MODELS, SHAPES, SIZES, Scene, check_seed
from wildsight.world.sums import lengths


@dataclass(frozen=True)
class Question:
    """``kind`` of `KINDS`, the ``text``, the one-word ``answer``, and the ``things`` it is about, by
    index."""

    kind: str
    text: str
    answer: str
    things: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Talk:
    """A scene made ready to be asked about: ``calls`` names each thing uniquely, or None."""

    scene: Scene
    view: View
    calls: list[str | None]

    def pairs(self) -> Iterator[tuple[int, int, str, str]]:
        """Ordered pairs of things that both have a name of their own."""
        for one, first in enumerate(self.calls):
            for two, second in enumerate(self.calls):
                if one != two and first and second:
                    yield one, two, first, second


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _existence(talk: _Talk) -> list[Question]:
    things, out = talk.scene.things, []
    colours, shapes = [t.colour for t in things], [t.shape for t in things]
    for colour in COLOURS:
        for shape in SHAPES:
            there = tuple(i for i, t in enumerate(things) if (t.colour, t.shape) == (colour, shape))
            if there or colour in colours or shape in shapes:  # a "no" that needs a look
                text = f"is there {with_article(f'{colour} {shape}')} ?"
                out.append(Question("existence", text, _yes(bool(there)), there))
    for material in MATERIALS:
        there = tuple(i for i, t in enumerate(things) if t.material == material)
        text = f"is there {with_article(f'{material} object')} ?"
        out.append(Question("existence", text, _yes(bool(there)), there))
    return out


def _count(talk: _Talk) -> list[Question]:
    pools = {"shape": SHAPES, "colour": COLOURS, "material": MATERIALS, "size": SIZES}
    out = [_counted(talk, "objects", tuple(range(len(talk.scene.things))))]
    for attribute, words in pools.items():
        for word in words:
            found = tuple(i for i, t in enumerate(talk.scene.things) if getattr(t, attribute) == word)
            out.append(_counted(talk, plural(word) if attribute == "shape" else f"{word} objects", found))
    return out


def _counted(_talk: _Talk, what: str, found: tuple[int, ...]) -> Question:
    return Question("count", f"how many {what} are there ?", NUMBERS[len(found)], found)


def _attribute(talk: _Talk) -> list[Question]:
    out = []
    for asked in ("colour", "material", "size", "shape"):
        known = [a for a in ("size", "colour", "material", "shape") if a != asked]
        for index, thing in enumerate(talk.scene.things):
            call = _call_without(talk.scene, index, known)
            if call:
                out.append(
                    Question("attribute", f"what {asked} is {call} ?", getattr(thing, asked), (index,))
                )
    return out


def _call_without(scene: Scene, index: int, known: list[str]) -> str | None:
    """A unique name that uses only the attributes ``known``, as few of them as will do."""
    thing = scene.things[index]
    tries = [known[-1:], known[-2:], [known[0], known[-1]], known]
    for attributes in tries:
        words = name(thing, attributes)
        if sum(name(other, attributes) == words for other in scene.things) == 1:
            return f"the {words}"
    return None


def _comparison(talk: _Talk) -> list[Question]:
    things, out = talk.scene.things, []
    order = tuple(SIZES)
    for one, two, first, second in talk.pairs():
        a, b = things[one], things[two]
        if a.size != b.size:
            truth = order.index(a.size) > order.index(b.size)
            out.append(Question("comparison", f"is {first} larger than {second} ?", _yes(truth), (one, two)))
        for attribute in ("colour", "material", "size"):
            if any(getattr(t, attribute) in call for t, call in ((a, first), (b, second))):
                continue
            same = getattr(a, attribute) == getattr(b, attribute)
            text = f"does {first} have the same {attribute} as {second} ?"
            out.append(Question("comparison", text, _yes(same), (one, two)))
    shapes = Counter(t.shape for t in things)
    for more in SHAPES:
        for less in SHAPES:
            if shapes[more] != shapes[less]:
                text = f"are there more {plural(more)} than {plural(less)} ?"
                out.append(Question("comparison", text, _yes(shapes[more] > shapes[less])))
    return out


def _relation(talk: _Talk) -> list[Question]:
    out = []
    for one, two, first, second in talk.pairs():
        aside = float(talk.view.across[one] - talk.view.across[two])
        deep = float(talk.view.depth[one] / talk.view.depth[two] - 1)
        if abs(aside) > APART:
            text = f"is {first} left or right of {second} ?"
            out.append(Question("relation", text, "left" if aside < 0 else "right", (one, two)))
        if abs(deep) > APART:
            text = f"is {first} in front of or behind {second} ?"
            out.append(Question("relation", text, "front" if deep < 0 else "behind", (one, two)))
    return out


def _distance(talk: _Talk) -> list[Question]:
    things, away, out = talk.scene.things, talk.view.distance, []
    order = np.argsort(away)
    if len(things) > 1 and away[order[1]] > away[order[0]] * (1 + APART):
        near = int(order[0])
        out.append(Question("distance", "what is nearest to the camera ?", things[near].shape, (near,)))
    places = np.array([t.centre for t in things]).reshape(-1, 3)
    for one, call in enumerate(talk.calls):
        gaps = lengths((places - places[one]).T)
        gaps[one] = np.inf
        ranked = np.argsort(gaps)
        if call and len(things) > 2 and gaps[ranked[1]] > gaps[ranked[0]] * 1.25:
            near = int(ranked[0])
            out.append(Question("distance", f"what is nearest to {call} ?", things[near].shape, (one, near)))
    for one, two, first, second in talk.pairs():
        if things[one].shape != things[two].shape and abs(away[one] / away[two] - 1) > APART:
            near = one if away[one] < away[two] else two
            text = f"which is nearer , {first} or {second} ?"
            out.append(Question("distance", text, things[near].shape, (one, two)))
    return out


_ASKERS: dict[str, Callable[[_Talk], list[Question]]] = {
    "existence": _existence, "count": _count, "attribute": _attribute,
    "comparison": _comparison, "relation": _relation, "distance": _distance,
}  # fmt: skip
KINDS: tuple[str, ...] = tuple(_ASKERS)


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise a `ConfigError` for no kind or an unknown one."""
    unknown = [k for k in kinds if k not in KINDS]
    if unknown or not kinds:
        what = f"unknown kind {unknown[0]!r}" if unknown else "no kind of question"
        raise ConfigError(what, where="kinds", hint=f"choose from {', '.join(KINDS)}")


def all_questions(scene: Scene, kinds: Sequence[str] = KINDS) -> list[Question]:
    """Every question that can be asked of a scene.

    Raises:
        ConfigError: an unknown kind.
    """
    check_kinds(kinds)
    talk = _Talk(scene, view_of(scene), [expression(scene, i) for i in range(len(scene.things))])
    return [question for kind in kinds for question in _ASKERS[kind](talk)]


_CONTENT = {*COLOURS, *MATERIALS, *SIZES, *SHAPES, *map(plural, SHAPES), *MODELS, "object", "an"}


def form_of(text: str) -> str:
    """A question without the words that differ between things.

    >>> form_of("is there a red cube ?")
    'is there a ?'
    """
    return " ".join("a" if w == "an" else w for w in text.split() if w == "an" or w not in _CONTENT)


class Examiner:
    """Asks scene after scene and keeps forms and their answers balanced.

    Args:
        kinds: kinds to ask, in turn.
        seed: fixes the choice.
    """

    def __init__(self, kinds: Sequence[str] = KINDS, *, seed: int = 0) -> None:
        check_kinds(kinds)
        check_seed(seed)
        self.kinds = tuple(kinds)
        self._given: Counter[tuple[str, str]] = Counter()
        self._asked: Counter[str] = Counter()  # of kinds and of forms
        self._rng = np.random.default_rng((seed, 5))

    def ask(self, scene: Scene, count: int = 5) -> list[Question]:
        """Up to ``count`` different questions, the kinds asked least so far first."""
        pools = {kind: all_questions(scene, (kind,)) for kind in self.kinds}
        chosen: list[Question] = []
        while len(chosen) < count and any(pools.values()):
            kind = min(
                (k for k in self.kinds if pools[k]), key=lambda k: (self._asked[k], self.kinds.index(k))
            )
            question = self._pick(kind, pools[kind])
            pools[kind].remove(question)
            chosen.append(question)
        return chosen

    def _pick(self, kind: str, pool: list[Question]) -> Question:
        forms = {q.text: form_of(q.text) for q in pool}
        form = min(sorted(set(forms.values())), key=lambda f: self._asked[f])
        pool = [q for q in pool if forms[q.text] == form]
        least = min(self._given[form, q.answer] for q in pool)
        rare = [q for q in pool if self._given[form, q.answer] == least]
        question = rare[int(self._rng.integers(len(rare)))]
        self._given[form, question.answer] += 1
        self._asked.update((kind, form))
        return question
