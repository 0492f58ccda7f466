"""Losses by name: labels and logits `[batch, num_classes]` to one value per image, `[batch]`."""

from collections.abc import Callable

import tensorflow as tf


def _sigmoid_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the classes' binary cross-entropies in nats, float32 `[batch]`."""
    return tf.reduce_sum(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits), axis=-1
    )


LOSSES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "softmax": tf.nn.softmax_cross_entropy_with_logits,
    "sigmoid": _sigmoid_cross_entropy,
}
