"""Losses by name: labels and logits `[batch, num_classes]` to one value per image, `[batch]`."""

from collections.abc import Callable

import tensorflow as tf

LOSSES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "softmax": tf.nn.softmax_cross_entropy_with_logits,
    # The sum of the classes' binary cross-entropies.
    "sigmoid": lambda labels, logits: tf.reduce_sum(
        tf.nn.sigmoid_cross_entropy_with_logits(labels, logits), axis=-1
    ),
}
