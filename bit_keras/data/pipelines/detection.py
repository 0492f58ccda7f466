"""The input pipeline of detection: a batch is a function of (seed, step), see `order`."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ..boxed_images import BoxedImages
from ..labeled_images import DataError
from ..masks import MASK_SIDE, coverage, require_masks
from .batching import check_sizes, endless_batches, flipped_at_random, ordered_batches, resized
from .order import random_keys, shuffled_index

FITS = ("letterbox", "stretch")
PAD = 0.5  # gray, which the network sees as zero
MIN_VISIBLE = 0.1  # of a box's area that must remain within the picture to be trained on
MIN_SIDE = 1.0  # pixels of the picture, for a box to be trained on


def detection_batches(
    images: BoxedImages,
    *,
    batch: int,
    size: int,
    seed: int,
    start_step: int = 0,
    scale_jitter: tuple[float, float] = (0.8, 1.25),
    fit: str = "letterbox",
    part: tuple[int, int] = (0, 1),
    masks: bool = False,
    seeds: bool = False,
) -> tf.data.Dataset:
    """Augmented batches without end, from `start_step` on.

    An image is resized to fit a square of `size` pixels a side, times a random scale. Where it is
    then larger than the square, a random part is cut out; where it is smaller, it lies at a random
    place over gray. It is mirrored with probability 1/2 if "flip" is in `images.augmentations`.
    Boxes move as their pixels do, in real numbers, and are cut off at the border. A box is left out
    if less than a tenth of its area is within the square, or if it is less than 1 pixel wide or
    high there; and so are those of `images.crowd`.

    Args:
        images: The training images; a batch may be larger than the data set.
        batch, seed, start_step, part: As in `training_batches`.
        size: Side in pixels of the square.
        scale_jitter: The smallest and the largest scale; its logarithm is uniform between theirs.
            (1, 1) for none.
        fit: "letterbox" keeps the aspect ratio, so that the long side fits; "stretch" does not.
        masks: Whether labels have "masks", uint8 [batch / n, D, 112, 112], how much of each cell of
            a grid over the object's whole box the object covers, from 0 to 255 for all; "frames",
            float32 [batch / n, D, 4], where that box then is in pixels of the square, not cut off;
            and "seeds".
        seeds: Whether labels have "seeds", int32 [batch / n, 2], random numbers of (seed, step,
            row), for random choices within the training step.

    Returns:
        Elements (float32 [batch / n, size, size, 3] in [0, 1], {"boxes": float32 [batch / n, D, 4],
        [left, top, right, bottom] in pixels of the square, "classes": int32 [batch / n, D]}), where
        D is the largest number of boxes in an image of the set, at least 1. Rows without an object
        are last, of zeros and class -1.

    Raises:
        DataError: If `size` is below 32, `batch` below 1 or not divided by n, `start_step`
            negative, `scale_jitter` not two positive numbers in order, `fit` neither of the two, or
            an object has no mask where `masks` are asked for.
    """
    _check(batch, size, fit)
    if masks:
        require_masks(images)
    lowest, highest = scale_jitter
    if not 0 < lowest <= highest < np.inf:
        raise DataError(
            "scale_jitter must be two positive numbers, the smaller one first, such as (0.8, "
            f"1.25), got {scale_jitter}"
        )
    order_key, augment_key, seed_key = random_keys(seed)
    objects, grids = _objects(images), _grids(images) if masks else None

    def example(position):
        index = shuffled_index(position, len(images), order_key)
        boxes, classes, rows = objects(index)
        image = tf.ensure_shape(images.read(index), [None, None, 3])
        random = tf.random.stateless_uniform([4], [augment_key, position])
        factor = lowest * (highest / lowest) ** random[0]
        sides, scale = _fitted(tf.shape(image)[:2], size, fit, factor)
        image = resized(image, sides[0], sides[1]) / 255
        image, offset = _canvas(image, sides, size, random[1:3])
        boxes = boxes * tf.tile(scale, [2]) + tf.tile(offset, [2])
        flips = "flip" in images.augmentations
        if flips:
            image = flipped_at_random(image, random[3])
            mirrored = tf.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]])
            boxes = tf.where(random[3] < 0.5, tf.transpose(mirrored), boxes)
        clipped, kept = _visible(boxes, size)
        chosen = {"boxes": clipped, "classes": classes}
        if masks:
            chosen |= {"frames": boxes, "rows": rows}
        labels = {name: tf.boolean_mask(values, kept) for name, values in chosen.items()}
        if masks:
            labels["masks"] = grids(labels.pop("rows"))
            if flips:
                mirrored = tf.reverse(labels["masks"], [2])
                labels["masks"] = tf.where(random[3] < 0.5, mirrored, labels["masks"])
        labels = _padded(labels, _most_boxes(images))
        if masks or seeds:
            labels["seeds"] = tf.random.stateless_uniform(
                [2], [seed_key, position], minval=None, maxval=None, dtype=tf.int32
            )
        return image, labels

    return endless_batches(example, batch, start_step, part)


def detection_test_batches(
    images: BoxedImages, *, batch: int, size: int, fit: str = "letterbox"
) -> tf.data.Dataset:
    """One pass over the images in their order, without random changes.

    Returns:
        Elements (float32 [b, size, size, 3] in [0, 1], {"scale": float32 [b, 2]}), as `fitted`
        makes them of each image; b is `batch`, or for the last element what remains.

    Raises:
        DataError: If `size` is below 32, `batch` below 1, or `fit` unknown.
    """
    _check(batch, size, fit)

    def example(index):
        image, scale = fitted(images.read(index), size, fit)
        return image, {"scale": scale}

    return ordered_batches(example, len(images), batch)


def fitted(image: tf.Tensor, size: int, fit: str = "letterbox") -> tuple[tf.Tensor, tf.Tensor]:
    """An image in the upper left corner of a square, over gray, as a detector is tested on it.

    Args:
        image: uint8 [height, width, 3].
        size: Side in pixels of the square.
        fit: "letterbox" resizes so that the long side is `size`; "stretch" both sides.

    Returns:
        (float32 [size, size, 3] in [0, 1], the scale as float32 [2] for x and y: a box of the image
        times the scale is the box in the square).
    """
    image = tf.ensure_shape(image, [None, None, 3])
    sides, scale = _fitted(tf.shape(image)[:2], size, fit, 1.0)
    image = resized(image, sides[0], sides[1]) / 255
    image, _ = _canvas(image, sides, size, tf.zeros([2]))
    return image, scale


def letterboxed(images: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Images of one size as `fitted` makes them, by operations that other runtimes have.

    Args:
        images: float32 [batch, height, width, 3] in [0, 1].
        size: Side in pixels of the squares.

    Returns:
        (float32 [batch, size, size, 3] in [0, 1], the scale as float32 [2] for x and y).
    """
    sides, scale = _fitted(tf.shape(images)[1:3], size, "letterbox", 1.0)
    images = tf.image.resize(images, sides)
    padding = tf.concat([[[0, 0]], tf.stack([[0, 0], size - sides], 1), [[0, 0]]], 0)
    images = tf.pad(images, padding, constant_values=PAD)
    return tf.ensure_shape(images, [None, size, size, 3]), scale


