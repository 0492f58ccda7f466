"""Scores of masks against pycocotools on files, TIDE's own program, and hand-made shapes."""

import json

import numpy as np
import pytest
from detections import (
    Truth,
    detections_of,
    ellipse,
    rectangle,
    right_answers,
    scenes,
    truth_of,
    with_masks,
)
from pycocotools import mask as mask_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bit_keras.detection.answers import Evaluation, scores_text, sentence
from bit_keras.detection.coco_files import write_coco_boxes, write_coco_detections
from bit_keras.metrics.detection import score
from bit_keras.metrics.detection_errors import detection_errors, gains

BOX, CROWD = (100, 100, 200, 200), (250, 50, 350, 150)
NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar")
PLACES = [0, 1, 2, 3, 4, 5, 8]  # in `COCOeval.stats`


def by_hand(truth_file, answers):
    """COCOeval as its own documentation runs it."""
    known = COCO(truth_file)
    evaluator = COCOeval(known, known.loadRes(answers), "segm")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return evaluator


def one_object(mask, answer):
    """A true object, and one found in its very box with another mask."""
    truth = truth_of([[(0, BOX)]], masks=np.array([mask, None], object)[:1])
    (found,) = detections_of([[(0, BOX, 0.9)]])
    return truth, [{**found, "masks": [answer]}]


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_those_of_pycocotools_on_the_files(tmp_path, seed):
    truth, detections = with_masks(*scenes(seed))
    truth.category_ids = [7, 90, 3, 11, 12]  # with gaps, in no order
    truth.image_ids = [f"photo {(7 * i) % 30}" for i in range(30)]
    found = score(truth, detections, "masks")
    write_coco_boxes(tmp_path / "truth.json", truth)
    write_coco_detections(tmp_path / "answers.json", truth, detections)
    expected = by_hand(tmp_path / "truth.json", str(tmp_path / "answers.json"))
    for name, value in zip(NAMES[:3], expected.stats[:3], strict=True):
        assert found.metrics[name] == pytest.approx(value, abs=1e-6), name
    assert 0.1 < found.metrics["ap"] < 0.9
    by_id = dict(zip(expected.params.catIds, range(5), strict=True))
    for k, category in enumerate(truth.category_ids):
        curves = expected.eval["precision"][:, :, by_id[category], 0, 2]
        assert found.per_class[k]["ap"] == pytest.approx(curves.mean(), abs=1e-6)
        np.testing.assert_allclose(found.precision50[k], curves[0], atol=1e-6)
    # Sizes are those of masks where the file has no boxes, as tools that score masks alone do it.
    answers = json.loads((tmp_path / "answers.json").read_text())
    for one in answers:
        del one["bbox"]
    expected = by_hand(tmp_path / "truth.json", answers)
    for name, value in zip(NAMES, expected.stats[PLACES], strict=True):
        assert found.metrics[name] == pytest.approx(value, abs=1e-6), name


def test_perfect_masks_score_one(capsys):
    truth, _ = with_masks(*scenes(5, crowds=False))
    detections = right_answers(truth)
    scores = score(truth, detections, "masks")
    assert scores.metrics == {name: pytest.approx(1) for name in NAMES}
    errors = detection_errors(truth, detections, scores, 0.5)
    assert sum(errors.counts.values()) == errors.mistakes.sum() == 0
    assert all(abs(gain) < 1e-12 for gain in gains(truth, detections, scores).values())
    assert capsys.readouterr() == ("", "")


def test_moved_masks_score_lower_and_the_boxes_do_not():
    averages = []
    for moved in (0, 4, 16):
        truth, _ = scenes(5, crowds=False)
        evaluation = Evaluation(*with_masks(truth, right_answers(truth), moved))
        assert evaluation.metrics["ap"] == pytest.approx(1)
        averages.append(evaluation.metrics["mask_ap"])
    assert averages[0] == pytest.approx(1)
    assert averages[0] > averages[1] + 0.1 > averages[2] + 0.2


