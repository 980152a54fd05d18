"""Grounding scores and AP3D by hand-computed sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wildsight.spatial.ap3d import Scene, ap_3d
from wildsight.spatial.boxes import Box
from wildsight.spatial.camera import Camera
from wildsight.spatial.metrics import (
    best_iou,
    bounds_of,
    box_2d_iou,
    grounding_scores,
    iou_of,
    matched,
    pair_errors,
    released_iou,
    yaw_error,
)
from wildsight.spatial.samples import SpatialSample
from wildsight.spatial.scoring import grouped


def box(z: float = 5.0, x: float = 0.0, score: float = 1.0, name: str = "car", length: float = 4.0) -> Box:
    return replace(Box.upright((x, 1.0, z), (length, 1.5, 2.0), 0.0, name), score=score)


def test_perfect_and_missing_answers() -> None:
    scores = grounding_scores([[box()], []], [[box()], [box()]])
    assert scores["acc@0.25"] == scores["acc@0.5"] == scores["iou"] == 0.5
    assert scores["found"] == 0.5
    assert scores["depth_error"] == scores["yaw_error"] == 0.0


def test_thresholds_are_strict() -> None:
    half = box(length=2.0)
    assert grounding_scores([[half]], [[box()]])["acc@0.5"] == 0.0
    assert grounding_scores([[half]], [[box()]])["acc@0.25"] == 1.0


def test_refusals() -> None:
    scores = grounding_scores([[], [box()]], [[], []])
    assert scores == {"refusal": 0.5}
    assert best_iou([], []) == 1.0
    assert best_iou([box()], []) == 0.0
    assert best_iou([box()], [box(), box(x=9)]) == pytest.approx(0.5)


def test_errors_by_hand() -> None:
    found = Box.upright((1.0, 1.0, 6.0), (5.0, 1.0, 2.0), 3.0)
    errors = pair_errors(found, box())
    assert errors["depth"] == 1.0
    assert errors["depth_relative"] == pytest.approx(0.2)
    assert errors["centre"] == pytest.approx(2**0.5)
    assert (errors["length"], errors["height"], errors["width"]) == (1.0, 0.5, 0.0)
    assert errors["yaw"] == pytest.approx(np.pi - 3.0)
    assert yaw_error(0.1, -0.1) == pytest.approx(0.2)


def test_share_of_depths_within_their_spread() -> None:
    found = [[replace(box(5.5), spread=1.0)], [replace(box(9.0), spread=1.0)], [box(7.0)]]
    assert grounding_scores(found, [[box()]] * 3)["within_spread"] == 0.5
    assert "within_spread" not in grounding_scores([[box()]], [[box()]])


def test_several_boxes_are_matched_one_to_one() -> None:
    wanted = [box(5), box(20)]
    found = [box(19), box(5.2)]
    assert matched(found, wanted) == [found[1], found[0]]
    assert matched(found[:1], wanted)[0] is found[0]


def test_released_iou_ignores_the_turn() -> None:
    turned = Box.upright((0, 1, 5), (4, 1.5, 2), 1.2, "car")
    assert released_iou([turned], [box()])[0] == pytest.approx(1.0)


def test_ap_of_labels_against_themselves_is_whole() -> None:
    scenes = [Scene([box(5), box(20, 3)], [box(5), box(20, 3)]), Scene([box(50)], [box(50)])]
    scores = ap_3d(scenes)
    assert scores["ap"] == scores["ap@0.5"] == scores["ap_near"] == scores["ap_far"] == 1.0


def test_ap_of_duplicates() -> None:
    """Two detections on the first label, ranked before the one on the second: 1, 1/2, 2/3."""
    scene = Scene([box(5, 0, 0.9), box(5, 0, 0.8), box(20, 0, 0.7)], [box(5), box(20)])
    expected = (51 * 1.0 + 50 * (2 / 3)) / 101
    assert ap_3d([scene])["ap@0.5"] == pytest.approx(expected)


def test_ap_forgives_ignored_labels() -> None:
    scene = Scene([box(20, 0, 0.9), box(5, 0, 0.8)], [box(5)], [box(20)])
    assert ap_3d([scene])["ap"] == pytest.approx(1.0)


def test_ap_depth_ranges_are_closed() -> None:
    scores = ap_3d([Scene([box(10), box(35, 5)], [box(10), box(35, 5)])])
    assert scores["ap_near"] == scores["ap_medium"] == scores["ap_far"] == 1.0
    assert np.isnan(ap_3d([Scene([], [box(50)])])["ap_near"])


def test_ap_proximity_refuses_what_lies_elsewhere_in_the_picture() -> None:
    """A cube and the same moved down by .6: a quarter of the volume is shared, .26 of the picture."""
    camera = Camera(100, 100, 50, 50, 100, 100)
    found, wanted = (Box.upright((0, y, 5.0), (1, 1, 1), 0.0, "car") for y in (0.0, 0.6))
    scene = Scene([found], [wanted], camera=camera)
    assert iou_of([found], [wanted])[0] == pytest.approx(0.25)
    across = box_2d_iou(bounds_of([found], camera), bounds_of([wanted], camera))[0, 0]
    assert across == pytest.approx((0.5 / 4.5 - 0.1 / 5.5) / (1.6 / 4.5))
    assert ap_3d([scene])["ap@0.15"] == 1.0
    assert ap_3d([scene], proximity=True)["ap@0.15"] == 0.0
    same = Scene([wanted], [wanted], camera=camera)
    assert ap_3d([same], proximity=True)["ap"] == 1.0


def test_ap_of_misses_and_wrong_categories() -> None:
    assert ap_3d([Scene([], [box()])])["ap"] == 0.0
    assert ap_3d([Scene([box(name="truck")], [box()])])["ap"] == 0.0
    assert ap_3d([Scene([box(score=0.9), box(7, 30, 0.5)], [box()])])["ap"] == 1.0


def test_answers_to_questions_about_nothing_are_false_ones() -> None:
    camera = Camera(100, 100, 50, 50, 100, 100)
    image = np.zeros((4, 4, 3), np.uint8)
    real, empty = (SpatialSample(n, image, camera, "the car", t) for n, t in (("a", (box(),)), ("b", ())))
    sure, unsure = (box(score=0.9),), (box(score=0.5),)
    assert grouped([real, empty], [sure, unsure])[-1]["ap_asked"] == 1.0
    assert grouped([real, empty], [unsure, sure])[-1]["ap_asked"] == pytest.approx(0.5)
