"""Models and images for the tests of distillation."""

import keras
import numpy as np
from conftest import named_weights

import bit_keras
from bit_keras import data

TINY = ((1, 1, 1, 1), 0.25)
CLASSES = ("a", "b", "c")


def noise_images():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 40, 40, 3), dtype=np.uint8)
    labels = np.arange(24) % 3
    return data.from_arrays(pixels, labels, test=(pixels, labels), class_names=CLASSES)[0]


def expert():
    return named_weights(bit_keras.ResNetV2(*TINY, 3, name="expert"))


def small_student():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.AveragePooling2D(8),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