def original_boxes(
    boxes: np.ndarray, image_sizes: np.ndarray, size: int, fit: str = "letterbox"
) -> np.ndarray:
    """Boxes in squares that `fitted` made, as boxes in the images they were made of.

    Args:
        boxes: float32 [N, D, 4], in pixels of the squares.
        image_sizes: int32 [N, 2], the (height, width) of the images.
        size, fit: As in `fitted`.

    Returns:
        float32 [N, D, 4] in pixels of the images, and not cut off at their edges.
    """
    scales = np.stack([_fitted(tf.constant(sides), size, fit, 1.0)[1] for sides in image_sizes])
    return boxes / np.tile(scales, 2)[:, np.newaxis]


def _check(batch, size, fit):
    check_sizes(batch, size=size)
    if fit not in FITS:
        raise DataError(f"fit must be {' or '.join(map(repr, FITS))}, got {fit!r}")


def _counts(images):
    """How many boxes of each image are trained on, int64 [N]."""
    sums = np.concatenate([[0], np.cumsum(~images.crowd)])
    return np.diff(sums[images.starts])


def _most_boxes(images):
    return max(1, int(_counts(images).max()))


def _objects(images: BoxedImages) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """From an index to the boxes and classes to train on, and to their numbers among all such."""
    with tf.device("CPU:0"):
        boxes = tf.constant(images.boxes[~images.crowd])
        classes = tf.constant(images.classes[~images.crowd])
        starts = tf.constant(np.concatenate([[0], np.cumsum(_counts(images))]), tf.int64)

    def objects(index):
        start, stop = starts[index], starts[index + 1]
        return boxes[start:stop], classes[start:stop], tf.range(start, stop)

    return objects


