"""What a detector is to answer at every anchor of an image."""

from collections.abc import Sequence

import tensorflow as tf

from .anchors import anchors_of, encoded
from .kerascv import pairwise_iou

BACKGROUND, IGNORED = -1, -2  # in place of a class
_POSITIVE, _NEGATIVE = 0.5, 0.4  # IoU of an anchor and the object that it overlaps most


def detection_targets(
    images: tf.Tensor, labels: dict[str, tf.Tensor], *, anchor_sizes: Sequence[float]
) -> dict[str, tf.Tensor]:
    """Returns the targets of every anchor, for `training.Objective`.

    An anchor belongs to the object that it overlaps most: from an IoU of 0.5 on it is to find it,
    below 0.4 it is to find nothing, and between it is ignored. Besides, every object has the anchor
    that overlaps it most, however little, so that none is without; if two objects compete for one,
    it belongs to the one it overlaps more.

    Args:
        images: float32 `[batch, height, width, 3]`, of static sides.
        labels: `boxes`, float32 `[batch, N, 4]` as left, top, right, bottom in pixels of these
            images, and `classes`, int32 `[batch, N]`, -1 where there is none.
        anchor_sizes: As in `anchors_of`.

    Returns:
        `boxes`, float32 `[batch, A, 4]`, as `encoded`, zero where there is nothing to find; and
        `classes`, int32 `[batch, A]`: a class, -1 for nothing, -2 to be ignored.
    """
    anchors = anchors_of(*images.shape[1:3], anchor_sizes)
    boxes, classes = labels["boxes"], labels["classes"]
    overlap = pairwise_iou(anchors, boxes)  # [batch, A, N]
    overlap = tf.where(classes[:, tf.newaxis] >= 0, overlap, -1.0)
    most = tf.reduce_max(overlap, axis=2)
    # Only the first of equals: large anchors around a small object all overlap it as much.
    best_anchors = tf.argmax(overlap, axis=1, output_type=tf.int32)  # [batch, N]
    is_best = tf.range(len(anchors))[:, tf.newaxis] == best_anchors[:, tf.newaxis]
    forced = tf.where(is_best & (overlap > 0), overlap, 0.0)
    is_forced = tf.reduce_max(forced, axis=2) > 0
    owner = tf.argmax(tf.where(is_forced[..., tf.newaxis], forced, overlap), axis=2)
    found = is_forced | (most >= _POSITIVE)
    nothing = tf.where(most >= _NEGATIVE, IGNORED, BACKGROUND)
    targets = encoded(tf.gather(boxes, owner, batch_dims=1), anchors)
    return {
        # Where there is nothing to find, logarithms of a missing box's sides may be infinite.
        "boxes": tf.where(found[..., tf.newaxis], targets, 0.0),
        "classes": tf.where(found, tf.gather(classes, owner, batch_dims=1), nothing),
    }
