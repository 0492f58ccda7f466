"""Scores of detections against pycocotools on files, TIDE's own program, and hand-made cases."""

import importlib.util
import json

import numpy as np
import pytest
from detections import detections_of, right_answers, scenes, truth_of
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bit_keras.files import write_json
from bit_keras.metrics.coco_json import decimals, detections_as_coco, true_boxes_as_coco
from bit_keras.metrics.detection import require_pycocotools, score
from bit_keras.metrics.detection_errors import (
    KINDS,
    best_threshold,
    detection_errors,
    gains,
)

BOX, NEAR, FAR = (100, 100, 200, 200), (110, 100, 200, 200), (300, 10, 340, 50)
AROUND = (100, 100, 200, 300)  # IoU 0.5 with BOX
ASIDE = (150, 100, 250, 200)  # IoU 1/3


def by_hand(folder, truth, detections):
    """COCOeval as its own documentation runs it, on files."""
    write_json(folder / "truth.json", true_boxes_as_coco(truth))
    answers = detections_as_coco(truth, detections)
    write_json(folder / "answers.json", answers)
    known = COCO(folder / "truth.json")
    evaluator = COCOeval(known, known.loadRes(str(folder / "answers.json")), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return evaluator


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_those_of_pycocotools_on_the_files(tmp_path, seed):
    truth, detections = scenes(seed)
    truth.category_ids = [7, 90, 3, 11, 12]  # with gaps, in no order
    truth.image_ids = [f"photo {(7 * i) % 30}" for i in range(30)]
    found = score(truth, detections)
    expected = by_hand(tmp_path, truth, detections)
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    for name, value in zip((*names, "ar"), expected.stats[[0, 1, 2, 3, 4, 5, 8]], strict=True):
        assert found.metrics[name] == pytest.approx(value, abs=1e-6), name
    assert 0.1 < found.metrics["ap"] < 0.9
    by_id = dict(zip(expected.params.catIds, range(5), strict=True))
    for k, category in enumerate(truth.category_ids):
        curves = expected.eval["precision"][:, :, by_id[category], 0, 2]
        assert found.per_class[k]["ap"] == pytest.approx(curves.mean(), abs=1e-6)
        assert found.per_class[k]["ap50"] == pytest.approx(curves[0].mean(), abs=1e-6)
        np.testing.assert_allclose(found.precision50[k], curves[0], atol=1e-6)
        np.testing.assert_allclose(found.precision[k], curves.mean(axis=0), atol=1e-6)
    boxes = [row["boxes"] for row in found.per_class]
    assert boxes == np.bincount(truth.classes[~truth.crowd], minlength=5).tolist()


def test_numbers_of_a_file_come_back_as_they_were():
    box = [1.08, 187.69, 612.7, 285.3]
    corners = np.float32([[box[0], box[1], box[0] + box[2], box[1] + box[3]]])
    truth = truth_of([[(0, corners[0])]], "a", areas=np.float32([174807.5]))
    (annotation,) = true_boxes_as_coco(truth)["annotations"]
    assert (annotation["bbox"], annotation["area"]) == (box, 174807.5)
    assert decimals(np.float32([0.1, 1e-9, 3])).tolist() == [0.1, 1e-9, 3.0]


def test_coco_json_has_what_other_tools_need():
    truth = truth_of([[(1, BOX)], [], [(0, FAR, True)]], "ab", category_ids=np.array([9, 4]))
    truth.files = np.array(["/x/a/1.jpg", "/x/2.jpg", "/x/a/b/3.jpg"], object)
    truth.image_ids = np.array([30, 10, 20])
    written = json.loads(json.dumps(true_boxes_as_coco(truth)))
    image = {"id": 30, "width": 480, "height": 320, "file_name": "a/1.jpg"}
    assert written["images"][0] == image
    assert [one["file_name"] for one in written["images"]] == ["a/1.jpg", "2.jpg", "a/b/3.jpg"]
    assert written["categories"] == [{"id": 9, "name": "a"}, {"id": 4, "name": "b"}]
    first = {"id": 1, "image_id": 30, "category_id": 4, "bbox": [100, 100, 100, 100]}
    assert written["annotations"][0] == {**first, "area": 10000, "iscrowd": 0}
    assert written["annotations"][1]["iscrowd"] == 1
    detections = detections_of([[], [(0, BOX, 0.7)], []])
    assert detections_as_coco(truth, detections) == [
        {"image_id": 10, "category_id": 9, "bbox": [100, 100, 100, 100], "score": 0.7}
    ]


def test_perfect_detections_score_one_and_prints_nothing(capsys):
    truth, _ = scenes(5, crowds=False)
    detections = right_answers(truth)
    scores = score(truth, detections)
    assert scores.metrics == {name: pytest.approx(1) for name in scores.metrics}
    assert set(scores.metrics) > {"ap_small", "ap_large"}
    errors = detection_errors(truth, detections, scores, 0.5)
    assert sum(errors.counts.values()) == errors.mistakes.sum() == 0
    assert (errors.f1 == 1).all()
    assert all(abs(gain) < 1e-12 for gain in gains(truth, detections, scores).values())
    assert capsys.readouterr() == ("", "")


def test_without_any_detection():
    truth, _ = scenes(1)
    scores = score(truth, detections_of([[]] * 30))
    assert scores.metrics["ap"] == scores.metrics["ar"] == 0
    assert scores.found.shape == scores.ignored.shape == (0,)
    errors = detection_errors(truth, detections_of([[]] * 30), scores, 0.5)
    assert errors.counts == {**dict.fromkeys(KINDS, 0), "missed": np.sum(~truth.crowd)}
    assert best_threshold(truth, detections_of([[]] * 30), scores) == 0.5
    gained = gains(truth, detections_of([[]] * 30), scores)
    assert gained == dict.fromkeys(KINDS, 0)  # as TIDE has it: nothing is left to find


def test_a_class_without_boxes_has_no_score():
    truth = truth_of([[(0, BOX)], [(2, FAR, True)]])
    scores = score(truth, detections_of([[(0, NEAR, 0.9), (1, FAR, 0.8)], []]))
    assert scores.per_class[0] == {"boxes": 1, "ap": pytest.approx(0.9), "ap50": pytest.approx(1)}
    assert scores.per_class[1:] == [{"boxes": 0, "ap": None, "ap50": None}] * 2
    assert np.isnan(scores.precision50[1:]).all()
    assert scores.metrics["ap50"] == pytest.approx(1)  # the mean over the classes with boxes
    assert "ap_small" not in scores.metrics  # no box is small


def test_detections_in_crowds_are_not_judged():
    truth = truth_of([[(0, BOX), (0, (0, 0, 90, 90), True)]], "a")
    said = [(0, BOX, 0.9), (0, (5, 5, 30, 30), 0.95), (0, (40, 40, 80, 80), 0.8)]
    scores = score(truth, detections_of([said]))
    assert scores.metrics["ap"] == pytest.approx(1)
    assert scores.found.tolist() == [0, -1, -1]
    assert scores.ignored.tolist() == [False, True, True]
    errors = detection_errors(truth, detections_of([said]), scores, 0.5)
    assert (errors.mistakes.tolist(), errors.f1.tolist()) == ([0], [1])


def test_only_the_best_hundred_of_a_class_are_judged():
    truth = truth_of([[(0, BOX)]], "a")
    wrong = [(0, (0, 0, 9 + i, 9), 0.9) for i in range(100)]
    scores = score(truth, detections_of([[*wrong, (0, BOX, 0.1)]]))
    assert scores.metrics["ap"] == 0
    assert np.flatnonzero(scores.ignored).tolist() == [100]


def test_mistaken_input_is_named():
    truth = truth_of([[(0, BOX)], []], image_ids=["a.jpg", "b.jpg"])
    with pytest.raises(ValueError, match="detections of 1 images, and 2 images; give one"):
        score(truth, detections_of([[]]))
    with pytest.raises(ValueError, match=r"scores detected in image b\.jpg are not all finite"):
        score(truth, detections_of([[], [(0, BOX, np.nan)]]))
    with pytest.raises(ValueError, match="no image has a box to find"):
        score(truth_of([[(0, BOX, True)], []]), detections_of([[], []]))


def test_a_missing_pycocotools_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "bit-keras\[detection\]"'):
        require_pycocotools()


# Counted and computed by tidecv 1.0.1 for scenes(0, 60, crowds=False), percent of AP50.
TIDE = {
    "localization": (24, 10.191468139379609),
    "class": (26, 10.917940767836669),
    "duplicate": (32, 3.2198438933344207),
    "background": (41, 2.9694908899584576),
    "both": (8, 0.7948199000098981),
    "missed": (41, 8.709008353965771),
}


def test_errors_are_those_of_tide():
    truth, detections = scenes(0, 60, crowds=False)
    scores = score(truth, detections)
    errors = detection_errors(truth, detections, scores, -1)
    assert errors.counts == {kind: count for kind, (count, _) in TIDE.items()}
    found = gains(truth, detections, scores)
    assert found == {kind: pytest.approx(gain / 100, abs=1e-6) for kind, (_, gain) in TIDE.items()}


@pytest.mark.parametrize(
    ("said", "kinds"),
    [
        ([(0, NEAR, 0.9)], {}),
        ([(0, AROUND, 0.9)], {}),
        ([(1, NEAR, 0.9)], {"class": 1}),
        ([(0, ASIDE, 0.9)], {"localization": 1}),
        ([(1, ASIDE, 0.9)], {"both": 1, "missed": 1}),
        ([(0, NEAR, 0.9), (0, BOX, 0.8)], {"duplicate": 1}),
        ([(0, BOX, 0.9), (0, FAR, 0.8)], {"background": 1}),
        ([(0, BOX, 0.9), (0, FAR, 0.3)], {}),  # not sure enough to be judged
        ([(0, BOX, 0.3)], {"missed": 1}),
        ([], {"missed": 1}),
        ([(0, BOX, 0.9), (1, BOX, 0.8), (2, BOX, 0.7)], {"class": 2}),
        ([(2, ASIDE, 0.7), (0, ASIDE, 0.9)], {"both": 1, "localization": 1}),
    ],
)
def test_kinds_of_errors(said, kinds):
    truth, detections = truth_of([[(0, BOX)]]), detections_of([said])
    errors = detection_errors(truth, detections, score(truth, detections), 0.5)
    assert {kind: n for kind, n in errors.counts.items() if n} == kinds
    judged = [row for row in said if row[-1] >= 0.5]
    right = len(judged) - sum(n for kind, n in kinds.items() if kind != "missed")
    assert errors.f1.tolist() == [pytest.approx(2 * right / (len(judged) + 1))]
    assert errors.mistakes.tolist() == [len(judged) + 1 - 2 * right]
    assert errors.unfound.tolist() == [not right]


def test_an_image_without_boxes_and_detections_is_flawless():
    truth = truth_of([[], [(0, BOX)], []])
    detections = detections_of([[], [], [(0, FAR, 0.9)]])
    errors = detection_errors(truth, detections, score(truth, detections), 0.5)
    assert errors.f1.tolist() == [1, 0, 0]
    assert errors.counts["background"] == 1


def test_repairs_gain_what_they_should():
    truth = truth_of([[(0, BOX)], [(0, FAR)]], "ab")
    detections = detections_of([[(1, BOX, 0.9), (0, NEAR, 0.8)], [(1, FAR, 0.7)]])
    scores = score(truth, detections)
    assert scores.metrics["ap50"] == pytest.approx(51 / 101)  # one of two boxes
    found = gains(truth, detections, scores)
    assert found["class"] == pytest.approx(50 / 101)
    assert [kind for kind, gain in found.items() if abs(gain) > 1e-12] == ["class"]


def test_the_best_threshold_has_the_best_f1():
    truth, detections = scenes(3)
    scores = score(truth, detections)

    def f1(threshold):
        errors = detection_errors(truth, detections, scores, threshold)
        boxes = np.sum(~truth.crowd)
        right = np.sum(errors.kept & (scores.found >= 0))
        return 2 * right / (errors.kept.sum() + boxes)

    every = np.unique(np.concatenate([one["scores"] for one in detections]))
    best = best_threshold(truth, detections, scores)
    assert f1(best) == max(map(f1, every))
    ties = detections_of([[(0, BOX, 0.5), (0, FAR, 0.5)]])
    truth = truth_of([[(0, BOX)]])
    assert best_threshold(truth, ties, score(truth, ties)) == 0.5
