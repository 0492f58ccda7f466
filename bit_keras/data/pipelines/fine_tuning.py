"""The input pipeline: every batch is a function of (seed, step), so no input state is ever saved.

Image `i` of the batch at `step` stands at position `p = step * batch + i` of an endless sequence of
epochs, each a permutation of the data set that can be asked for any one of its entries. All that is
random about an image comes from stateless ops on (seed, p), all that is random about a batch from
(seed, step).
"""

import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ..labeled_images import DataError, LabeledImages

MIN_SIZE = 32  # pixels


def training_batches(
    images: LabeledImages,
    *,
    batch: int,
    resize: int,
    crop: int,
    seed: int,
    start_step: int = 0,
    mixup_alpha: float = 0.0,
    random_crop: bool = True,
    random_flip: bool = True,
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Augmented batches without end, from `start_step` on (BiT paper, section 3.3).

    Args:
      images: what to train on; a batch may be larger than the data set.
      batch: images a step.
      resize: side of the square an image is resized to.
      crop: side of the random square cut out of it.
      seed: any integer; batches of the same seed and step are the same, bit for bit.
      start_step: the step of the first batch.
      mixup_alpha: each batch is mixed with itself reversed by one weight from
        Beta(alpha, alpha) (Zhang et al. 2017); 0 for none.
      random_crop: False resizes straight to `crop`, where position or size matters to the label.
      random_flip: False leaves left and right, where a mirror image has another label.
      part: (k, n) gives the k-th of n equal slices of every batch only, for the k-th of n workers;
        it holds the rows that the whole batch has there, mixed with the same partners.

    Returns:
      Elements (float32 [batch / n, crop, crop, 3] in [0, 1], float32 [batch / n, num_classes],
      each row one-hot, multi-hot (`LabeledImages.multi_label`) or a mixture of two).

    Raises:
      DataError: sizes below 32, `crop` above `resize`, `batch` below 1 or not divided by n, a
        negative `start_step` or `mixup_alpha`.
    """
    check_sizes(batch, resize=resize, crop=crop)
    if crop > resize:
        raise DataError(f"crop must not exceed resize, got crop={crop} and resize={resize}")
    target = images.targets()
    with tf.device("CPU:0"):
        order_key, augment_key, mixup_key = tf.unstack(
            random_integers(tf.constant([seed, 0], tf.int64), tf.int64)
        )

    def example(position):
        index = shuffled(position, len(images), order_key)
        image = resized(images.read(index), resize if random_crop else crop)
        top, left, side = tf.unstack(tf.random.stateless_uniform([3], [augment_key, position]))
        if random_crop:
            top, left = (tf.cast(u * (resize - crop + 1), tf.int32) for u in (top, left))
            image = tf.ensure_shape(image[top : top + crop, left : left + crop], [crop, crop, 3])
        if random_flip:
            image = tf.cond(side < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
        return image / 255, target(index)

    return mixed_batches(
        example, batch, start_step=start_step, alpha=mixup_alpha, mixup_key=mixup_key, part=part
    )


def mixed_batches(
    example: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    batch: int,
    *,
    start_step: int,
    alpha: float,
    mixup_key: tf.Tensor,
    part: tuple[int, int],
) -> tf.data.Dataset:
    """Batches without end of the examples at consecutive positions, mixed as `training_batches`.

    Args:
      example: scalar int64 position -> (image, label).
      alpha: `mixup_alpha` of `training_batches`, as the other arguments are; 0 for no mixup.
      mixup_key: scalar int64 that the weights are drawn from, with the step.
    """
    if start_step < 0 or alpha < 0:
        raise DataError(
            "start_step and mixup_alpha must be 0 or more, got "
            f"start_step={start_step} and mixup_alpha={alpha}"
        )
    k, n = part
    if batch % n:
        raise DataError(f"{n} workers must divide the batch, got {batch} images")
    rows = np.arange(batch, dtype=np.int64)[k * batch // n : (k + 1) * batch // n]
    # The partner of row i is row batch - 1 - i, which another worker's slice may hold.
    partners = rows[:0] if not alpha or 2 * k + 1 == n else batch - 1 - rows
    with tf.device("CPU:0"):
        rows_read = tf.constant(np.concatenate([rows, partners]))

    def example_of(count):
        return example(count // len(rows_read) * batch + rows_read[count % len(rows_read)])

    def mixed(step, batch_of_examples):
        # In float32 both can underflow for a small alpha, and the weight would be 0 / 0.
        gammas = tf.random.stateless_gamma(
            [2], [mixup_key, step], alpha=tf.constant(alpha, tf.float64), dtype=tf.float64
        )
        weight = tf.cast(gammas[0] / tf.reduce_sum(gammas), tf.float32)
        return tuple(
            weight * x[: len(rows)] + (1 - weight) * (x[len(rows) :] if len(partners) else x[::-1])
            for x in batch_of_examples
        )

    dataset = (
        tf.data.Dataset.counter(start_step * len(rows_read), dtype=tf.int64)
        .map(example_of, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(len(rows_read), drop_remainder=True)
    )
    if alpha:
        steps = tf.data.Dataset.counter(start_step, dtype=tf.int64)
        dataset = tf.data.Dataset.zip(steps, dataset).map(mixed)
    return fed_ahead(dataset)


def feature_batches(
    features: np.ndarray,
    images: LabeledImages,
    *,
    batch: int,
    seed: int,
    start_step: int = 0,
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches without end of the images' features, float32 [N, C]; else `training_batches`.

    Returns:
      Elements (float32 [batch / n, C], float32 [batch / n, num_classes]).
    """
    k, n = part
    rows = batch // n
    target = images.targets()
    with tf.device("CPU:0"):
        features = tf.constant(features)
        order_key, _, _ = tf.unstack(random_integers(tf.constant([seed, 0], tf.int64), tf.int64))

    def example(count):
        position = count // rows * batch + k * rows + count % rows
        index = shuffled(position, len(images), order_key)
        return tf.gather(features, index), target(index)

    examples = tf.data.Dataset.counter(start_step * rows, dtype=tf.int64).map(example)
    return fed_ahead(examples.batch(rows, drop_remainder=True))


def test_batches(images: LabeledImages, *, batch: int, size: int) -> tf.data.Dataset:
    """One pass over the images in their order, each resized to a square of side `size`.

    Returns:
      Elements (float32 [b, size, size, 3] in [0, 1], float32 [b, num_classes]), one-hot or
      multi-hot, where b is `batch`, and what is left for the last.

    Raises:
      DataError: `size` below 32 or `batch` below 1.
    """
    check_sizes(batch, size=size)
    target = images.targets()

    def example(index):
        return resized(images.read(index), size) / 255, target(index)

    return fed_ahead(
        tf.data.Dataset.range(len(images))
        .map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch)
    )


