"""What is wrong with detections, in the kinds of TIDE (Bolya et al. 2020, arXiv:2008.08115)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from .coco_json import TrueBoxes, corner_and_size
from .detection import RECALLS, DetectionScores

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU
# In TIDE's order: a detection that fits several kinds is of the first. Texts have places for "box"
# and "boxes", or "mask" and "masks".
KINDS = {
    "localization": f"right class, but overlap only {BACKGROUND} to {FOREGROUND}",
    "class": "right place, wrong class",
    "duplicate": "of a {one} that a surer detection finds",
    "background": f"where no {{one}} is, or overlap below {BACKGROUND}",
    "both": "wrong class, and in the wrong place",
    "missed": "{many} not found, nor met by an error of the first two kinds",
}
NO_ERROR = -1
DEFAULT_THRESHOLD = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionErrors:
    """The errors of all images at IoU 0.5 and a score threshold.

    Attributes:
        threshold: Detections of lower scores are left out.
        kept: bool [number of detections, image by image]: those that are judged.
        kinds: int64, of the same shape: the place in `KINDS`; -1 for right or not judged.
        unfound: bool [M]: boxes outside crowds that no detection finds.
        counts: The number of errors of each kind.
        f1: float64 [N]: of each image, 2 * right / (detections + boxes); 1 where it has neither.
        mistakes: int64 [N]: of each image, wrong detections and unfound boxes.
    """

    threshold: float
    kept: np.ndarray
    kinds: np.ndarray
    unfound: np.ndarray
    counts: dict[str, int]
    f1: np.ndarray
    mistakes: np.ndarray


def best_threshold(
    truth: TrueBoxes, detections: Sequence[dict[str, np.ndarray]], scores: DetectionScores
) -> float:
    """Returns the score from which F1 over all boxes at IoU 0.5 is highest; 0.5 if none is right.

    It is a choice by these very images, good for pictures and counts and not for a claim.
    """
    said = _joined(detections, "scores")[~scores.ignored]
    right = scores.found[~scores.ignored] >= 0
    if not right.any():
        return DEFAULT_THRESHOLD
    order = np.argsort(-said, kind="stable")
    said, hits = said[order], np.cumsum(right[order])
    last = np.append(said[1:] != said[:-1], True)  # equal scores are kept or left out together
    f1 = 2 * hits / (np.arange(1, len(said) + 1) + np.sum(~np.asarray(truth.crowd)))
    return float(said[np.where(last, f1, -1).argmax()])


def detection_errors(
    truth: TrueBoxes,
    detections: Sequence[dict[str, np.ndarray]],
    scores: DetectionScores,
    threshold: float,
) -> DetectionErrors:
    """Splits the errors into kinds, by the overlap of what `scores` are of: boxes or masks.

    Args:
        truth, detections: As in `detection.score`.
        scores: What `detection.score` returned for them.
        threshold: The lowest score of detections to judge.
    """
    judged = (_joined(detections, "scores") >= threshold) & ~scores.ignored
    kinds, _, unfound, missed = _sorted_out(truth, detections, scores, judged)
    counts = np.bincount(kinds[kinds != NO_ERROR], minlength=len(KINDS)).tolist()
    counts[-1] = int(missed.sum())
    number = len(detections)
    image = np.repeat(np.arange(number), [len(one["scores"]) for one in detections])
    right, said = (
        np.bincount(image[rows], minlength=number)
        for rows in (judged & (scores.found >= 0), judged)
    )
    of_box = np.repeat(np.arange(number), np.diff(truth.starts))
    boxes = np.bincount(of_box[~np.asarray(truth.crowd)], minlength=number)
    return DetectionErrors(
        threshold=threshold,
        kept=judged,
        kinds=kinds,
        unfound=unfound,
        counts=dict(zip(KINDS, counts, strict=True)),
        f1=np.where(said + boxes, 2 * right / np.maximum(said + boxes, 1), 1.0),
        mistakes=said + boxes - 2 * right,
    )


def gains(
    truth: TrueBoxes, detections: Sequence[dict[str, np.ndarray]], scores: DetectionScores
) -> dict[str, float]:
    """Returns for each kind how much AP50 would rise, were its errors repaired.

    As in TIDE: of the detections of a wrong class or in a wrong place the surest one at each box
    that none finds is set right, the others are deleted, and so are those of the other kinds;
    missed boxes are not asked for. Of all detections, whatever their score.
    """
    said, classes = _joined(detections, "scores"), _joined(detections, "classes")
    judged, right = ~scores.ignored, scores.found >= 0
    kinds, targets, unfound, missed = _sorted_out(truth, detections, scores, judged)
    true_classes, outside = np.asarray(truth.classes), ~np.asarray(truth.crowd)
    numbers = np.bincount(true_classes[outside], minlength=len(truth.class_names))
    before = _ap50(said[judged], classes[judged], right[judged], numbers)
    near = np.flatnonzero(targets >= 0)
    near = near[unfound[targets[near]]]
    near = near[np.argsort(-said[near], kind="stable")]
    near = near[np.unique(targets[near], return_index=True)[1]]  # the surest of each box
    found = {}
    for place, kind in enumerate(KINDS):
        left, wanted, now, hits = judged & (kinds != place), numbers, classes.copy(), right.copy()
        if kind in ("localization", "class"):
            rows = near[kinds[near] == place]
            left[rows] = hits[rows] = True
            now[rows] = true_classes[targets[rows]]
        elif kind == "missed":
            wanted = numbers - np.bincount(true_classes[missed], minlength=len(numbers))
        after = _ap50(said[left], now[left], hits[left], wanted, among=numbers > 0)
        found[kind] = after - before
    return found


def _joined(detections, name):
    return np.concatenate([np.asarray(one[name]) for one in detections])


def _overlaps(truth, one, said, boxes, kind):
    """IoU [D, B] of the detections `said` of one image with true boxes, or of their masks."""
    from pycocotools.mask import iou

    if kind == "masks":
        pair = [one["masks"][k] for k in said], [truth.masks[k] for k in boxes]
    else:
        pair = [
            corner_and_size(np.asarray(values)[rows])
            for values, rows in ((one["boxes"], said), (truth.boxes, boxes))
        ]
    return iou(*pair, [0] * len(boxes))


def _sorted_out(truth, detections, scores, judged):
    """Kinds and target boxes of detections; boxes that none finds, and those that are missed."""
    outside, true_classes = ~np.asarray(truth.crowd), np.asarray(truth.classes)
    kinds, targets = np.full(len(judged), NO_ERROR), np.full(len(judged), -1)
    unfound = outside.copy()
    unfound[scores.found[judged & (scores.found >= 0)]] = False
    first = 0
    for i, one in enumerate(detections):
        last = first + len(one["scores"])
        wrong = np.flatnonzero(judged[first:last] & (scores.found[first:last] < 0))
        places, first = first + wrong, last
        boxes = np.arange(truth.starts[i], truth.starts[i + 1])
        boxes = boxes[outside[boxes]]
        if not (wrong.size and boxes.size):
            kinds[places] = list(KINDS).index("background")
            continue
        overlap = _overlaps(truth, one, wrong, boxes, scores.kind)
        same = np.asarray(one["classes"])[wrong, None] == true_classes[boxes]
        alike, unlike = np.where(same, overlap, 0), np.where(same, 0, overlap)
        best, other = alike.max(axis=1), unlike.max(axis=1)
        fits = [
            (best >= BACKGROUND) & (best < FOREGROUND),
            other >= FOREGROUND,
            best >= FOREGROUND,
            overlap.max(axis=1) < BACKGROUND,
        ]
        kind = np.argmax([*fits, np.ones(len(wrong), bool)], axis=0)  # the last is "both"
        kinds[places] = kind
        nearest = np.where(kind == 0, alike.argmax(axis=1), unlike.argmax(axis=1))
        targets[places] = np.where(kind <= 1, boxes[nearest], -1)
    missed = unfound.copy()
    missed[targets[targets >= 0]] = False
    return kinds, targets, unfound, missed


def _ap50(said, classes, right, numbers, among=None):
    """AP50 as pycocotools has it, from detections that are `right` and the `numbers` of boxes.

    Mean over the classes that are `among`, or have boxes; 0 for one without.
    """
    averages = []
    for k in np.flatnonzero(numbers > 0 if among is None else among):
        rows = np.flatnonzero(classes == k)
        hits = np.cumsum(right[rows[np.argsort(-said[rows], kind="stable")]])
        precision = hits / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(hits / max(numbers[k], 1), RECALLS)
        averages.append(np.append(precision, 0)[places].mean() if numbers[k] else 0.0)
    return float(np.mean(averages))
