"""What a detector's training minimizes: the focal loss of classes and the Huber loss of boxes."""

import keras
import tensorflow as tf

from .kerascv import focal_losses
from .targets import IGNORED

LOSS_PARTS = ("class_loss", "box_loss")
_ALPHA, _GAMMA = 0.25, 2.0  # Lin et al., 2017, and BiT


def detection_loss(
    targets: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Returns both parts of the loss of every image, each float32 `[batch]`, finite for any boxes.

    An image's sums over its anchors are divided by the number of anchors that are to find an object
    (at least 1), as Lin et al. have it: by the image's own, not the batch's, so that a batch cut
    into pieces has the gradient of the whole, and images of few objects count as much as others.

    Args:
        targets: Of `detection_targets`.
        outputs: Of a `RetinaNet`.

    Returns:
        `class_loss`, the focal loss (alpha 0.25, gamma 2) of all anchors that are not ignored, and
        `box_loss`, the Huber loss (its mean over the four numbers of a box) of those that are to
        find an object.
    """
    classes, logits = targets["classes"], outputs["classes"]
    positive = tf.cast(classes >= 0, tf.float32)
    counted = tf.cast(classes != IGNORED, tf.float32)
    number = tf.maximum(tf.reduce_sum(positive, axis=1), 1.0)
    labels = tf.one_hot(classes, logits.shape[-1])  # zeros for what is no class
    class_loss = focal_losses(labels, logits, _ALPHA, _GAMMA)
    box_loss = keras.losses.huber(targets["boxes"], outputs["boxes"])
    return {
        "class_loss": tf.reduce_sum(class_loss * counted, axis=1) / number,
        "box_loss": tf.reduce_sum(box_loss * positive, axis=1) / number,
    }
