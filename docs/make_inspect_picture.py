"""The picture of an inspection in the guide: what it found among drawn washers, and what it calls it.

python docs/make_inspect_picture.py docs/assets/inspect.webp
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from wildsight.images import from_array
from wildsight.workflows.inspect import Project, describe, group, look, name, start
from wildsight.workflows.inspect.describing import in_words
from wildsight.workflows.inspect.reporting import outlined, tile
from wildsight.world.products import render_product

PRODUCT, SIZE, GOOD_PARTS = "washer", 128, 40
NEW = {None: 3, "stain": 5, "crack": 5, "missing_part": 5}
WIDE, NARROW, GAP, LINE = 176, 88, 8, 18
WIDTH, COLUMNS = 5 * (WIDE + GAP), 10
BYTES = 200_000


def draw(folder: Path, defect: str | None, first: int, count: int) -> None:
    """Drawn products as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        picture = from_array(render_product(PRODUCT, seed, defect=defect, size=SIZE).image)
        picture.save(folder / f"{defect or 'good'}-{seed}.png")


def inspected(root: Path) -> Project:
    """The whole run; the largest group gets the name that its pictures deserve."""
    draw(root / "good" / "normal", None, 0, GOOD_PARTS)
    for number, (defect, count) in enumerate(NEW.items()):
        draw(root / "new", defect, 500 + 100 * number, count)
    project = start(root / "line3", str(root / "good"), false_alarm_rate=0.05)
    look(project, [root / "new"])
    group(project, backbone="nano-conv")
    describe(project)
    kinds = [project.label(f) for f in project.finds() if project.label(f).startswith("new_")]
    common = max(sorted(set(kinds)), key=kinds.count)
    truth = [
        Path(p.file).name.split("-")[0] for f, p in project.finds().items() if project.label(f) == common
    ]
    name(project, common, max(sorted(set(truth)), key=truth.count))
    return project


def sheet(project: Project) -> Image.Image:
    """Rejected pictures over the kinds of defect."""
    rejected = [p for p in project.looked.values() if project.verdict(p) == "rejected"]
    ranked = sorted(rejected, key=lambda p: -p.score)[:5]
    text = f"{len(rejected)} of {len(project.looked)} rejected; the five with the highest scores"
    rows = [(text, [outlined(project, p).resize((WIDE, WIDE)) for p in ranked])]
    kinds: dict[str, list[str]] = {}
    for find in project.finds():
        kinds.setdefault(project.label(find), []).append(find)
    for kind, finds in sorted(kinds.items(), key=lambda row: -len(row[1])):
        whose = "named by a person" if finds[0] in project.names else "a group"
        text = f"{kind} ({whose}), {len(finds)} finds, described as: {in_words(project, finds) or 'nothing'}"
        rows.append((text, [tile(project, f).resize((NARROW, NARROW)) for f in finds[:COLUMNS]]))
    height = sum(LINE + pictures[0].height + GAP for _, pictures in rows)
    made, y, font = Image.new("RGB", (WIDTH, height), "white"), 0, ImageFont.load_default(13)
    for text, pictures in rows:
        ImageDraw.Draw(made).text((0, y + 1), text, fill="black", font=font)
        for number, picture in enumerate(pictures):
            made.paste(picture, (number * (picture.width + GAP), y + LINE))
        y += LINE + pictures[0].height + GAP
    return made


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = sheet(inspected(Path(folder)))
    for quality in (88, 75, 60, 45):
        made.save(options.out, quality=quality)
        if options.out.stat().st_size <= BYTES:
            return


if __name__ == "__main__":
    main()
