"""What a Mask R-CNN's training minimizes: the losses of its proposals, boxes and masks."""

import keras
import tensorflow as tf

from .second_stage import own_masks
from .targets import IGNORED

BOX_PARTS = ("rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss")
MASK_PARTS = (*BOX_PARTS, "mask_loss")


def mask_rcnn_loss(labels: object, outputs: dict) -> dict[str, tf.Tensor]:
    """Returns the parts of the loss of every image, each float32 `[batch]`, finite for any boxes.

    Sums over what was chosen of an image are divided by how much that is (at least 1), as Girshick
    has it: by the image's own, not the batch's, so that a batch cut into pieces has the gradient of
    the whole.

    Args:
        labels: Not used, for the model has them among its inputs.
        outputs: Of a `training_model`.

    Returns:
        `rpn_class_loss`, the cross-entropy of objectness; `rpn_box_loss`, the Huber loss (its mean
        over the four numbers of a box) of anchors with an object; `class_loss`, the cross-entropy
        of the softmax over classes and background; `box_loss`, the Huber loss (its sum over the
        four numbers) of the own class's box; and, with masks, `mask_loss`, the mean over places and
        objects of the cross-entropy of the own class's mask.
    """
    del labels
    targets, regions = outputs["region_targets"], outputs["regions"]
    scores, boxes = (
        tf.gather(regions[part], targets["places"], batch_dims=1) for part in ("scores", "boxes")
    )
    objects, counted = _weights(targets["classes"])
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(objects, scores)
    found = {
        "rpn_class_loss": _mean(entropy, counted, counted),
        "rpn_box_loss": _mean(keras.losses.huber(targets["boxes"], boxes), objects, counted),
    }
    targets, rois = outputs["roi_targets"], outputs["rois"]
    objects, counted = _weights(targets["classes"])
    classes = rois["boxes"].shape[2]
    own = tf.maximum(targets["classes"], 0)
    labels = tf.where(targets["classes"] >= 0, targets["classes"], classes)
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, rois["classes"])
    found["class_loss"] = _mean(entropy, counted, counted)
    boxes = tf.gather(rois["boxes"], own, batch_dims=2)
    found["box_loss"] = _mean(4 * keras.losses.huber(targets["boxes"], boxes), objects, counted)
    if "masks" in outputs:
        first = outputs["masks"].shape[1]
        logits = own_masks(outputs["masks"], own[:, :first])
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(targets["masks"], logits)
        objects = objects[:, :first]
        found["mask_loss"] = _mean(tf.reduce_mean(entropy, axis=(2, 3)), objects, objects)
    return found


def _weights(classes):
    """Which hold an object, and which are learned from, each float32 `[batch, N]`."""
    return tf.cast(classes >= 0, tf.float32), tf.cast(classes != IGNORED, tf.float32)


def _mean(losses, weights, counted):
    """Of every image; what has no weight may not be finite, and has no gradient."""
    losses = tf.where(weights > 0, losses, 0.0)
    return tf.reduce_sum(losses, axis=1) / tf.maximum(tf.reduce_sum(counted, axis=1), 1.0)
