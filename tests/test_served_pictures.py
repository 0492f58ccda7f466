"""What a SavedModel makes of encoded pictures, in a process that has TensorFlow alone."""

import json
import subprocess
import sys

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf
from conftest import named_weights
from odd_pictures import REFUSED, encoded, other, tiff
from pictures import picture

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


def test_served_pictures_are_upright_over_white_or_refused(model, tmp_path):
    bit_keras.export(model, tmp_path / "served", size=SIZE)
    image = picture(24, 36)
    shown = {
        **{f"{n}.png": encoded(image, "PNG", exif=tiff(n)) for n in range(1, 9)},
        "turned.webp": encoded(image, "WEBP", lossless=True, exif=tiff(6, big=True)),
        **{n: other(n) for n in ("clear.png", "clear.webp", "palette.bmp", "moving.gif")},
    }
    files = shown | {name: other(name) for name in REFUSED}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", PROGRAM, *files]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = json.loads((tmp_path / "found.json").read_text())
    for name in shown:
        with PIL.Image.open(tmp_path / name) as image:
            image = PIL.ImageOps.exif_transpose(image).convert("RGBA")
        white = PIL.Image.new("RGBA", image.size, "white")
        pixels = np.asarray(PIL.Image.alpha_composite(white, image).convert("RGB"))
        expected = model(tf.image.resize(pixels, [SIZE, SIZE])[None] / 255)[0]
        np.testing.assert_allclose(found[name], expected, atol=1e-4, err_msg=name)
    for name, reason in REFUSED.items():
        assert reason in found[name]
