"""Everything that KerasCV does for us, in one place: it is an optional package, and frozen.

Not taken from KerasCV 0.9, because it is wrong or does not fit here:

- `BoxMatcher` can give every object an anchor, but then also gives the first anchor of each image
  to an object beyond the last, a column that it appends itself. `RetinaNetLabelEncoder` therefore
  leaves small objects without any anchor; and it updates a metric in every training step.
- `FeaturePyramid` and `PredictionHead` have 256 channels and no normalization.
- `NonMaxSuppression` lets boxes of one class suppress those of another.
- `_ROIAligner` is private, and fails under Keras 3: it gathers numbers in place of rows, 3,920 of
  31,360.
- `ROIPooler` takes the largest of whole places: its bins are up to one place beside their boxes.
- `ROIGenerator` neither cuts boxes at the image's edge nor drops small ones, fills up with boxes of
  -1, and takes 11 ms for 2,000 boxes, where suppression of all levels at once takes 2.
- `_ROISampler` is private, chooses by a global state instead of a seed, and takes 4 boxes of
  objects among 8, where a quarter is asked for and there are few others.
- `RetinaNet` is trained by `fit`, and adds its decoder to the model.

Its layers would follow a mixed policy, round boxes to bfloat16 and fail on them, so each is given
float32.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import tensorflow as tf


def grid_anchors(
    height: int,
    width: int,
    sizes: Sequence[float],
    *,
    scales: Sequence[float],
    aspect_ratios: Sequence[float],
    strides: Sequence[int],
) -> tf.Tensor:
    """Returns the anchors of an image, float32 `[A, 4]` as left, top, right, bottom in pixels.

    They are ordered by level, row, column, scale and aspect ratio (width to height), and are not
    clipped to the image. A level has ceil(height / stride) rows.

    Args:
        height, width: Of the image, in pixels.
        sizes: Side of each level's square anchor at scale 1, in pixels.
        scales, aspect_ratios: Of the anchors at every place; all of a scale have the same area.
        strides: Pixels between two places of each level.
    """
    generator = require_keras_cv().layers.AnchorGenerator(
        "xyxy", [*sizes], [*scales], [*aspect_ratios], [*strides], dtype="float32"
    )
    return tf.concat([*generator(image_shape=(height, width, 3)).values()], axis=0)


def pairwise_iou(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Returns intersection over union, `[..., N, M]`, of boxes `[..., N, 4]` and `[..., M, 4]`.

    Boxes without an area have 0 with all others.
    """
    return require_keras_cv().bounding_box.compute_iou(boxes, others, "xyxy")


def centers_and_sides(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the centers (x, y) and sides (width, height) of boxes `[..., 4]`, each `[..., 2]`."""
    converted = require_keras_cv().bounding_box.convert_format(boxes, "xyxy", "center_xywh")
    return converted[..., :2], converted[..., 2:]


def focal_losses(labels: tf.Tensor, logits: tf.Tensor, alpha: float, gamma: float) -> tf.Tensor:
    """Returns the sum over the classes of the focal loss, `[...]`.

    With p_t the probability of the right answer it is -alpha_t * (1 - p_t)**gamma * log(p_t), where
    alpha_t is alpha for 1 and 1 - alpha for 0.

    Args:
        labels: float32 `[..., num_classes]`, 0 or 1.
        logits: float32 `[..., num_classes]`, each with a sigmoid of its own.
        alpha, gamma: Weight of what is there, and how fast easy answers lose weight.
    """
    loss = require_keras_cv().losses.FocalLoss(
        alpha, gamma, from_logits=True, reduction="none", dtype="float32"
    )
    return loss(labels, logits)


def class_wise_nms(
    boxes: tf.Tensor,
    logits: tf.Tensor,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_boxes: int,
) -> dict[str, Any]:
    """Returns the best boxes of each image, after non-maximum suppression within every class.

    Args:
        boxes: float32 `[batch, N, 4]`.
        logits: float32 `[batch, N, num_classes]`.
        score_threshold: Only scores, the sigmoids of the logits, above it count.
        iou_threshold: A box is suppressed by a better one of its class with a larger IoU.
        max_boxes: D, of all classes together.

    Returns:
        `{"boxes": [batch, D, 4], "scores": [batch, D], "classes": int32 [batch, D]}`, best first;
        where there are fewer than D, zeros of the class -1.
    """
    layer = require_keras_cv().layers.MultiClassNonMaxSuppression(
        "xyxy",
        from_logits=True,
        iou_threshold=iou_threshold,
        confidence_threshold=score_threshold,
        max_detections=max_boxes,
        max_detections_per_class=max_boxes,
        dtype="float32",
    )
    found = layer(boxes, logits)
    classes = tf.cast(found["classes"], tf.int32)
    scores = tf.maximum(found["confidence"], 0.0)  # -1 where there is none
    kept = tf.where(classes[..., tf.newaxis] < 0, 0.0, found["boxes"])
    return {"boxes": kept, "scores": scores, "classes": classes}


def require_keras_cv() -> ModuleType:
    """Imports KerasCV; raises ValueError with the extra that it is in, if it is not installed."""
    try:
        import keras_cv
    except ImportError as error:
        raise ValueError(
            "object detection needs KerasCV, which is not installed; install it by "
            'pip install "bit-keras[detection]".'
        ) from error
    return keras_cv
