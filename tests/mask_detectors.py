"""Small Mask R-CNNs for tests, and labels for them."""

import keras
import numpy as np
import tensorflow as tf

import bit_keras
from bit_keras.detection import MaskRCNN
from bit_keras.detection.mask_rcnn import training_model
from bit_keras.detection.mask_rcnn_losses import BOX_PARTS, MASK_PARTS, mask_rcnn_loss
from bit_keras.training import Objective

SIZE = 64


def backbone():
    return bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 0)


def lively(**options):
    """A detector that finds some objects of each of three classes on any picture."""
    keras.utils.set_random_seed(0)
    detector = MaskRCNN(backbone(), 3, size=SIZE, channels=8, **options)
    regions, boxes = detector.get_layer("region_head"), detector.get_layer("box_head")
    lasts = {boxes.classes: 0.3, boxes.boxes: 0.1, **dict.fromkeys(regions.parts.values(), 0.3)}
    if detector.spec.detector == "mask_rcnn":
        lasts[detector.get_layer("mask_head").last] = 0.3
    rng = np.random.default_rng(0)
    for last, spread in lasts.items():
        last.kernel.assign(rng.normal(0, spread, last.kernel.shape))
    return detector


def labels(**changes):
    boxes = np.zeros((4, 2, 4), "float32")
    boxes[0] = [[10, 10, 40, 50], [45, 40, 55, 55]]
    boxes[1, 0] = 0, 0, SIZE, SIZE
    boxes[3] = [[20, 5, 60, 30], [30, 30, 60, 60]]
    y, x = np.mgrid[:112, :112] + 0.5
    disk = np.where(np.hypot(x - 56, y - 56) < 56, 255, 0)
    found = {
        "boxes": boxes,
        "classes": np.array([[1, 0], [2, -1], [-1, -1], [0, 2]], "int32"),
        "seeds": np.array([[0, 1], [0, 2], [0, 3], [0, 4]], "int32"),
        "masks": np.tile(disk.astype("uint8"), (4, 2, 1, 1)),
        "frames": boxes,
        **changes,
    }
    return {name: tf.constant(value) for name, value in found.items()}


def objective(detector, batch, given=None):
    has_masks = detector.spec.detector == "mask_rcnn"
    given = labels() if given is None else given
    names = ("boxes", "classes", "seeds", *(("masks", "frames") if has_masks else ()))
    specs = {
        name: tf.TensorSpec((None, *given[name].shape[1:]), given[name].dtype) for name in names
    }
    specs["images"] = tf.TensorSpec((None, SIZE, SIZE, 3))
    return Objective(
        model=training_model(detector, rois=32),
        batches=None,
        batch=batch,
        loss=mask_rcnn_loss,
        parts=MASK_PARTS if has_masks else BOX_PARTS,
        spec=(specs, ()),
    )