def _grids(images):
    """From the numbers of objects, as `_objects` has them, to their uint8 [n, side, side]."""
    codes, boxes = images.masks[~images.crowd], images.boxes[~images.crowd]

    def covered(rows):
        found = [coverage(codes[row], boxes[row]) for row in rows]
        return np.reshape(found, (-1, MASK_SIDE, MASK_SIDE)).astype(np.uint8)

    def grids(rows):
        found = tf.numpy_function(covered, [rows], tf.uint8, stateful=False)
        return tf.ensure_shape(found, [None, MASK_SIDE, MASK_SIDE])

    return grids


def _fitted(sides, size, fit, factor):
    """(int32 [height, width] to resize to, float32 scale of x and y), both of whole pixels."""
    original = tf.cast(sides, tf.float32)
    wanted = original * (size / tf.reduce_max(original)) if fit == "letterbox" else size
    sides = tf.maximum(1, tf.cast(tf.round(wanted * factor * tf.ones([2])), tf.int32))
    return sides, (tf.cast(sides, tf.float32) / original)[::-1]


def _canvas(image, sides, size, uniform):
    """(The square with an image over gray, or the part of it that fits; where it lies, x and y).

    `uniform` is two random numbers in [0, 1): at 0, the image's upper left corner is the square's.
    """
    room = size - sides  # negative where the image is larger
    steps = tf.cast(tf.abs(room) + 1, tf.float32)
    start = tf.cast(uniform * steps, tf.int32) * tf.sign(room)
    top_left, cut = tf.maximum(start, 0), tf.maximum(-start, 0)
    image = image[cut[0] : cut[0] + size, cut[1] : cut[1] + size]
    after = size - tf.shape(image)[:2] - top_left
    padding = tf.concat([tf.stack([top_left, after], 1), [[0, 0]]], 0)
    image = tf.pad(image, padding, constant_values=PAD)
    return tf.ensure_shape(image, [size, size, 3]), tf.cast(start[::-1], tf.float32)


def _visible(boxes, size):
    """(What of each box is within the square, bool, whether enough of it is)."""
    clipped = tf.clip_by_value(boxes, 0, float(size))
    sides, visible = boxes[:, 2:] - boxes[:, :2], clipped[:, 2:] - clipped[:, :2]
    share = tf.reduce_prod(visible, 1) / tf.reduce_prod(sides, 1)
    kept = (share >= MIN_VISIBLE) & (tf.reduce_min(visible, 1) >= MIN_SIDE)
    return clipped, kept


def _padded(labels, number):
    """Labels of `number` rows, filled up with zeros and class -1."""
    padded = {}
    for name, values in labels.items():
        missing = [[0, number - tf.shape(values)[0]], *[[0, 0]] * (len(values.shape) - 1)]
        values = tf.pad(values, missing, constant_values=-1 if name == "classes" else 0)
        padded[name] = tf.ensure_shape(values, [number, *values.shape[1:]])
    return padded
