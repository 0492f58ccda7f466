"""The input pipeline of fine-tuning: a batch is a function of (seed, step), see `order`."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ..class_balance import check_sampling
from ..labeled_images import LabeledImages
from .batching import check_sizes, endless_batches, flipped_at_random, one_pass_batches, resized
from .mixing import Mixing
from .order import balanced_order, random_keys, shuffled_index


def training_batches(
    images: LabeledImages,
    *,
    batch: int,
    resize: int,
    crop: int,
    seed: int,
    start_step: int = 0,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
    sampling: str = "uniform",
    random_crop: bool = True,
    random_flip: bool = True,
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Augmented batches without end, from `start_step` on (BiT paper, section 3.3).

    Args:
        images: The training images; a batch may be larger than the data set.
        batch: Images per step.
        resize: Side in pixels of the square an image is resized to.
        crop: Side in pixels of the random square cut out of it.
        seed: Any integer; batches of the same seed and step are the same, bit for bit.
        start_step: The step of the first batch.
        mixup_alpha: Each batch is mixed with itself reversed by one weight from
            Beta(alpha, alpha) (Zhang et al. 2017); 0 for no mixup.
        cutmix_alpha: Into each image of a batch a box of the batch reversed is pasted, one box for
            all, whose area is from Beta(alpha, alpha) and is clipped at the border (Yun et al.
            2019); 0 for no CutMix. If both are above 0, each batch has one of the two.
        sampling: "uniform": every image is drawn equally often, in shuffled epochs; or "balanced":
            every class is, and each class's images are, in shuffled epochs of their own.
        random_crop: False resizes straight to `crop`, for labels that depend on position or size.
        random_flip: False never mirrors, for labels that a mirror image would change.
        part: (k, n) for the k-th of n workers: only its n-th of every batch, the same rows as in
            the whole batch, mixed with the same partners.

    Returns:
        Elements (float32 [batch / n, crop, crop, 3] in [0, 1], float32 [batch / n, num_classes],
        each row one-hot, multi-hot (`LabeledImages.multi_label`) or a mixture of two).

    Raises:
        DataError: If a size is below 32, `crop` above `resize`, `batch` below 1 or not divided by
            n, or `start_step` or an alpha negative; if `sampling` is neither of the two, or
            "balanced" for images with several labels or a class without images.
    """
    check_sizes(batch, resize=resize, crop=crop)
    target = images.targets()
    _, augment_key, mix_key = random_keys(seed)
    index_at = _order(images, sampling, seed)
    side = resize if random_crop else crop

    def example(position):
        index = index_at(position)
        image = resized(images.read(index), side, side)
        top, left, flip = tf.unstack(tf.random.stateless_uniform([3], [augment_key, position]))
        if random_crop:
            top, left = (tf.cast(u * (resize - crop + 1), tf.int32) for u in (top, left))
            image = tf.ensure_shape(image[top : top + crop, left : left + crop], [crop, crop, 3])
        if random_flip:
            image = flipped_at_random(image, flip)
        return image / 255, target(index)

    return endless_batches(
        example, batch, start_step, part, Mixing(mix_key, mixup_alpha, cutmix_alpha)
    )


def feature_batches(
    features: np.ndarray,
    images: LabeledImages,
    *,
    batch: int,
    seed: int,
    start_step: int = 0,
    sampling: str = "uniform",
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """As `training_batches`, of the images' features: float32 [N, C] in the images' order.

    Returns:
        Elements (float32 [batch / n, C], float32 [batch / n, num_classes]).

    Raises:
        DataError: If `batch` is not divided by n, or `start_step` is negative; or for `sampling`,
            as `training_batches`.
    """
    target = images.targets()
    index_at = _order(images, sampling, seed)
    with tf.device("CPU:0"):
        features = tf.constant(features)

    def example(position):
        index = index_at(position)
        return tf.gather(features, index), target(index)

    return endless_batches(example, batch, start_step, part)


def _order(images: LabeledImages, sampling: str, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """From a position to an image's index."""
    check_sampling(images, sampling)
    if sampling == "balanced":
        return balanced_order(images.labels, images.num_classes, seed)
    order_key, _, _ = random_keys(seed)
    return lambda position: shuffled_index(position, len(images), order_key)


def test_batches(images: LabeledImages, *, batch: int, size: int) -> tf.data.Dataset:
    """One pass over the images in their order, each resized to a square of `size` pixels a side.

    Returns:
        Elements (float32 [b, size, size, 3] in [0, 1], float32 [b, num_classes], one-hot or
        multi-hot); b is `batch`, or for the last element what remains.

    Raises:
        DataError: If `size` is below 32 or `batch` below 1.
    """
    check_sizes(batch, size=size)
    return one_pass_batches(images, lambda image: resized(image, size, size) / 255, batch)
