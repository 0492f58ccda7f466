"""From what a Mask R-CNN's second stage says of proposals to its detections."""

import keras
import tensorflow as tf

from .anchors import decoded
from .kerascv import class_wise_nms

_CANDIDATES = 1000  # boxes of an image, each of one class, that suppression looks at


def region_detections(
    outputs: dict[str, tf.Tensor],
    proposals: dict[str, tf.Tensor],
    size: tuple[int, int],
    *,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    max_boxes: int = 100,
) -> dict[str, tf.Tensor]:
    """Returns the best boxes of each image, which do not depend on the others of its batch.

    A proposal may become an object of several classes, each with a box of its own. Non-maximum
    suppression then keeps the best of the boxes of one class that overlap.

    Args:
        outputs: Of a `BoxHead`.
        proposals: Of `proposals.proposals`; those of the score 0 are none.
        size: Height and width of the images in pixels.
        score_threshold, iou_threshold, max_boxes: As in `decoding.detections`.

    Returns:
        As `decoding.detections`, but boxes are cut at the image's edge and have an area, and scores
        are softmax probabilities.
    """
    rois = proposals["boxes"]
    classes = outputs["boxes"].shape[2]
    scores = tf.nn.softmax(outputs["classes"])[..., :classes]
    scores = tf.where(proposals["scores"][..., tf.newaxis] > 0, scores, 0.0)
    number = rois.shape[1] * classes
    best = tf.math.top_k(tf.reshape(scores, [-1, number]), min(number, _CANDIDATES))
    relative = tf.gather(tf.reshape(outputs["boxes"], [-1, number, 4]), best.indices, batch_dims=1)
    boxes = decoded(relative, tf.gather(rois, best.indices // classes, batch_dims=1))
    boxes = tf.clip_by_value(boxes, 0, tf.constant([size[1], size[0]] * 2, tf.float32))
    # For sigmoids, and by operations that tf2onnx has.
    logits = tf.math.log(best.values) - tf.math.log(1 - best.values)
    own = (best.indices % classes)[..., tf.newaxis] == tf.range(classes)
    own &= tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=-1, keepdims=True)
    return class_wise_nms(
        boxes,
        tf.where(own, logits[..., tf.newaxis], -float("inf")),
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_boxes=max_boxes,
    )


@keras.saving.register_keras_serializable("bit_keras")
class RegionDetections(keras.layers.Layer):
    """`region_detections`, as a layer; `images` only tell their size."""

    def __init__(self, score_threshold: float, max_boxes: int, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.arguments = {"score_threshold": score_threshold, "max_boxes": max_boxes}

    def call(self, outputs, proposals, images):
        return region_detections(outputs, proposals, tuple(images.shape[1:3]), **self.arguments)

    def compute_output_spec(
        self,
        outputs: dict[str, keras.KerasTensor],
        proposals: dict[str, keras.KerasTensor],
        images: keras.KerasTensor,
    ) -> dict[str, keras.KerasTensor]:
        """Returns the shapes and dtypes of the detections."""
        shape = (images.shape[0], self.arguments["max_boxes"])
        return {
            "boxes": keras.KerasTensor((*shape, 4), "float32"),
            "scores": keras.KerasTensor(shape, "float32"),
            "classes": keras.KerasTensor(shape, "int32"),
        }

    def get_config(self):
        return {**super().get_config(), **self.arguments}


@keras.saving.register_keras_serializable("bit_keras")
class FoundBoxes(keras.layers.Layer):
    """The boxes of detections, without those rows that no image of the batch has one in.

    Masks take as long as everything else, and most images have few objects. One row remains, for
    TensorFlow's convolutions cannot do without.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, boxes, classes):
        there = tf.reduce_any(classes >= 0, axis=0)  # the best come first
        return boxes[:, : tf.maximum(tf.reduce_sum(tf.cast(there, tf.int32)), 1)]

    def compute_output_spec(
        self, boxes: keras.KerasTensor, classes: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Returns the shape and dtype of the boxes."""
        return keras.KerasTensor((boxes.shape[0], None, 4), "float32")


@keras.saving.register_keras_serializable("bit_keras")
class OwnMasks(keras.layers.Layer):
    """Each detection's mask, of those that a `MaskHead` gives for every class of `FoundBoxes`.

    Probabilities, float32 `[batch, D, rows, columns]`; 0 where there is no detection.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, logits, classes):
        number, most = tf.shape(logits)[1], classes.shape[1]
        own = classes[:, :number]
        masks = tf.sigmoid(own_masks(logits, own))
        masks = tf.where(own[..., tf.newaxis, tf.newaxis] >= 0, masks, 0.0)
        masks = tf.pad(masks, [[0, 0], [0, most - number], [0, 0], [0, 0]])
        return tf.ensure_shape(masks, [None, most, *logits.shape[2:4]])

    def compute_output_spec(
        self, logits: keras.KerasTensor, classes: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Returns the shape and dtype of the masks."""
        return keras.KerasTensor((*classes.shape, *logits.shape[2:4]), "float32")


def own_masks(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Returns those of one class, `[batch, D, rows, columns]`, of `[..., num_classes]`.

    Classes, int32 `[batch, D]`, below 0 give those of the class 0.
    """
    return tf.gather(logits, tf.maximum(classes, 0), axis=4, batch_dims=2)
