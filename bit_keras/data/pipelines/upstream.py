"""The input pipeline of pre-training; as in `batches`, a batch is a function of (seed, step)."""

import tensorflow as tf

from ..labeled_images import DataError, LabeledImages
from .fine_tuning import check_sizes, fed_ahead, mixed_batches, random_integers, resized, shuffled

AREA = (0.08, 1.0)  # of a random-resized crop, as a part of the image's
ASPECT_RATIO = (3 / 4, 4 / 3)  # width by height


def upstream_batches(
    images: LabeledImages,
    *,
    batch: int,
    crop: int,
    seed: int,
    start_step: int = 0,
    mixup_alpha: float = 0.0,
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches without end, from `start_step` on, of random-resized crops (Szegedy et al. 2015).

    A window of 8 to 100 % of the image's area and an aspect ratio of 3/4 to 4/3 is resized to a
    square and mirrored half of the time. An image so narrow that no such window fits is taken
    whole. Without "crop" in `images.augmentations` the whole image is resized, without "flip"
    nothing is mirrored.

    Args:
      images: what to train on; a batch may be larger than the data set.
      batch: images a step.
      crop: side of the square, in pixels.
      seed: any integer; batches of the same seed and step are the same, bit for bit.
      start_step: the step of the first batch.
      mixup_alpha: as in `training_batches`; the paper's protocols have none.
      part: (k, n) gives the k-th of n equal slices of every batch only, for the k-th of n workers.

    Returns:
      Elements (float32 [batch / n, crop, crop, 3] in [0, 1], float32 [batch / n, num_classes],
      each row one-hot, multi-hot or a mixture of two).

    Raises:
      DataError: `crop` below 32, `batch` below 1 or not divided by n, a negative `start_step` or
        `mixup_alpha`.
    """
    check_sizes(batch, crop=crop)
    target = images.targets()
    with tf.device("CPU:0"):
        order_key, crop_key, flip_key = tf.unstack(
            random_integers(tf.constant([seed, 0], tf.int64), tf.int64)
        )
        mixup_key = random_integers(tf.constant([seed, 1], tf.int64), tf.int64)[0]

    def example(position):
        index = shuffled(position, len(images), order_key)
        image = images.read(index)
        if "crop" in images.augmentations:
            image = _random_window(image, [crop_key, position])
        image = resized(image, crop)
        if "flip" in images.augmentations:
            side = tf.random.stateless_uniform([], [flip_key, position])
            image = tf.cond(side < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
        return image / 255, target(index)

    return mixed_batches(
        example, batch, start_step=start_step, alpha=mixup_alpha, mixup_key=mixup_key, part=part
    )


def center_crop_batches(
    images: LabeledImages, *, batch: int, resize: int, crop: int
) -> tf.data.Dataset:
    """One pass over the images in their order, the center square of each.

    Args:
      images: what to test on.
      batch: images an element.
      resize: what the short side becomes; the long one keeps the aspect ratio to the nearest pixel.
      crop: side of the center square, in pixels; an odd pixel is left over right and below.

    Returns:
      Elements (float32 [b, crop, crop, 3] in [0, 1], float32 [b, num_classes]), one-hot or
      multi-hot, where b is `batch`, and what is left for the last.

    Raises:
      DataError: sizes below 32, `crop` above `resize` or `batch` below 1.
    """
    check_sizes(batch, resize=resize, crop=crop)
    if crop > resize:
        raise DataError(f"crop must not exceed resize, got crop={crop} and resize={resize}")
    target = images.targets()

    def example(index):
        image = tf.ensure_shape(images.read(index), [None, None, 3])
        sides = tf.shape(image)[:2]
        short = tf.reduce_min(sides)
        sides = (sides * resize + short // 2) // short
        top, left = tf.unstack((sides - crop) // 2)
        image = tf.image.resize(image, sides, "bilinear", antialias=False)
        image = tf.ensure_shape(image[top : top + crop, left : left + crop], [crop, crop, 3])
        return image / 255, target(index)

    return fed_ahead(
        tf.data.Dataset.range(len(images))
        .map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch)
    )


def _random_window(image, seed):
    # The sampler of BiT's authors: it draws the aspect ratio, then the height, each uniformly, so
    # that small areas are likelier than from a uniform area (mean 0.4 of the image, not 0.54).
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        bounding_boxes=tf.zeros([1, 0, 4]),
        seed=seed,
        min_object_covered=0.0,
        aspect_ratio_range=ASPECT_RATIO,
        area_range=AREA,
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.slice(image, begin, size)
