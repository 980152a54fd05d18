"""The tabs, one file each, named by strings so that a tab is imported when the page is built."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TabEntry:
    """What the page says of a tab before it is opened.

    Attributes:
        title: in a person's words.
        have: what a person has who needs it.
        want: and what it gives.
    """

    title: str
    have: str
    want: str


TABS: dict[str, TabEntry] = {
    "anomaly": TabEntry(
        "Find defects", "pictures of good parts", "which new picture is wrong, how sure that is, and where"
    ),
    "segmentation": TabEntry(
        "Outline", "a picture, and you can point at the thing", "its exact outline, as a mask"
    ),
    "inspect": TabEntry(
        "Inspect parts",
        "good parts, and new ones to judge every day",
        "what is wrong, grouped, named and in one report",
    ),
    "retrieval": TabEntry(
        "Find by sketch", "photos, and an idea that you can draw", "the photos most like it"
    ),
    "discovery": TabEntry(
        "Sort", "a folder of pictures without labels", "groups: known classes by name, new ones apart"
    ),
    "composition": TabEntry(
        "Recognise pairs",
        "pictures named 'wet dog' and 'dry cat'",
        "'wet cat' recognised, though it was never seen",
    ),
    "compression": TabEntry(
        "Cheaper answers",
        "a multimodal LLM that is too slow or too big",
        "the same question at a fraction of the tokens, and what that costs",
    ),
    "fusion": TabEntry(
        "Fuse sensors", "a scene seen in colour, depth, heat, ...", "one mask, also when a sensor fails"
    ),
    "spatial": TabEntry("Locate in 3D", "one photo and a question", "the thing's box in metres"),
    "continual": TabEntry(
        "Keep teaching", "one CLIP, and new classes every month", "them learned, and nothing forgotten"
    ),
}
"""By module; each lays its tab out in ``build``."""
