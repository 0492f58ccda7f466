"""What detectors of each type are built by, and what their training minimizes."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ..models.spec import SpecifiedModel
from ..models.standardizing import standardized_once
from ..training import Objective
from .losses import LOSS_PARTS, detection_loss
from .mask_rcnn import MaskRCNN, training_model
from .mask_rcnn_losses import BOX_PARTS, MASK_PARTS, mask_rcnn_loss
from .retinanet import RetinaNet
from .targets import detection_targets

BUILDERS = {
    "retinanet": RetinaNet,
    "mask_rcnn": MaskRCNN,
    "faster_rcnn": functools.partial(MaskRCNN, masks=False),
}


def detector_objective(
    model: SpecifiedModel,
    batches: Callable[[int, tuple[int, int]], tf.data.Dataset],
    **settings: Any,
) -> Objective:
    """Returns what a detector's training minimizes.

    Batch normalization is frozen first, statistics and factors: batches of detectors are too small
    to take statistics of, so those of pre-training are kept (He et al., 2018, arXiv 1811.08883).

    Args:
        model: The detector.
        batches: As of `Objective`, of `(images, labels)` as `data.detection_batches` makes them.
        **settings: Other fields of `Objective`.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    settings["once"] = standardized_once
    if model.spec.detector == "retinanet":
        targets = functools.partial(detection_targets, anchor_sizes=model.spec.anchor_sizes)
        settings |= {"loss": detection_loss, "parts": LOSS_PARTS, "targets": targets}
        return Objective(model=model, batches=batches, **settings)

    def with_labels_given(step, part):  # what the second stage learns from is chosen by them
        return batches(step, part).map(lambda images, labels: ({"images": images, **labels}, ()))

    parts = MASK_PARTS if model.spec.detector == "mask_rcnn" else BOX_PARTS
    settings |= {"loss": mask_rcnn_loss, "parts": parts}
    return Objective(model=training_model(model), batches=with_labels_given, **settings)
