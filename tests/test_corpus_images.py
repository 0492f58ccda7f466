"""Every image file of the corpus: the pixels it must show, or the refusal, in every way in."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from conftest import named_weights
from corpus.images import write_pictures
from pictures import read_all

import bit_keras
from bit_keras import data
from bit_keras.data.sources.upright import decode_upright

SIDE = 32


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """(The folder of a class with all files, {name: Picture})."""
    root = tmp_path_factory.mktemp("corpus") / "photos"
    table = write_pictures(root / "train" / "all")
    (root / "test").symlink_to(root / "train")
    return root / "train" / "all", table


def refused(table):
    return {name for name, one in table.items() if isinstance(one.expected, str)}


def assert_shows(pixels, picture, name):
    assert pixels.shape == picture.expected.shape, name
    wrong = np.abs(pixels.astype(int) - picture.expected).max()
    assert wrong <= picture.tolerance, f"{name!r} differs by {wrong}"


def test_training_reads_the_pixels_that_are_meant(corpus):
    folder, table = corpus
    train, _ = data.from_directory(folder.parents[1], bad_images="skip")
    names = [str(file).removeprefix(f"{folder}/") for file in train.files]
    assert {*names} == {*table} - refused(table)
    for name, pixels in zip(names, read_all(train), strict=True):
        assert_shows(pixels, table[name], name)


def test_all_that_cannot_be_read_is_named_with_the_reason(corpus, tmp_path, monkeypatch):
    folder, table = corpus
    monkeypatch.setenv("BIT_KERAS_CACHE", str(tmp_path))
    with pytest.raises(data.DataError) as error:
        data.from_directory(folder.parent)
    assert "\n" not in str(error.value)
    assert f"{len(refused(table))} images of {len(table)} cannot be read" in str(error.value)
    [listed] = (tmp_path / "broken_images").iterdir()
    reasons = dict(line.split("\t") for line in listed.read_text().splitlines())
    assert {name.removeprefix(f"{folder}/") for name in reasons} == refused(table)
    for name in refused(table):
        assert re.search(table[name].expected, reasons[f"{folder}/{name}"]), name


def test_predictions_are_those_of_the_pixels(corpus):
    """Of files in a folder, and of the same pictures in memory."""
    folder, table = corpus
    model = named_weights(bit_keras.ResNetV2((1,), 4 / 64, 5, name="small"))
    options = {"size": SIDE, "batch": 64}
    found = bit_keras.predict_images(model, folder, bad_images="skip", **options)
    by_name = {one["image"].removeprefix(f"{folder}/"): one for one in found}
    # A folder is asked for its files, and links to nothing are none.
    lost = {name for name in table if not (folder / name).is_file()}
    assert {*by_name} == {*table} - lost
    assert {name for name, one in by_name.items() if "error" in one} == refused(table) - lost
    exact = [name for name in by_name if name not in refused(table) and not table[name].tolerance]
    shown = bit_keras.predict_images(model, [table[name].expected for name in exact], **options)
    for name, one in zip(exact, shown, strict=True):
        for a, b in zip(by_name[name]["predictions"], one["predictions"], strict=True):
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-5), name


def test_boxes_lie_in_the_pixels_that_are_meant(corpus, tmp_path):
    folder, table = corpus
    images, boxes = [], []
    for i, (name, one) in enumerate(table.items()):
        height, width = (9, 9) if isinstance(one.expected, str) else one.expected.shape[:2]
        images.append({"id": i, "file_name": name, "height": height, "width": width})
        boxes.append({"image_id": i, "category_id": 0, "bbox": [0, 0, width, height]})
    content = {"images": images, "annotations": boxes, "categories": [{"id": 0, "name": "all"}]}
    (tmp_path / "all.json").write_text(json.dumps(content))
    for part in data.from_coco(tmp_path / "all.json", folder, bad_images="skip"):
        for file, pixels, box in zip(part.files, read_all(part), part.boxes, strict=True):
            name = str(file).removeprefix(f"{folder}/")
            assert_shows(pixels, table[name], name)
            assert box.tolist() == [0, 0, pixels.shape[1], pixels.shape[0]]


def test_graphs_show_the_same_or_refuse(corpus):
    _, table = corpus
    spec = [tf.TensorSpec([], tf.string)]
    decode = tf.function(decode_upright, input_signature=spec, autograph=False)
    for name, one in table.items():
        if one.in_graph is not None:
            with pytest.raises(tf.errors.InvalidArgumentError, match=one.in_graph):
                decode(one.content)
        elif one.content and not isinstance(one.expected, str):
            assert_shows(decode(one.content).numpy(), one, name)
