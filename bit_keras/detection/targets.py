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
    owners, classes = matched(anchors, labels, positive=_POSITIVE, negative=_NEGATIVE)
    targets = encoded(tf.gather(labels["boxes"], owners, batch_dims=1), anchors)
    return {
        # Where there is nothing to find, logarithms of a missing box's sides may be infinite.
        "boxes": tf.where(classes[..., tf.newaxis] >= 0, targets, 0.0),
        "classes": classes,
    }


def matched(
    boxes: tf.Tensor,
    labels: dict[str, tf.Tensor],
    *,
    positive: float,
    negative: float,
    each_has_one: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns which object each box belongs to, and what it is to find.

    Args:
        boxes: float32 `[A, 4]`, or `[batch, A, 4]`.
        labels: `boxes` and `classes`, as of `detection_targets`.
        positive: From this IoU on with the object that it overlaps most, a box is to find it.
        negative: Below this IoU it is to find nothing; between both it is ignored.
        each_has_one: Whether every object has the box that overlaps it most, however little. If two
            objects compete for one, it belongs to the one it overlaps more.

    Returns:
        Rows of `labels`, int32 `[batch, A]`, and classes, int32 `[batch, A]`: that of the object,
        -1 for nothing, -2 to be ignored.
    """
    classes = labels["classes"]
    overlap = pairwise_iou(boxes, labels["boxes"])  # [batch, A, N]
    overlap = tf.where(classes[:, tf.newaxis] >= 0, overlap, -1.0)
    most = tf.reduce_max(overlap, axis=2)
    found = most >= positive
    owners = tf.argmax(overlap, axis=2, output_type=tf.int32)
    if each_has_one:
        # Only the first of equals: large anchors around a small object all overlap it as much.
        best = tf.argmax(overlap, axis=1, output_type=tf.int32)  # [batch, N]
        is_best = tf.range(boxes.shape[-2])[:, tf.newaxis] == best[:, tf.newaxis]
        forced = tf.where(is_best & (overlap > 0), overlap, 0.0)
        is_forced = tf.reduce_max(forced, axis=2) > 0
        found |= is_forced
        owners = tf.where(is_forced, tf.argmax(forced, axis=2, output_type=tf.int32), owners)
    nothing = tf.where(most >= negative, IGNORED, BACKGROUND)
    return owners, tf.where(found, tf.gather(classes, owners, batch_dims=1), nothing)
