"""A detector for tests of its use, and pictures to find objects on."""

import numpy as np
import tensorflow as tf
from conftest import named_weights
from pictures import picture

import bit_keras
from bit_keras import data
from bit_keras.detection import RetinaNet

NAMES = ("ant", "bee", "große Katze")
SIZE = 64


def lively_detector(bias=-6.0):
    """Finds some objects of each of three classes on any picture; with a lower bias fewer."""
    body = bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 0)
    model = named_weights(RetinaNet(body, len(NAMES), size=SIZE, channels=8))
    rng = np.random.default_rng(0)
    for head, spread, middle in (("class_head", 0.3, bias), ("box_head", 0.1, 0.0)):
        last = model.get_layer(head).last
        last.kernel.assign(rng.normal(0, spread, last.kernel.shape))
        last.bias.assign(np.full(last.bias.shape, middle))
    model.spec = model.spec.replace(class_names=NAMES, test_size=SIZE, loss="sigmoid")
    return model


def boxless(*pixels):
    """Images of any sizes, uint8 [height, width, 3], in which nothing is annotated."""
    encoded = tf.stack([tf.io.encode_png(image) for image in pixels])

    def read(index):
        return tf.io.decode_png(encoded[index], channels=3)

    return data.without_boxes("pictures", NAMES, read, [image.shape[:2] for image in pixels])


def pictures(*sizes):
    """Smooth random colors, uint8 [height, width, 3], of sizes (height, width)."""
    return [np.asarray(picture(*sides, seed=i)) for i, sides in enumerate(sizes)]
