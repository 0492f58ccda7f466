"""From a detection's 28x28 probabilities to the pixels of an image that its object covers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

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


def pasted_in_graph(masks: tf.Tensor, boxes: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """Returns which pixels objects cover, as `pasted_masks`, for the images of a batch.

    Masks are pasted one by one, and then put together: it takes twice the memory of the result.

    Args:
        masks: float32 `[batch, D, rows, columns]`; D and batch are 1 or more.
        boxes: float32 `[batch, D, 4]`.
        sides: int32 `[batch, 2]`, height and width of each image.

    Returns:
        uint8 `[batch, D, height, width]`, 1 where an object is and 0 elsewhere. Height and width
        are the largest of the batch; an image is in the upper left corner, and 0 is beyond it.
    """
    canvas = tf.reduce_max(sides, axis=0)

    def paste(one):
        mask, box, limits = one
        left, top, right, bottom = tf.unstack(tf.cast(box, tf.float64))
        above, below, vertical = _weights(top, bottom, limits[0], masks.shape[2])
        before, after, horizontal = _weights(left, right, limits[1], masks.shape[3])
        covered = vertical @ mask @ tf.transpose(horizontal) >= THRESHOLD
        margins = [[above, canvas[0] - below], [before, canvas[1] - after]]
        return tf.pad(tf.cast(covered, tf.uint8), margins)

    each = (
        tf.reshape(masks, [-1, *masks.shape[2:]]),
        tf.reshape(boxes, [-1, 4]),
        tf.repeat(sides, tf.shape(masks)[1], axis=0),
    )
    pixels = tf.TensorSpec([None, None], tf.uint8)
    # One at a time, for the probabilities take four times the memory of the pixels.
    found = tf.map_fn(paste, each, fn_output_signature=pixels, parallel_iterations=1)
    return tf.reshape(found, tf.concat([tf.shape(masks)[:2], canvas], 0))


def _weights(low, high, pixels, places):
    """As `_interpolation`: the first pixel, that after the last, and their weights."""
    ends = tf.cast(tf.math.ceil(tf.stack([low, high]) - 0.5), tf.int32)
    first, last = tf.unstack(tf.clip_by_value(ends, 0, pixels))
    last = tf.maximum(first, last)
    centers = tf.cast(tf.range(first, last), tf.float64) + 0.5
    at = (centers - low) / tf.maximum(high - low, np.finfo(np.float32).tiny) * places - 0.5
    weights = tf.maximum(1 - tf.abs(at[:, tf.newaxis] - tf.range(places, dtype=tf.float64)), 0)
    return first, last, tf.cast(weights, tf.float32)


def _interpolation(low, high, pixels, places):
    """Along one side: a slice of pixels within the box, and their weights, `[pixels, places]`."""
    first, last = np.clip(np.ceil(np.array([low, high]) - 0.5), 0, pixels).astype(int)
    centers = np.arange(first, last) + 0.5
    at = (centers - low) / max(high - low, np.finfo(np.float32).tiny) * places - 0.5
    weights = np.maximum(1 - np.abs(at[:, np.newaxis] - np.arange(places)), 0)
    return slice(first, max(first, last)), weights.astype(np.float32)
