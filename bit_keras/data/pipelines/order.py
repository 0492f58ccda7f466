"""The order of training images: any entry of an endless shuffled sequence, computed on its own.

Row `i` of the batch at `step` is the image at position `step * batch + i` of an endless sequence of
epochs, each a permutation of the data set. Everything random is a function of a key and a position
(or a step), so that a resumed run needs no saved input state.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ..labeled_images import DataError


def random_keys(seed: int, stream: int = 0) -> list[tf.Tensor]:
    """Three scalar int64 keys for stateless random ops; each (seed, stream) has its own."""
    with tf.device("CPU:0"):
        return tf.unstack(_random_integers(tf.constant([seed, stream], tf.int64), tf.int64))


def shuffled_index(position: tf.Tensor, num_images: int | tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """The index of the image at `position` of an endless sequence of shuffled epochs.

    Position, number and key are scalars, int64 if they are tensors.
    """
    # Seeds that are small consecutive numbers give at most 256 different permutations, and fewer
    # than 8 rounds (the public function has 4) favor some for small sets: measured, TF 2.21.
    seed = _random_integers([key, position // num_images], tf.int32)
    return tf.raw_ops.RandomIndexShuffle(
        index=position % num_images,
        seed=seed,
        max_index=tf.cast(num_images - 1, tf.int64),
        rounds=8,
    )


def balanced_order(
    labels: np.ndarray, num_classes: int, seed: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """From a position to an image's index, so that every class comes equally often.

    Of `num_classes` consecutive positions, counted from 0, each class has one, in shuffled order.
    The images of a class come in shuffled epochs of their own. Call it outside the function that
    `tf.data` traces: its tensors must be eager.

    Args:
        labels: Integers [N]; each of the classes must have an image.
        num_classes: How many classes there are.
        seed: Any integer.
    """
    counts = np.bincount(labels, minlength=num_classes)
    with tf.device("CPU:0"):
        class_key, image_key, _ = random_keys(seed, stream=2)
        image_keys = tf.random.stateless_uniform(
            [num_classes], [image_key, 0], minval=None, maxval=None, dtype=tf.int64
        )
        by_class = tf.constant(np.argsort(labels, kind="stable"), tf.int64)
        starts = tf.constant(np.cumsum(counts) - counts, tf.int64)
        counts = tf.constant(counts, tf.int64)

    def index_at(position):
        label = shuffled_index(position, num_classes, class_key)
        visit = position // num_classes  # how often its class came before
        return by_class[starts[label] + shuffled_index(visit, counts[label], image_keys[label])]

    return index_at


def worker_rows(batch: int, part: tuple[int, int]) -> np.ndarray:
    """The rows of a batch that the k-th of n workers gets for `part` (k, n), int64 [batch / n]."""
    k, n = part
    if batch % n:
        raise DataError(f"{n} workers must divide the batch, got {batch} images")
    return np.arange(k * batch // n, (k + 1) * batch // n, dtype=np.int64)


def _random_integers(seed, dtype):
    return tf.random.stateless_uniform([3], seed, minval=None, maxval=None, dtype=dtype)
