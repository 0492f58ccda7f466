"""From a detector's outputs to its detections."""

from collections.abc import Sequence

import tensorflow as tf

from .anchors import anchors_of, decoded, places
from .kerascv import class_wise_nms

_LEVEL_CANDIDATES = 1000  # Lin et al., 2017


def detections(
    outputs: dict[str, tf.Tensor],
    size: tuple[int, int],
    anchor_sizes: Sequence[float],
    *,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    max_boxes: int = 100,
) -> dict[str, tf.Tensor]:
    """Returns the best boxes of each image, which do not depend on the others of its batch.

    Of each level the 1,000 anchors with the highest scores are taken; then non-maximum suppression
    keeps the best of the boxes of one class that overlap.

    Args:
        outputs: Of a `RetinaNet`.
        size: Height and width of its images in pixels.
        anchor_sizes: As in `anchors_of`.
        score_threshold: Only boxes with a higher score, from 0 to 1, are kept.
        iou_threshold: Boxes of one class with a larger IoU are of one object.
        max_boxes: D, boxes of an image at most.

    Returns:
        `boxes`, float32 `[batch, D, 4]` as left, top, right, bottom in pixels of these images, and
        not clipped to them; `scores`, float32 `[batch, D]`, the highest first; and `classes`, int32
        `[batch, D]`. Where there are fewer, the class is -1, and box and score are 0.
    """
    anchors = anchors_of(*size, anchor_sizes)
    numbers = places(*size)
    parts = [tf.split(x, numbers, axis=1) for x in (outputs["boxes"], outputs["classes"])]
    boxes, logits = [], []
    for own, level_boxes, level_logits in zip(tf.split(anchors, numbers), *parts, strict=True):
        candidates = min(own.shape[0], _LEVEL_CANDIDATES)
        best = tf.math.top_k(tf.reduce_max(level_logits, axis=2), candidates).indices
        logits.append(tf.gather(level_logits, best, batch_dims=1))
        relative = tf.gather(level_boxes, best, batch_dims=1)
        boxes.append(decoded(relative, tf.gather(own, best)))
    return class_wise_nms(
        *(tf.concat(boxes, axis=1), tf.concat(logits, axis=1)),
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_boxes=max_boxes,
    )