def fed_ahead(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Prepares one batch ahead (512 images of 480 x 480 take 1.4 GB), on threads of its own.

    TensorFlow's own may be told to run one op at a time (`bit_keras.cli`), which would have images
    decoded one at a time too.
    """
    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count()
    return dataset.prefetch(1).with_options(options)


def check_sizes(batch, **sizes):
    if batch < 1:
        raise DataError(f"batch must be 1 or more, got {batch}")
    for name, size in sizes.items():
        if size < MIN_SIZE:
            raise DataError(
                f"image sizes below {MIN_SIZE} pixels cannot be used, got "
                f"{name}={size}; use {MIN_SIZE} or more"
            )


def random_integers(seed, dtype):
    return tf.random.stateless_uniform([3], seed, minval=None, maxval=None, dtype=dtype)


def shuffled(position: tf.Tensor, num_images: int, key: tf.Tensor) -> tf.Tensor:
    """The index that stands at `position` of an endless sequence of shuffled epochs."""
    # Seeds that are small consecutive numbers give 256 different permutations at most, and fewer
    # than 8 rounds (the public function has 4) favor some for small sets: measured, TF 2.21.
    seed = random_integers([key, position // num_images], tf.int32)
    return tf.raw_ops.RandomIndexShuffle(
        index=position % num_images,
        seed=seed,
        max_index=tf.cast(num_images - 1, tf.int64),
        rounds=8,
    )


def resized(image, size):
    """Bilinear without antialiasing, as in the reference code: uint8 -> float32 in [0, 255]."""
    image = tf.ensure_shape(image, [None, None, 3])  # what a `read` promises, its ops may forget
    return tf.image.resize(image, (size, size), "bilinear", antialias=False)
