"""The boxes that a detector starts from, and how it tells other boxes by them."""

import math
import numbers
from collections.abc import Callable, Sequence

import tensorflow as tf

from .kerascv import centers_and_sides, grid_anchors

LEVELS = ("P3", "P4", "P5", "P6", "P7")
STRIDES = (8, 16, 32, 64, 128)
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
ASPECT_RATIOS = (0.5, 1.0, 2.0)  # width to height
PER_PLACE = len(SCALES) * len(ASPECT_RATIOS)

# Distances in tenths of an anchor's sides and logarithms in fifths: all targets are near 1 then.
_UNITS = (0.1, 0.1, 0.2, 0.2)
_LARGEST_FACTOR = 62.5  # of a decoded side and its anchor's; untrained, exp could overflow


def checked_settings(
    num_classes: int,
    size: int,
    channels: int,
    sizes: Sequence[float] | None,
    *,
    levels: Sequence[str],
    default: Callable[[int], tuple[float, ...]],
) -> tuple[float, ...]:
    """Returns the anchors' sizes; raises ValueError for wrong settings of a detector.

    Args:
        num_classes, size, channels: As of `RetinaNet`.
        sizes: Sides in pixels of the square anchors of each level; None for the default.
        levels: Of the pyramid.
        default: From `size` to the default.
    """
    if not (isinstance(num_classes, numbers.Integral) and num_classes >= 1):
        raise ValueError(f"num_classes must be 1 or more, got {num_classes!r}.")
    check_size(size, size)
    if not (isinstance(channels, numbers.Integral) and channels >= 8 and channels % 8 == 0):
        raise ValueError(f"channels must be a multiple of 8, got {channels!r}.")
    sizes = default(size) if sizes is None else tuple(sizes)
    if len(sizes) != len(levels) or not all(0 < side < math.inf for side in sizes):
        raise ValueError(
            f"anchor_sizes must be {len(levels)} numbers above 0, of {', '.join(levels)}, got "
            f"{sizes}."
        )
    return sizes


def default_anchor_sizes(size: int) -> tuple[float, ...]:
    """Returns the sides of the square anchors of P3 to P7, in pixels, for images of a side.

    Those of P7 are as large as the image, but at least 256 and at most 512 pixels; each level down
    has half of that. For images of 512 pixels or more they are RetinaNet's own, 32 to 512. Smaller
    images show smaller objects, but below twice P3's stride of 8 pixels, 16, objects between two
    places would overlap no anchor enough.
    """
    largest = float(min(max(size, 256), 512))
    return tuple(largest / 2**n for n in (4, 3, 2, 1, 0))


def check_size(height: int | None, width: int | None) -> None:
    """Raises ValueError unless both sides of an image are known multiples of 32 pixels."""
    if not all(side and side > 0 and side % 32 == 0 for side in (height, width)):
        raise ValueError(
            f"a detector's images must have sides that are multiples of 32 pixels, got {height} x "
            f"{width}; resize or pad them."
        )


def places(height: int, width: int) -> list[int]:
    """Returns the number of anchors of each level, for an image of these sides."""
    return [PER_PLACE * -(-height // stride) * -(-width // stride) for stride in STRIDES]


def anchors_of(height: int, width: int, sizes: Sequence[float]) -> tf.Tensor:
    """Returns all anchors of an image, float32 `[A, 4]` as left, top, right, bottom in pixels.

    Their order is that of the detector's outputs: by level, row, column, scale and aspect ratio.

    Args:
        height, width: Multiples of 32 pixels; ValueError for others.
        sizes: Sides of the square anchors of P3 to P7 at scale 1, in pixels. Three scales (a third
            of an octave apart) by three aspect ratios (1:2, 1:1, 2:1) make nine at each place.
    """
    check_size(height, width)
    return grid_anchors(
        height, width, sizes, scales=SCALES, aspect_ratios=ASPECT_RATIOS, strides=STRIDES
    )


def encoded(boxes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """Returns boxes `[..., A, 4]` relative to anchors `[A, 4]`, in the units of the outputs.

    They are (x, y, log width, log height): offsets of centers by an anchor's sides, in tenths, and
    logarithms of ratios of sides, in fifths. Not finite for boxes without an area.
    """
    (center, side), (anchor_center, anchor_side) = map(centers_and_sides, (boxes, anchors))
    offsets, ratios = (center - anchor_center) / anchor_side, side / anchor_side
    return tf.concat([offsets, tf.math.log(ratios)], axis=-1) / _UNITS


def decoded(outputs: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """Returns the boxes that outputs `[..., A, 4]` tell, in pixels: the inverse of `encoded`.

    No side is more than 62.5 times as long as its anchor's.
    """
    anchor_center, anchor_side = centers_and_sides(anchors)
    outputs = outputs * _UNITS
    center = anchor_center + outputs[..., :2] * anchor_side
    half = anchor_side / 2 * tf.minimum(tf.exp(outputs[..., 2:]), _LARGEST_FACTOR)
    return tf.concat([center - half, center + half], axis=-1)
