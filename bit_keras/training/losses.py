"""Losses by name: labels and logits `[batch, num_classes]` to one value per image, `[batch]`."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
LOSSES: dict[str, Loss] = {
    "softmax": tf.nn.softmax_cross_entropy_with_logits,
    # The sum of the classes' binary cross-entropies.
    "sigmoid": lambda labels, logits: tf.reduce_sum(
        tf.nn.sigmoid_cross_entropy_with_logits(labels, logits), axis=-1
    ),
}


def weighted_by_class(loss: Loss, weights: np.ndarray) -> Loss:
    """Returns a loss multiplied, image by image, by the weight of its class.

    Args:
        loss: One of `LOSSES`.
        weights: float [num_classes]. That of an image of several classes, as mixtures of images
            are, is their mean by its labels, which add up to 1.
    """

    def weighted(labels, logits):
        return tf.linalg.matvec(labels, tf.constant(weights, tf.float32)) * loss(labels, logits)

    return weighted