@pytest.mark.parametrize(("columns", "expected"), [(100, 1), (91, 0.9), (72, 0.5), (49, 0)])
def test_the_average_counts_the_thresholds_that_the_overlap_reaches(columns, expected):
    whole, part = rectangle(*BOX), rectangle(100, 100, 100 + columns, 200)
    scores = score(*one_object(whole, part), "masks")
    assert scores.metrics["ap"] == pytest.approx(expected)


def test_errors_are_by_masks_where_there_are_masks():
    given = one_object(rectangle(*BOX), rectangle(100, 100, 130, 200))  # IoU 0.3
    evaluation = Evaluation(*given, threshold=0.5)
    assert evaluation.judged.kind == "masks"
    assert {kind: n for kind, n in evaluation.errors.counts.items() if n} == {"localization": 1}
    assert evaluation.gains["localization"] == pytest.approx(1)
    assert evaluation.errors.unfound.tolist() == [True]
    without = Evaluation(truth_of([[(0, BOX)]]), given[1], threshold=0.5)
    assert without.judged.kind == "boxes"
    assert not any(without.errors.counts.values())


# Counted and computed by tidecv 1.0.1 in its mode for masks, percent of AP50.
TIDE = {
    "localization": (65, 28.287716538879003),
    "class": (25, 8.877884068026304),
    "duplicate": (23, 1.4223669752643318),
    "background": (43, 2.529602941998519),
    "both": (8, 0.591612037025584),
    "missed": (42, 6.509476877892958),
}


def test_errors_are_those_of_tide():
    truth, detections = with_masks(*scenes(0, 60, crowds=False), moved=3)
    scores = score(truth, detections, "masks")
    errors = detection_errors(truth, detections, scores, -1)
    assert errors.counts == {kind: count for kind, (count, _) in TIDE.items()}
    found = gains(truth, detections, scores)
    assert found == {kind: pytest.approx(gain / 100, abs=1e-6) for kind, (_, gain) in TIDE.items()}


def test_a_crowd_without_a_mask_is_its_whole_box(tmp_path):
    masks = np.array([ellipse(BOX), None], object)
    truth = truth_of([[(0, BOX), (0, CROWD, True)]], "a", masks=masks)
    (found,) = detections_of([[(0, BOX, 0.8), (0, CROWD, 0.9), (0, CROWD, 0.85)]])
    inside, across = rectangle(260, 60, 340, 140), rectangle(320, 60, 440, 140)
    found["masks"] = [ellipse(BOX), inside, across]
    scores = score(truth, [found], "masks")
    assert scores.ignored.tolist() == [False, True, False]
    assert scores.found.tolist() == [0, -1, -1]
    write_coco_boxes(tmp_path / "truth.json", truth)
    known = COCO(tmp_path / "truth.json")
    crowd = mask_tools.decode(known.annToRLE(known.anns[2]))
    np.testing.assert_array_equal(crowd, mask_tools.decode(rectangle(*CROWD)))


def test_metrics_and_classes_have_those_of_masks_beside():
    truth, detections = scenes(0)
    plain = Evaluation(truth, detections)
    masked = Evaluation(*with_masks(truth, detections))
    of_masks = {f"mask_{name}" for name in NAMES}
    assert {*masked.metrics} == {*plain.metrics} | of_masks
    assert masked.metrics["mask_ap"] == masked.mask_scores.metrics["ap"] != masked.metrics["ap"]
    assert {*masked.per_class[0]} == {"class", "boxes", "ap", "ap50", "mask_ap", "mask_ap50"}
    for row, own in zip(masked.per_class, masked.mask_scores.per_class, strict=True):
        assert (row["mask_ap"], row["mask_ap50"]) == (own["ap"], own["ap50"])
    metrics = {"ap": 0.5, "ap50": 0.75, "ap75": 0.25, "num_test": 3}
    shown = "AP 50.00%, AP50 75.00%, AP75 25.00%"
    of_masks = {f"mask_{name}": metrics[name] for name in NAMES[:3]}
    assert sentence({**metrics, **of_masks}) == f"boxes {shown}; masks {shown} on 3 test images"
    assert scores_text(metrics, ("ap", "ap50")) == "AP 50.00%, AP50 75.00%"


