"""Region proposals: boxes that may hold an object of any class, for a second stage to look at.

Ren et al., 2015, "Faster R-CNN", https://arxiv.org/abs/1506.01497, on the levels of a pyramid.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from .anchors import ASPECT_RATIOS, check_size, decoded
from .kerascv import class_wise_nms, grid_anchors

REGION_LEVELS = ("P2", "P3", "P4", "P5", "P6")
ANCHORS_EACH = len(ASPECT_RATIOS)  # at every place
_STRIDES = (4, 8, 16, 32, 64)
_IOU = 0.7  # of two proposals of a level; the worse one is dropped above it
_LEAST_SIDE = 1.0  # pixels


def default_region_sizes(size: int) -> tuple[float, ...]:
    """Returns the sides of the square anchors of P2 to P6, in pixels, for images of a side.

    Those of P6 are as large as the image, but at least 128 and at most 512 pixels; each level down
    has half of that. For images of 512 pixels or more they are the paper's, 32 to 512. Below twice
    P2's stride of 4 pixels, 8, objects between two places would overlap no anchor enough.
    """
    largest = float(min(max(size, 128), 512))
    return tuple(largest / 2**n for n in (4, 3, 2, 1, 0))


def region_anchors(height: int, width: int, sizes: Sequence[float]) -> tf.Tensor:
    """Returns all anchors of the proposal network, float32 `[A, 4]` as left, top, right, bottom.

    They are ordered by level, row, column and aspect ratio (width to height 0.5, 1, 2).

    Args:
        height, width: Of the image; multiples of 32 pixels, ValueError for others.
        sizes: Sides of the square anchors of P2 to P6, in pixels.
    """
    check_size(height, width)
    return grid_anchors(
        height, width, sizes, scales=(1.0,), aspect_ratios=ASPECT_RATIOS, strides=_STRIDES
    )


def region_places(height: int, width: int) -> list[int]:
    """Returns the number of anchors of each level, for an image of these sides."""
    return [ANCHORS_EACH * -(-height // stride) * -(-width // stride) for stride in _STRIDES]


def proposals(
    outputs: dict[str, tf.Tensor],
    size: tuple[int, int],
    anchor_sizes: Sequence[float],
    *,
    candidates: int,
    number: int,
) -> dict[str, tf.Tensor]:
    """Returns the best proposals of each image, which do not depend on the others of its batch.

    Of each level the anchors with the highest scores are taken, and their boxes cut at the image's
    edge. Non-maximum suppression within each level, at an IoU of 0.7, follows; the best of all
    levels remain. No gradient flows into the outputs.

    Args:
        outputs: `boxes`, float32 `[batch, A, 4]`, as `anchors.encoded` tells boxes, and `scores`,
            float32 `[batch, A]`, logits of an object.
        size: Height and width of the images in pixels.
        anchor_sizes: As in `region_anchors`.
        candidates: Anchors of a level that are looked at, at most.
        number: P, proposals of an image at most.

    Returns:
        `boxes`, float32 `[batch, P, 4]` as left, top, right, bottom in pixels, within the image and
        with sides of 1 pixel or more; and `scores`, float32 `[batch, P]`, above 0 to 1, the highest
        first. Where there are fewer, both are 0.
    """
    numbers = region_places(*size)
    anchors = tf.split(region_anchors(*size, anchor_sizes), numbers)
    level_boxes = tf.split(tf.stop_gradient(outputs["boxes"]), numbers, axis=1)
    level_scores = tf.split(tf.stop_gradient(outputs["scores"]), numbers, axis=1)
    limits = tf.constant([size[1], size[0]] * 2, tf.float32)
    boxes, logits = [], []
    for level, own in enumerate(anchors):
        best = tf.math.top_k(level_scores[level], min(own.shape[0], candidates))
        relative = tf.gather(level_boxes[level], best.indices, batch_dims=1)
        box = decoded(relative, tf.gather(own, best.indices))
        box = tf.clip_by_value(box, 0, limits)
        large = tf.reduce_min(box[..., 2:] - box[..., :2], axis=-1) >= _LEAST_SIDE
        boxes.append(box)
        # A level suppresses no other, so it takes the place of a class.
        score = tf.where(large, best.values, -float("inf"))[..., tf.newaxis]
        others = [(0, 0), (0, 0), (level, len(anchors) - 1 - level)]
        logits.append(tf.pad(score, others, constant_values=-float("inf")))
    found = class_wise_nms(
        *(tf.concat(boxes, axis=1), tf.concat(logits, axis=1)),
        score_threshold=0.0,
        iou_threshold=_IOU,
        max_boxes=number,
    )
    return {"boxes": found["boxes"], "scores": found["scores"]}


@keras.saving.register_keras_serializable("bit_keras")
class Proposals(keras.layers.Layer):
    """`proposals` of a proposal network's outputs, as a layer; `images` only tell their size."""

    def __init__(self, anchor_sizes: Sequence[float], candidates: int, number: int, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.anchor_sizes = tuple(anchor_sizes)
        self.numbers = {"candidates": candidates, "number": number}

    def call(self, outputs, images):
        return proposals(outputs, tuple(images.shape[1:3]), self.anchor_sizes, **self.numbers)

    def compute_output_spec(
        self, outputs: dict[str, keras.KerasTensor], images: keras.KerasTensor
    ) -> dict[str, keras.KerasTensor]:
        """Returns the shapes and dtypes of the proposals."""
        shape = (images.shape[0], self.numbers["number"])
        return {
            "boxes": keras.KerasTensor((*shape, 4), "float32"),
            "scores": keras.KerasTensor(shape, "float32"),
        }

    def get_config(self):
        return {**super().get_config(), "anchor_sizes": self.anchor_sizes, **self.numbers}
