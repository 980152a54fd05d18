"""Every set: shapes, splits, determinism, and labels that agree with what was rendered."""

from collections import Counter

import numpy as np
import pytest

from wildsight.errors import ConfigError
from wildsight.world import sets
from wildsight.world.asking import KINDS
from wildsight.world.scene import MATERIALS, MODELS, SHAPES
from wildsight.world.shapes3d import SOLIDS
from wildsight.world.tokens import tokenizer

SIDE = 32


def test_compositions_hold_pairs_out():
    parts = sets.compositions(size=SIDE, per_pair=2)
    pairs = {split: set(zip(p.attributes, p.objects, strict=True)) for split, p in parts.items()}
    unseen = set(sets.held_out_pairs(0, 0.25))
    assert len(unseen) == 16
    assert pairs["train"] == {(m, s) for m in MATERIALS for s in SHAPES} - unseen
    assert Counter(m for m, _ in unseen) == dict.fromkeys(MATERIALS, 2)
    assert Counter(s for _, s in unseen) == dict.fromkeys(SHAPES, 2)
    assert pairs["train"] < pairs["val"] and pairs["train"] < pairs["test"]
    assert (pairs["val"] & unseen) | (pairs["test"] & unseen) == unseen
    assert not pairs["val"] & pairs["test"] & unseen
    for part in parts.values():
        assert part.images.shape == (len(part.objects), SIDE, SIDE, 3)
        assert part.images.dtype == np.uint8
    counts = Counter(zip(parts["train"].attributes, parts["train"].objects, strict=True))
    assert max(counts.values()) > 3 * min(counts.values())
    together = np.concatenate([p.images for p in parts.values()]).reshape(-1, SIDE * SIDE * 3)
    assert len(np.unique(together, axis=0)) == len(together)


def test_sketches_share_no_class():
    parts = sets.sketches(size=SIDE, per_class=1, unseen=5)
    classes = [set(p.photo_labels) for p in parts.values()]
    assert [len(c) for c in classes] == [12, 3, 5]
    assert set.union(*classes) == set(SOLIDS)
    for part in parts.values():
        assert part.sketch_labels == part.photo_labels
        assert part.sketches.shape == part.photos.shape
        ink = (part.sketches < 200).mean((1, 2, 3))
        assert (ink > 0.01).all() and (ink < 0.4).all()
        assert (np.ptp(part.sketches, axis=-1) == 0).all()


def test_categories_tell_half_of_the_known():
    made = sets.categories(size=SIDE, per_class=4, known=0.5, classes=6)
    assert len(made.known) == 3
    assert len(set(made.labels)) == 6
    told = Counter(np.array(made.labels)[made.labelled])
    assert told == dict.fromkeys(made.known, 2)
    assert len(made.images) == 24


def test_tasks_drift():
    made = sets.tasks(size=SIDE, per_class=1, count=9)
    assert [t.name for t in made][:3] == ["shapes", "materials", "sketches"]
    words = tokenizer()
    for task in made:
        assert task.train_images.shape == (len(task.class_names), SIDE, SIDE, 3)
        assert Counter(task.test_labels) == dict.fromkeys(range(len(task.class_names)), 2)
        for template in task.templates:
            assert words.unk_token_id not in words(template.format("")).input_ids
    assert set(made[3].class_names) == set(MODELS)


def test_modalities_are_aligned_and_a_failure_touches_its_sensor_alone():
    good = sets.modalities(size=SIDE, count=3)
    channels = {name: reading.shape[-1] for name, reading in good.inputs.items()}
    assert channels == {"rgb": 3, "depth": 1, "thermal": 1, "event": 2, "lidar": 1}
    assert good.classes == ("background", *SHAPES)
    assert (good.masks[good.saliency] > 0).all()
    assert good.saliency.any((1, 2)).all()
    dead = sets.modalities(size=SIDE, count=3, failure="dead:depth")
    assert not dead.inputs["depth"].any()
    assert np.array_equal(dead.masks, good.masks)
    for name in ("rgb", "thermal", "event", "lidar"):
        assert np.array_equal(dead.inputs[name], good.inputs[name])
    few = sets.modalities(size=SIDE, count=2, names=("thermal", "rgb"))
    assert np.array_equal(few.inputs["rgb"], good.inputs["rgb"][:2])


def test_questions_point_at_their_picture():
    made = sets.questions(size=SIDE, count=60)
    assert len(made.questions) == len(made.answers) == len(made.kinds) == len(made.picture) == 60
    assert made.picture.max() == len(made.images) - 1
    assert set(made.kinds) == set(KINDS)
    again = sets.questions(size=SIDE, count=60)
    assert again.questions == made.questions and np.array_equal(again.images, made.images)
    assert sets.questions(size=SIDE, count=60, seed=1).questions != made.questions


def test_grounding_boxes_lie_in_the_picture_at_the_spelled_place():
    made = sets.grounding(size=SIDE, count=12, focal=(0.6, 2.0))
    words = tokenizer()
    assert len(made.boxes) == 12 and made.intrinsics.shape == (12, 3, 3)
    for row, boxes in enumerate(made.boxes):
        target = boxes[0]
        focal = made.intrinsics[row, 0, 0] / SIDE
        assert 0.6 <= focal <= 2 and target.pitch == 0
        assert target.name in made.expressions[row]
        pixels = target.project(made.intrinsics[row])
        assert (pixels.max(0) > 0).all() and (pixels.min(0) < SIDE).all()
        numbers = [float(w) for w in made.answers[row].split() if w[-1].isdigit()]
        assert np.allclose(numbers, (*target.centre, *target.size, target.yaw), atol=0.006)
        text = f"{made.questions[row]} {made.answers[row]}"
        assert words.unk_token_id not in words(text).input_ids


def test_outlines_have_tight_boxes():
    made = sets.outlines(size=48, count=9)
    for image, mask, box in zip(made.images, made.masks, made.boxes, strict=True):
        assert image.shape == (48, 48, 3)
        left, top, right, bottom = box.astype(int)
        assert mask.any() and mask[top:bottom, left:right].sum() == mask.sum()
    assert sum(" " in name for name in made.names) == 3


@pytest.mark.parametrize(
    "broken",
    [
        lambda: sets.compositions(held_out=0.9),
        lambda: sets.compositions(size=8),
        lambda: sets.compositions(per_pair=0),
        lambda: sets.compositions(held_out=float("nan")),
        lambda: sets.outlines(size=64.5),
        lambda: sets.questions(count=2.5),
        lambda: sets.sketches(seed=0.5),
        lambda: sets.grounding(scales=(2, 1)),
        lambda: sets.grounding(most=1.5),
        lambda: sets.sketches(unseen=20),
        lambda: sets.categories(known=1.0),
        lambda: sets.tasks(count=20),
        lambda: sets.modalities(names=("sonar",)),
        lambda: sets.modalities(failure="rain"),
        lambda: sets.modalities(names=("rgb",), failure="dead:depth"),
        lambda: sets.questions(kinds=("smell",)),
        lambda: sets.grounding(focal=(0.1, 1)),
        lambda: sets.grounding(focal=(2, 1)),
        lambda: sets.outlines(count=0, seed=-1),
    ],
)
def test_impossible_sets_name_the_range(broken):
    with pytest.raises(ConfigError, match=r"give .* to |choose from|choose one of"):
        broken()