def test_masks_of_images_or_detections_alone_change_no_score():
    truth, detections = scenes(0, crowds=False)
    masked_truth, masked_detections = with_masks(truth, detections)
    masked_truth.areas = truth.areas
    partly = Truth(**{**vars(masked_truth), "masks": np.append(masked_truth.masks[:-1], None)})
    expected = Evaluation(truth, detections)
    for given in (
        (masked_truth, detections),
        (truth, masked_detections),
        (partly, masked_detections),
    ):
        found = Evaluation(*given)
        assert (found.mask_scores, found.judged) == (None, found.scores)
        assert (found.metrics, found.per_class) == (expected.metrics, expected.per_class)
        assert found.errors.counts == expected.errors.counts


def test_a_detector_that_finds_nothing_scores_zero():
    truth, _ = with_masks(*scenes(1))
    none = [{**one, "masks": []} for one in detections_of([[]] * 30)]
    metrics = Evaluation(truth, none).metrics
    assert metrics["mask_ap"] == metrics["mask_ar"] == 0


def test_results_hold_masks_as_text_that_pycocotools_decodes(tmp_path):
    truth, detections = with_masks(*scenes(1))
    write_coco_detections(tmp_path / "answers.json", truth, detections)
    said = json.loads((tmp_path / "answers.json").read_text())
    masks = [mask for one in detections for mask in one["masks"]]
    assert {*said[0]} == {"image_id", "category_id", "bbox", "score", "segmentation"}
    for entry, mask in zip(said, masks, strict=True):
        assert isinstance(entry["segmentation"]["counts"], str)
        assert mask_tools.iou([entry["segmentation"]], [mask], [0]) == 1 or not mask_tools.area(
            mask
        )
    first = mask_tools.decode(said[0]["segmentation"])
    np.testing.assert_array_equal(first, mask_tools.decode(masks[0]))


def test_mistaken_masks_are_named_and_nothing_is_written(tmp_path):
    truth, detections = with_masks(*scenes(1))
    truth.image_ids = [f"{i}.jpg" for i in range(30)]
    i = next(i for i, one in enumerate(detections) if len(one["scores"]) > 1)
    image = rf"image {i}\.jpg"

    def changed(masks):
        return [*detections[:i], {**detections[i], "masks": masks}, *detections[i + 1 :]]

    other = [ellipse(box, (200, 100)) for box in detections[i]["boxes"]]
    expected = rf"detected in {image} is of 100x200 pixels, and the image of 480x320; masks must"
    with pytest.raises(ValueError, match=expected):
        score(truth, changed(other), "masks")
    with pytest.raises(ValueError, match=expected):
        write_coco_detections(tmp_path / "answers.json", truth, changed(other))
    with pytest.raises(ValueError, match=rf"{image} has 1 masks for \d detected boxes"):
        score(truth, changed(other[:1]), "masks")
    lacking = {name: detections[i][name] for name in ("boxes", "scores", "classes")}
    with pytest.raises(ValueError, match=f"detected in {image} have no masks"):
        score(truth, [*detections[:i], lacking, *detections[i + 1 :]], "masks")
    with pytest.raises(ValueError, match="need a mask of every object that is not a crowd"):
        score(scenes(1)[0], detections, "masks")
    truth.masks[truth.starts[i]] = ellipse(BOX, (200, 100))
    with pytest.raises(ValueError, match=rf"an object of {image} is of 100x200 pixels"):
        write_coco_boxes(tmp_path / "truth.json", truth)
    assert not [*tmp_path.iterdir()]
