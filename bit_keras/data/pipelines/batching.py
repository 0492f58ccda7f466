"""What the pipelines share: checked sizes, resizing, and examples in batches, mixed or not."""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ..labeled_images import DataError, LabeledImages
from .mixing import Mixing
from .order import worker_rows

_MIN_SIZE = 32  # pixels

# AutoGraph takes most of a second to translate these functions, which do not need it.
_as_written = tf.autograph.experimental.do_not_convert


def check_sizes(batch: int, **sizes: int) -> None:
    """Raises DataError if `batch` is below 1, a size below 32 pixels, or `crop` above `resize`."""
    if batch < 1:
        raise DataError(f"batch must be 1 or more, got {batch}")
    for name, size in sizes.items():
        if size < _MIN_SIZE:
            raise DataError(
                f"image sizes below {_MIN_SIZE} pixels cannot be used, got "
                f"{name}={size}; use {_MIN_SIZE} or more"
            )
    crop, resize = sizes.get("crop", 0), sizes.get("resize", math.inf)
    if crop > resize:
        raise DataError(f"crop must not exceed resize, got crop={crop} and resize={resize}")


def resized(image: tf.Tensor, height: int | tf.Tensor, width: int | tf.Tensor) -> tf.Tensor:
    """Bilinear without antialiasing, as in the reference code: uint8 -> float32 in [0, 255]."""
    image = tf.ensure_shape(image, [None, None, 3])  # `LabeledImages.read` may lose its shape
    return tf.image.resize(image, (height, width), "bilinear", antialias=False)


def flipped_at_random(image: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Mirrors an image left to right if `uniform`, a random number in [0, 1), is below 1/2."""
    return tf.cond(uniform < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


def endless_batches(
    example: Callable[[tf.Tensor], tuple[tf.Tensor, Any]],
    batch: int,
    start_step: int,
    part: tuple[int, int],
    mixing: Mixing | None = None,
) -> tf.data.Dataset:
    """Batches without end of the examples at consecutive positions.

    Args:
        example: From a position, a scalar int64, to (image, label), each a tensor if they are
            mixed.
        batch, start_step, part: As in `training_batches`.
        mixing: How each batch is mixed with itself reversed, if it is.
    """
    if start_step < 0:
        raise DataError(f"start_step must be 0 or more, got start_step={start_step}")
    rows = worker_rows(batch, part)
    # Row i is mixed with row batch - 1 - i. The middle one of an odd number of workers has these
    # rows in its own slice, reversed; the others read their partners' rows too.
    partners = batch - 1 - rows
    own_partners = np.array_equal(partners, rows[::-1])
    read = rows if own_partners or not mixing else np.concatenate([rows, partners])
    with tf.device("CPU:0"):
        rows_read = tf.constant(read)

    def example_number(count):
        return example(count // len(read) * batch + rows_read[count % len(read)])

    def mixed(step, examples):
        own = tuple(x[: len(rows)] for x in examples)
        partners = tuple(x[::-1] if own_partners else x[len(rows) :] for x in examples)
        return mixing(step, own, partners)

    dataset = (
        tf.data.Dataset.counter(start_step * len(read), dtype=tf.int64)
        .map(_as_written(example_number), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(len(read), drop_remainder=True)
    )
    if mixing:
        steps = tf.data.Dataset.counter(start_step, dtype=tf.int64)
        dataset = tf.data.Dataset.zip(steps, dataset).map(_as_written(mixed))
    return _prefetched(dataset)


def one_pass_batches(
    images: LabeledImages, prepare: Callable[[tf.Tensor], tf.Tensor], batch: int
) -> tf.data.Dataset:
    """One pass over the images in their order; the last batch may be smaller.

    `prepare` turns what `images.read` returns into float32 [side, side, 3] in [0, 1].
    """
    target = images.targets()

    def example(index):
        return prepare(images.read(index)), target(index)

    return ordered_batches(example, len(images), batch)


def ordered_batches(example: Callable[[tf.Tensor], Any], count: int, batch: int) -> tf.data.Dataset:
    """One pass over examples 0 to `count` - 1; the last batch may be smaller.

    `example` is given the number of one, a scalar int64.
    """
    return _prefetched(
        tf.data.Dataset.range(count)
        .map(_as_written(example), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch)
    )


def _prefetched(dataset):
    """Prepares one batch ahead (512 images of 480 x 480 take 1.4 GB), on its own threads.

    TensorFlow's shared threads may be limited to one op at a time (`bit_keras.cli`), which would
    decode images one at a time as well.
    """
    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count()
    return dataset.prefetch(1).with_options(options)
