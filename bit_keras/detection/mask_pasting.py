"""From a detection's 28x28 probabilities to the pixels of an image that its object covers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

THRESHOLD = 0.5  # probability of a pixel from which on it is the object's


def pasted_masks(
    masks: np.ndarray, boxes: np.ndarray, image_size: Sequence[int]
) -> list[dict[str, Any]]:
    """Returns which pixels objects cover, as COCO run lengths.

    A pixel's probability is interpolated at its center between the centers of the mask's places;
    beyond the box it is 0. From 0.5 on it is covered.

    Args:
        masks: float32 `[D, rows, columns]`, probabilities of the parts of a box.
        boxes: float32 `[D, 4]` as left, top, right, bottom in pixels of the image. They may reach
            beyond it, and must then not have been cut at its edge, for the mask is of all of it.
        image_size: Height and width in pixels.

    Returns:
        For each object `{"size": [height, width], "counts": bytes}`, as pycocotools has it.
    """
    from pycocotools import mask as coco_masks

    height, width = map(int, image_size)
    canvas = np.zeros((height, width), np.uint8, order="F")
    found = []
    for mask, (left, top, right, bottom) in zip(masks, np.asarray(boxes, float), strict=True):
        rows, vertical = _interpolation(top, bottom, height, mask.shape[0])
        columns, horizontal = _interpolation(left, right, width, mask.shape[1])
        canvas[rows, columns] = vertical @ mask @ horizontal.T >= THRESHOLD
        found.append(coco_masks.encode(canvas))
        canvas[rows, columns] = 0
    return found


def _interpolation(low, high, pixels, places):
    """Along one side: a slice of pixels within the box, and their weights, `[pixels, places]`."""
    first, last = np.clip(np.ceil(np.array([low, high]) - 0.5), 0, pixels).astype(int)
    centers = np.arange(first, last) + 0.5
    at = (centers - low) / max(high - low, np.finfo(np.float32).tiny) * places - 0.5
    weights = np.maximum(1 - np.abs(at[:, np.newaxis] - np.arange(places)), 0)
    return slice(first, max(first, last)), weights.astype(np.float32)
