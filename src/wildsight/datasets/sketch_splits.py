"""Class lists of the published zero-shot splits, as names; facts of the benchmarks.

Names are compared after `plain`, so that ``teddy_bear``, ``teddy bear`` and ``Teddy-Bear`` are one.
"""

from __future__ import annotations

from collections.abc import Iterable

from wildsight.errors import DataError


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


UNSEEN: dict[str, tuple[str, ...]] = {
    "sketchy-1": _words("""
        cup swan harp squirrel snail ray pineapple volcano rifle scissors parrot windmill teddy_bear tree
        wine_bottle deer chicken airplane wheelchair tank umbrella butterfly camel horse bell"""),
    "sketchy-2": _words("""
        bat cabin cow dolphin door giraffe helicopter mouse pear raccoon rhinoceros saw scissors seagull
        skyscraper songbird sword tree wheelchair windmill window"""),
    "tu-berlin": _words("""
        banana bus tractor suitcase streetlight telephone bottle_opener canoe fan teacup penguin laptop
        shoe lighter hot_air_balloon pizza brain ant t-shirt trombone windmill snowboard table
        rollerblades parachute space_shuttle bridge frying-pan bread horse"""),
    "quickdraw": _words("""
        bat cow dolphin door giraffe helicopter mouse raccoon rhinoceros saw scissors skyscraper tree
        windmill feather campfire palm_tree fire_hydrant bread beach megaphone cactus zebra tiger shark
        frog banana cake hamburger fan"""),
    "pacs": ("giraffe", "guitar", "house"),
}  # fmt: skip


def plain(name: str) -> str:
    """A class name without case, spaces, underscores and hyphens.

    >>> plain("Teddy_Bear") == plain("teddy bear")
    True
    """
    return "".join(c for c in name.casefold() if c not in " _-")


def unseen_of(split: str, classes: Iterable[str]) -> tuple[str, ...]:
    """The classes, as the folder spells them, that ``split`` keeps for the test.

    Raises:
        DataError: a class of the list is missing.
    """
    spelled = {plain(name): name for name in classes}
    missing = [name for name in UNSEEN[split] if plain(name) not in spelled]
    if missing:
        raise DataError(
            f"lacks {len(missing)} unseen classes of {split}, {missing[0]!r} among them",
            hint="check the folder, or use the plain-folder reader",
        )
    return tuple(sorted(spelled[plain(name)] for name in UNSEEN[split]))
