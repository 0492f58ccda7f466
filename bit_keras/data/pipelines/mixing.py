"""Batches whose images are mixed with each other: mixup and CutMix, functions of (key, step)."""

import dataclasses

import tensorflow as tf

from ..labeled_images import DataError


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mixes every image of a batch with another, all of them by the same weight or box.

    Attributes:
        key: Scalar int64; with the step it determines everything random.
        mixup_alpha: Above 0, images and labels are averaged by a weight from Beta(alpha, alpha)
            (Zhang et al., 2017, https://arxiv.org/abs/1710.09412).
        cutmix_alpha: Above 0, a box of the other image is pasted into each, whose share of the area
            is from Beta(alpha, alpha), and labels are averaged by the area that was pasted (Yun et
            al., 2019, https://arxiv.org/abs/1905.04899). If both are above 0, each batch is mixed
            by one of the two, with probability 1/2.

    Raises:
        DataError: If an alpha is negative.
    """

    key: tf.Tensor
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0

    def __post_init__(self):
        if not (self.mixup_alpha >= 0 and self.cutmix_alpha >= 0):
            raise DataError(
                "mixup_alpha and cutmix_alpha must be 0 or more, got "
                f"mixup_alpha={self.mixup_alpha} and cutmix_alpha={self.cutmix_alpha}"
            )

    def __bool__(self) -> bool:
        """Whether anything is mixed."""
        return bool(self.mixup_alpha or self.cutmix_alpha)

    def __call__(
        self,
        step: tf.Tensor,
        examples: tuple[tf.Tensor, tf.Tensor],
        partners: tuple[tf.Tensor, tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mixes (images, labels) with their partners, row by row.

        Args:
            step: Scalar int64.
            examples: (float32 [rows, height, width, channels], float32 [rows, num_classes]).
            partners: As `examples`.
        """
        seed = tf.stack([self.key, step])
        across, down, which = tf.unstack(
            tf.random.stateless_uniform([3], tf.random.fold_in(seed, tf.constant(1, tf.int64)))
        )

        def mixup():
            weight = _beta(seed, self.mixup_alpha)
            return _averages(weight, examples, partners)

        def cutmix():
            (images, labels), (other_images, other_labels) = examples, partners
            side = tf.sqrt(1 - _beta(seed, self.cutmix_alpha))
            rows = _interval(images.shape[1], down, side)
            columns = _interval(images.shape[2], across, side)
            box = rows[:, tf.newaxis] & columns
            # The labels' weight is that of the box as it is: clipped, and in whole pixels.
            weight = 1 - tf.reduce_mean(tf.cast(box, tf.float32))
            images = tf.where(box[:, :, tf.newaxis], other_images, images)
            return (images, *_averages(weight, [labels], [other_labels]))

        if not self.cutmix_alpha:
            return mixup()
        return tf.cond(which < 0.5, mixup, cutmix) if self.mixup_alpha else cutmix()


def _averages(weight, values, others):
    return tuple(weight * x + (1 - weight) * y for x, y in zip(values, others, strict=True))


def _beta(seed, alpha):
    """A random number from Beta(alpha, alpha), float32."""
    # In float32 both can underflow for a small alpha, and the weight would be 0 / 0.
    gammas = tf.random.stateless_gamma(
        [2], seed, alpha=tf.constant(alpha, tf.float64), dtype=tf.float64
    )
    return tf.cast(gammas[0] / tf.reduce_sum(gammas), tf.float32)


def _interval(length, uniform, share):
    """Which of `length` pixels a box covers, bool [length]: a share of them around any of them.

    The share is rounded down to an even number of pixels, and what lies beyond the border is lost,
    as in the authors' code.
    """
    center = tf.cast(uniform * length, tf.int32)
    half = tf.cast(share * length, tf.int32) // 2
    pixels = tf.range(length)
    return (pixels >= center - half) & (pixels < center + half)
