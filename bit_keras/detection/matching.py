"""How far two programs find the same objects."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_LEAST_IOU, _SCORE = 0.99, 1e-3
# A probability at a mask's outline may be within rounding of the threshold. Of a mask of less than
# 200 pixels, even two such pixels are more than a hundredth.
_ROUNDED_PIXELS = 2


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far two programs find the same objects.

    Attributes:
        matched: The part of the objects of either that the other finds as well: in the same class,
            with an IoU of 0.99 or more, and with a score within 1e-3. If there are masks, theirs
            must have an IoU of 0.99 or more too, or differ by two pixels at most. 1 if there are no
            objects.
        score_difference, corner_difference: The largest of matched objects, the latter in pixels.
        mask_iou: The lowest of the masks of matched objects; 1 if there are none.
    """

    matched: float
    score_difference: float
    corner_difference: float
    mask_iou: float


def agreement(
    expected: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    threshold: float,
    most: int,
) -> Agreement:
    """Returns how far two lists of detections, as `all_detections` gives them, agree.

    Args:
        expected, found: The detections; either both have masks or neither has.
        threshold: The score that all have, at least.
        most: The most of an image. An object near the lowest score that was kept need not be found
            by both, for rounding decides about it.
    """
    from scipy.optimize import linear_sum_assignment  # takes a while, and only proofs need it

    matched, number, scores, corners, ious = 0, 0, [0.0], [0.0], [1.0]
    for one, other in zip(expected, found, strict=True):
        alike = _alike(one, other)
        if "masks" in one:
            same, overlaps = _same_masks(one["masks"], other["masks"])
            alike &= same
        rows, columns = linear_sum_assignment(alike, maximize=True)
        pairs = alike[rows, columns]
        rows, columns = rows[pairs], columns[pairs]
        if "masks" in one:
            ious += [*overlaps[rows, columns]]
        scores += [*np.abs(one["scores"][rows] - other["scores"][columns])]
        corners += [*np.abs(one["boxes"][rows] - other["boxes"][columns]).max(axis=1)]
        for each, kept in ((one, rows), (other, columns)):
            least = each["scores"].min() if len(each["scores"]) == most else threshold
            counted = each["scores"] > least + _SCORE
            number += counted.sum()
            matched += counted[kept].sum()
    part = float(matched / number) if number else 1.0
    return Agreement(part, float(max(scores)), float(max(corners)), float(min(ious)))


def _alike(one, other):
    """Which objects of one image are the same, bool [N, M]."""
    first, second = one["boxes"][:, None], other["boxes"][None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(
        first[..., :2], second[..., :2]
    )
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (first, second)]
    close = shared >= _LEAST_IOU * (areas[0] + areas[1] - shared)
    same = one["classes"][:, None] == other["classes"][None]
    return close & same & (np.abs(one["scores"][:, None] - other["scores"][None]) <= _SCORE)


def _same_masks(first, second):
    """Which masks of one image are the same, bool [N, M], and their intersections over unions."""
    from pycocotools import mask as coco_masks

    overlaps = coco_masks.iou(first, second, [0] * len(second))
    overlaps = np.reshape(overlaps, (len(first), len(second)))
    areas = np.add.outer(*(coco_masks.area(masks).astype(float) for masks in (first, second)))
    overlaps = np.where(areas == 0, 1, overlaps)  # of two that cover nothing
    # With s and u the pixels of both and of either: areas = s + u, and overlaps = s / u.
    few = areas * (1 - overlaps) <= (_ROUNDED_PIXELS + 0.5) * (1 + overlaps)
    return (overlaps >= _LEAST_IOU) | few, overlaps
