"""Pooled features, in the images' order, of any model that has them."""

import csv
import os
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from conftest import named_weights
from pictures import picture

import bit_keras
from bit_keras.classification import write_features

SIDE = 48
NAMES = ["b.png", 'a "quoted", comma.png', "line\nbreak.png"]


@pytest.fixture(scope="module")
def model():
    return named_weights(bit_keras.ResNetV2((1,), 0.25, 5, name="small"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i, name in enumerate(NAMES):
        picture(SIDE, SIDE, seed=i).save(folder / name)
    return [str(folder / name) for name in NAMES]


@pytest.fixture(scope="module")
def expected(model, files):
    """What the head takes, found from what it makes of it: logits = features @ kernel + bias."""
    pixels = np.stack([np.asarray(PIL.Image.open(file)) for file in files]) / np.float32(255)
    body = bit_keras.models.resnet_v2.with_head(model, 0)
    features = np.asarray(body(pixels))
    kernel, bias = (variable.numpy() for variable in model.get_layer("head").variables)
    np.testing.assert_allclose(features @ kernel[0, 0] + bias, model(pixels), atol=1e-5)
    return features


def test_features_of_a_model_with_or_without_a_head(model, files, expected):
    body = bit_keras.models.resnet_v2.with_head(model, 0)
    for given in (model, body):
        for batch in (2, 16):
            got = bit_keras.image_features(given, files, size=SIDE, batch=batch)
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, expected, atol=1e-6)
    pictures = [PIL.Image.open(file) for file in files]
    got = bit_keras.image_features(model, pictures, size=SIDE)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["saved", "m.keras", "m.npz"])
def test_features_of_a_file_that_holds_weights(model, files, expected, tmp_path, name):
    format = {"saved": "saved_model"}.get(name, name[2:])
    few = np.zeros((1, 32, 32, 3))
    bit_keras.export(model, tmp_path / name, format, size=SIDE, images=few)
    got = bit_keras.image_features(tmp_path / name, files)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_an_exported_body_gives_features_and_an_exported_classifier_does_not(
    model, files, expected, tmp_path
):
    few = np.zeros((1, 32, 32, 3))
    body = bit_keras.models.resnet_v2.with_head(model, 0)
    for name, network in (("body", body), ("classifier", model)):
        bit_keras.export(
            *(network, tmp_path / name, "saved_model"), frozen=True, size=SIDE, images=few
        )
    bit_keras.export(model, tmp_path / "m.onnx", "onnx", size=SIDE, images=few)
    got = bit_keras.image_features(tmp_path / "body", files)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    for name in ("classifier", "m.onnx"):
        with pytest.raises(ValueError, match=rf"{name} gives logits alone, .* a run's folder") as e:
            bit_keras.image_features(tmp_path / name, files)
        assert "\n" not in str(e.value)


def test_the_file_of_features_has_a_list_of_its_images(model, files, expected, tmp_path):
    assert write_features(tmp_path / "new/f.npy", model, files, size=SIDE) == (3, 64)
    np.testing.assert_allclose(np.load(tmp_path / "new/f.npy"), expected, atol=1e-6)
    with open(tmp_path / "new/f.npy.files.csv", newline="", encoding="utf-8-sig") as file:
        rows = [*csv.reader(file)]
    assert rows == [["row", "image"], *([str(i), file] for i, file in enumerate(files))]
    with pytest.raises(ValueError, match="there is no image"):
        write_features(tmp_path / "other.npy", model, ["nowhere.png"], size=SIDE)
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.slow
def test_the_command_takes_a_body_and_refuses_what_is_said_of_classes(files, tmp_path):
    command = [sys.executable, "-m", "bit_keras.cli.predict", "--model=BiT-XS-R26x0.25", *files]
    done = subprocess.run(
        [*command, "--features=f.npy"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == (
        "f.npy: 3 x 512 features; f.npy.files.csv says which row is of which image.\n"
    )
    assert np.load(tmp_path / "f.npy").shape == (3, 512)
    done = subprocess.run(
        [*command, "--features=g.npy", "--format=csv"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last == "error: --features writes no classes, so leave out --format."
    assert sorted(os.listdir(tmp_path)) == ["f.npy", "f.npy.files.csv"]
