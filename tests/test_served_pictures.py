"""What a SavedModel makes of encoded pictures, in a process that has TensorFlow alone."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import named_weights
from corpus.images import pictures

import bit_keras

SIZE = 40
PROGRAM = """
import json, pathlib, sys
import tensorflow as tf

serve = tf.saved_model.load("served").signatures["serve_encoded"]
found = {}
for path in map(pathlib.Path, sys.argv[1:]):
    # Between two good ones, which a served batch may hold.
    good = tf.io.encode_png(tf.zeros([9, 9, 3], tf.uint8))
    try:
        answer = serve(encoded=tf.stack([good, path.read_bytes(), good]))
        found[path.name] = answer["logits"][1].numpy().tolist()
    except tf.errors.InvalidArgumentError as error:
        found[path.name] = error.message
json.dump(found, open("found.json", "w"))
"""


@pytest.fixture(scope="module")
def model():
    return named_weights(bit_keras.ResNetV2((1,), 0.25, 5, name="small"))


@pytest.mark.slow
def test_served_pictures_are_upright_over_white_or_refused(model, tmp_path):
    bit_keras.export(model, tmp_path / "served", size=SIZE)
    table = pictures()
    shown = [f"turned{n}.{suffix}" for n in range(1, 9) for suffix in ("png", "webp")]
    shown += ["clear.png", "clear.webp", "palette.bmp", "still.gif"]
    refused = {n: one.in_graph for n, one in table.items() if one.in_graph and one.in_graph != "."}
    files = [*shown, *refused]
    for name in files:
        (tmp_path / name).write_bytes(table[name].content)
    command = [sys.executable, "-c", PROGRAM, *files]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = json.loads((tmp_path / "found.json").read_text())
    for name in shown:
        pixels = tf.image.resize(table[name].expected, [SIZE, SIZE])[None] / 255
        allowed = 1e-2 if table[name].tolerance else 1e-4
        np.testing.assert_allclose(found[name], model(pixels)[0], atol=allowed, err_msg=name)
    for name, reason in refused.items():
        assert re.search(reason, found[name]), name
