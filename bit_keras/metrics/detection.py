"""How right detections are: the scores of pycocotools, by pycocotools itself."""

import contextlib
import dataclasses
import importlib.util
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from .coco_json import TrueBoxes, detections_as_coco, true_boxes_as_coco

RECALLS = np.linspace(0, 1, 101)  # where pycocotools reads precision off a curve
ALL_SIZES, MOST = 0, 2  # of its areas and of its numbers of detections (100 an image and class)
IOU_TYPES = {"boxes": "bbox", "masks": "segm"}  # what pycocotools calls them
# What `COCOeval.stats` holds, by place: average precision (AP) and recall (AR).
STATS = {
    "ap": 0,
    "ap50": 1,
    "ap75": 2,
    "ap_small": 3,
    "ap_medium": 4,
    "ap_large": 5,
    "ar": 8,
}


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionScores:
    """How right the detections of all images are.

    Attributes:
        metrics: `ap` (mean over IoU 0.50, 0.55 ... 0.95), `ap50`, `ap75`, `ap_small` (areas below
            32x32 pixels), `ap_medium`, `ap_large` (above 96x96) and `ar` (with 100 detections an
            image and class), all in [0, 1]. A size that no box has is left out.
        per_class: For each class the number of its `boxes` (without crowds), `ap` and `ap50`, which
            are None for a class without boxes.
        precision50: float64 [K, 101]: each class's precision at IoU 0.5 by recall (`RECALLS`),
            interpolated as pycocotools does; NaN for a class without boxes.
        precision: float64 [K, 101]: its mean over all ten IoUs.
        found: int64 [number of detections, image by image]: the true box that a detection finds at
            IoU 0.5, as a row of `boxes`; -1 for none.
        ignored: bool, of the same shape: detections that count as neither right nor wrong, inside a
            crowd or beyond the 100 best of a class in an image.
        kind: "boxes" or "masks": whose overlap is meant by IoU.
    """

    metrics: dict[str, float]
    per_class: list[dict]
    precision50: np.ndarray
    precision: np.ndarray
    found: np.ndarray
    ignored: np.ndarray
    kind: str = "boxes"


def require_pycocotools(purpose: str = "score detections") -> None:
    """Raises ValueError if pycocotools is missing, which is needed for `purpose`."""
    if importlib.util.find_spec("pycocotools") is None:
        raise ValueError(
            f"pycocotools is needed to {purpose} and is not installed: "
            'pip install "bit-keras[detection]"'
        )


def score(
    truth: TrueBoxes, detections: Sequence[dict[str, Any]], kind: str = "boxes"
) -> DetectionScores:
    """Scores detections by pycocotools' COCOeval.

    Args:
        truth: The images' boxes, and masks.
        detections: For each image `boxes` float [D, 4] (left, top, right, bottom in pixels),
            `scores` float [D] and `classes` int [D]; for masks also `masks`, a list of D COCO RLEs
            of the image's size.
        kind: "boxes" or "masks": by whose overlap detections are judged. A detection's size is that
            of its box or of its mask; that of an object is `truth.areas` for both, as in COCO.

    Raises:
        ValueError: If pycocotools is missing, no image has a box outside crowds, detections are
            not finite, they are of another number of images, or masks are asked for and missing or
            of another size than their image.
    """
    require_pycocotools()
    if kind == "masks":
        _require_masks(truth, detections)
    if np.all(truth.crowd):
        raise ValueError(
            "no image has a box to find, and average precision needs some; add annotated images."
        )
    evaluator = _evaluated(truth, detections, kind)
    precision = evaluator.eval["precision"][..., ALL_SIZES, MOST]  # [IoUs, recalls, classes]
    precision = precision.transpose(0, 2, 1)[:, np.argsort(np.argsort(truth.category_ids))]
    precision = np.where(precision < 0, np.nan, precision)  # pycocotools has -1 without boxes
    found, ignored = _matches(evaluator, sum(len(one["scores"]) for one in detections))
    boxes = np.bincount(
        np.asarray(truth.classes)[~np.asarray(truth.crowd)], minlength=len(truth.class_names)
    )
    averages = precision.mean(axis=0)
    return DetectionScores(
        metrics={
            name: float(evaluator.stats[place])
            for name, place in STATS.items()
            if evaluator.stats[place] >= 0
        },
        per_class=[
            {"boxes": n, "ap": ap if n else None, "ap50": ap50 if n else None}
            for n, ap, ap50 in zip(
                boxes.tolist(),
                averages.mean(axis=1).tolist(),
                precision[0].mean(axis=1).tolist(),
                strict=True,
            )
        ],
        precision50=precision[0],
        precision=averages,
        found=found,
        ignored=ignored,
        kind=kind,
    )


def _require_masks(truth, detections):
    if not truth.has_masks:
        raise ValueError(
            "scores of masks need a mask of every object that is not a crowd, and some have none; "
            "add them, or score boxes."
        )
    for image_id, one in zip(truth.image_ids, detections, strict=False):
        if len(one["scores"]) and "masks" not in one:
            raise ValueError(
                f"the objects detected in image {image_id} have no masks, which scores of masks "
                "need; add them, or score boxes."
            )


def _evaluated(truth, detections, kind):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = detections_as_coco(truth, detections)
    if kind == "masks":  # beside a box, loadRes would take the box's area for the mask's
        for one in results:
            del one["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        known = COCO()
        known.dataset = true_boxes_as_coco(truth)
        known.createIndex()
        if results:
            said = known.loadRes(results)
        else:  # which loadRes does not take
            said = COCO()
            said.dataset = {**known.dataset, "annotations": []}
            said.createIndex()
        evaluator = COCOeval(known, said, IOU_TYPES[kind])
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def _matches(evaluator, number):
    """`found` and `ignored` of `DetectionScores`; ids are places, counted from 1."""
    found, ignored = np.full(number, -1), np.ones(number, bool)
    areas = evaluator.params.areaRng
    for one in evaluator.evalImgs:
        if one and one["aRng"] == areas[ALL_SIZES]:
            places = np.asarray(one["dtIds"], int) - 1
            ignored[places] = one["dtIgnore"][0]
            found[places] = np.where(one["dtIgnore"][0], 0, one["dtMatches"][0]) - 1
    return found, ignored
