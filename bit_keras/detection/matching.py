"""How far two programs find the same objects."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

_LEAST_IOU, _SCORE = 0.99, 1e-3


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far two programs find the same objects.

    Attributes:
        matched: The part of the objects of either that the other finds as well: in the same class,
            with an IoU of 0.99 or more, and with a score within 1e-3. 1 if there are none.
        score_difference, corner_difference: The largest of matched objects, the latter in pixels.
    """

    matched: float
    score_difference: float
    corner_difference: float


def agreement(
    expected: Sequence[Mapping[str, np.ndarray]],
    found: Sequence[Mapping[str, np.ndarray]],
    threshold: float,
    most: int,
) -> Agreement:
    """Returns how far two lists of detections, as `all_detections` gives them, agree.

    Args:
        expected, found: The detections.
        threshold: The score that all have, at least.
        most: The most of an image. An object near the lowest score that was kept need not be found
            by both, for rounding decides about it.
    """
    matched, number, scores, corners = 0, 0, [0.0], [0.0]
    for one, other in zip(expected, found, strict=True):
        alike = _alike(one, other)
        rows, columns = linear_sum_assignment(alike, maximize=True)
        pairs = alike[rows, columns]
        rows, columns = rows[pairs], columns[pairs]
        scores += [*np.abs(one["scores"][rows] - other["scores"][columns])]
        corners += [*np.abs(one["boxes"][rows] - other["boxes"][columns]).max(axis=1)]
        for each, kept in ((one, rows), (other, columns)):
            least = each["scores"].min() if len(each["scores"]) == most else threshold
            counted = each["scores"] > least + _SCORE
            number += counted.sum()
            matched += counted[kept].sum()
    return Agreement(
        float(matched / number) if number else 1.0, float(max(scores)), float(max(corners))
    )


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
