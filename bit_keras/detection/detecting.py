"""A detector whose answers are boxes."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from ..data import BoxedImages, detection_test_batches, original_boxes
from ..models.spec import spec_of
from ..training import predict
from .decoding import detections
from .mask_pasting import pasted_masks

_AT_ONCE = 1000  # images, whose masks on squares take 310 MB
MAX_BOXES = 100  # of an image, as COCO's scores count
SCORE_THRESHOLD = 0.05


@keras.saving.register_keras_serializable("bit_keras")
class Detections(keras.layers.Layer):
    """From a `RetinaNet`'s outputs to boxes, scores and classes, as `decoding.detections`."""

    def __init__(self, size: int, anchor_sizes: Sequence[float], **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.size, self.anchor_sizes = size, tuple(anchor_sizes)

    def call(self, outputs):
        return detections(
            outputs,
            (self.size, self.size),
            self.anchor_sizes,
            score_threshold=SCORE_THRESHOLD,
            max_boxes=MAX_BOXES,
        )

    def compute_output_spec(
        self, outputs: dict[str, keras.KerasTensor]
    ) -> dict[str, keras.KerasTensor]:
        """Returns the shapes and dtypes of the answers."""

        def of(shape, dtype):
            return keras.KerasTensor((None, MAX_BOXES, *shape), dtype)

        return {
            "boxes": of([4], "float32"),
            "scores": of([], "float32"),
            "classes": of([], "int32"),
        }


def detecting(model: keras.Model) -> keras.Model:
    """Returns a model of a detector's weights: images of its `test_size` to detections.

    They are those of `MaskRCNN`, or of `decoding.detections` for a `RetinaNet`.
    """
    spec = spec_of(model)
    images = keras.Input((spec.test_size, spec.test_size, 3), name="images")
    found = model(images)
    if spec.detector == "retinanet":
        found = Detections(spec.test_size, spec.anchor_sizes, name="detections")(found)
    return keras.Model(images, found, name=model.name)


def all_detections(
    model: keras.Model,
    images: BoxedImages,
    *,
    batch: int = 8,
    strategy: tf.distribute.Strategy | None = None,
) -> list[dict[str, np.ndarray]]:
    """Returns the objects that a detector finds on every image, the best first.

    Args:
        model: A `RetinaNet` or a `MaskRCNN`, made in the scope of `strategy`.
        images: The images.
        batch: Images at once; does not change the answers.
        strategy: As in `training.predict`.

    Returns:
        For every image `boxes` float32 [D, 4] (left, top, right, bottom in pixels of the image),
        `scores` float32 [D] and `classes` int32 [D]; of detectors of masks also `masks`, a list of
        D run-length codes of the image's size, as `pasted_masks` makes them.
    """
    size = spec_of(model).test_size

    def prepare(images, batch):
        return detection_test_batches(images, batch=batch, size=size)

    answers, network = [], detecting(model)
    for first in range(0, len(images), _AT_ONCE):
        some = images.subset(range(first, min(first + _AT_ONCE, len(images))))
        found = predict(network, some, prepare, batch=batch, strategy=strategy)
        answers += _on_images(found, some, size)
    return answers


def _on_images(found, images, size):
    """The objects of each image, from those on squares."""
    whole = original_boxes(found["boxes"], images.image_sizes, size)
    limits = np.tile(images.image_sizes[:, ::-1], 2).astype(np.float32)
    boxes = np.clip(whole, 0, limits[:, np.newaxis])
    # Of what is found in the gray around an image, nothing is left within it.
    kept = (found["classes"] >= 0) & np.all(boxes[..., 2:] > boxes[..., :2], axis=-1)
    answers = [
        {"boxes": boxes[i][k], "scores": found["scores"][i][k], "classes": found["classes"][i][k]}
        for i, k in enumerate(kept)
    ]
    if "masks" in found:
        for i, k in enumerate(kept):  # a mask is of the whole box, also where that is cut off
            masks = found["masks"][i][k]
            answers[i]["masks"] = pasted_masks(masks, whole[i][k], images.image_sizes[i])
    return answers
