"""A detector for tests of its use, its exports, and pictures to find objects on."""

import json
import subprocess
import sys

import numpy as np
import tensorflow as tf
from conftest import named_weights
from pictures import picture

import bit_keras
from bit_keras import data
from bit_keras.detection import RetinaNet

NAMES = ("ant", "bee", "große Katze")
SIZE = 64
SIZES = [(SIZE, SIZE), (200, 90), (40, 30), (97, 180), (33, 150)]


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


def typed(*arguments, cwd):
    command = [sys.executable, "-m", "bit_keras.cli.detect", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def export(folder):
    """Exports the detector for `made_once`: it takes a minute.

    To exports/served here, to exports/cells.onnx by the command; said.json is what they said.
    """
    written, detector = folder / "exports", lively_detector()
    written.mkdir()
    images = boxless(*pictures(*SIZES))
    matched = bit_keras.export_detector(detector, written / "served", images=images)
    detector.save(written / "cells.keras")
    arguments = ("export", "--model=cells.keras", "--format=onnx", "--output=cells.onnx")
    done = typed(*arguments, cwd=written)
    assert done.returncode == 0, done.stderr
    (folder / "said.json").write_text(json.dumps([matched, done.stdout]))
