"""The input pipeline of pre-training: a batch is a function of (seed, step), see `order`."""

import tensorflow as tf

from ..labeled_images import LabeledImages
from .batching import check_sizes, endless_batches, flipped_at_random, one_pass_batches, resized
from .mixing import Mixing
from .order import random_keys, shuffled_index

AREA = (0.08, 1.0)  # of a random-resized crop, as a fraction of the image's area
ASPECT_RATIO = (3 / 4, 4 / 3)  # width / height


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
    square and mirrored with probability 1/2. An image too narrow for any such window is used
    whole. Without "crop" in `images.augmentations` the whole image is resized, without "flip"
    nothing is mirrored.

    Args:
        images, batch, seed, start_step, part: As in `training_batches`.
        crop: Side of the square, in pixels.
        mixup_alpha: As in `training_batches`; the paper's protocols have no mixup.

    Returns:
        Elements (float32 [batch / n, crop, crop, 3] in [0, 1], float32 [batch / n, num_classes],
        each row one-hot, multi-hot or a mixture of two).

    Raises:
        DataError: As `training_batches`.
    """
    check_sizes(batch, crop=crop)
    target = images.targets()
    order_key, crop_key, flip_key = random_keys(seed)
    mixup_key, _, _ = random_keys(seed, stream=1)

    def example(position):
        index = shuffled_index(position, len(images), order_key)
        image = images.read(index)
        if "crop" in images.augmentations:
            image = _random_window(image, [crop_key, position])
        image = resized(image, crop, crop)
        if "flip" in images.augmentations:
            image = flipped_at_random(image, tf.random.stateless_uniform([], [flip_key, position]))
        return image / 255, target(index)

    return endless_batches(example, batch, start_step, part, Mixing(mixup_key, mixup_alpha))


def center_crop_batches(
    images: LabeledImages, *, batch: int, resize: int, crop: int
) -> tf.data.Dataset:
    """One pass over the images in their order, the center square of each.

    Args:
        images, batch: The test images, and how many per element.
        resize: What the short side is resized to, in pixels; the long side keeps the aspect ratio
            to the nearest pixel.
        crop: Side of the center square, in pixels. If the margin is odd, the right and the lower
            margin are one pixel wider.

    Returns:
        Elements (float32 [b, crop, crop, 3] in [0, 1], float32 [b, num_classes], one-hot or
        multi-hot); b is `batch`, or for the last element what remains.

    Raises:
        DataError: If a size is below 32, `crop` above `resize` or `batch` below 1.
    """
    check_sizes(batch, resize=resize, crop=crop)

    return one_pass_batches(images, lambda image: center_square(image, resize, crop) / 255, batch)


def center_square(image: tf.Tensor, resize: int, crop: int) -> tf.Tensor:
    """The center of an image, uint8 -> float32 [crop, crop, 3] in [0, 255], of a resized copy."""
    sides = tf.shape(tf.ensure_shape(image, [None, None, 3]))[:2]
    short = tf.reduce_min(sides)
    height, width = tf.unstack((sides * resize + short // 2) // short)
    top, left = (height - crop) // 2, (width - crop) // 2
    square = resized(image, height, width)[top : top + crop, left : left + crop]
    return tf.ensure_shape(square, [crop, crop, 3])


def _random_window(image, seed):
    # The sampler of BiT's authors: it draws the aspect ratio, then the height, each uniformly, so
    # that small areas are likelier than with a uniform area (mean 0.4 of the image, not 0.54).
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
