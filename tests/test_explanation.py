"""Heat maps against gradients taken another way, against known places, and as files and reports."""

import csv
import os
import re
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from conftest import named_weights
from pictures import picture

import bit_keras
from bit_keras.classification.explanation import (
    check_explainable,
    explanations,
    heat_maps,
    heated,
    write_heat_maps,
)
from bit_keras.data import evaluation_images
from bit_keras.models.spec import spec_of

UNITS = ("block1", "block2", "block3", "block4")


@pytest.fixture(scope="module")
def tiny():
    """As the session's, but of this file alone."""
    return named_weights(bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 5, name="tiny"))


def noise(side, count=3, seed=0):
    return np.random.default_rng(seed).random((count, side, side, 3), np.float32)


def in_cells(heats, stride):
    """Heat at the centers of the cells, pixels 0, stride, ..., by the largest there."""
    cells = heats[:, ::stride, ::stride]
    return cells / cells.max(axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("side", [128, 100])
def test_the_last_feature_map_gives_grad_cam(tiny, side):
    """Which for a linear head on means is CAM: the head's kernel as weights of the channels."""
    images, classes = noise(side), [4, 0, 2]
    heats, logits = heat_maps(tiny, side)(images, classes)
    assert heats.shape == (3, side, side)
    assert heats.min() == 0
    np.testing.assert_array_equal(heats.max(axis=(1, 2)), 1)
    np.testing.assert_allclose(logits, tiny(images), atol=1e-5)
    features = keras.Model(tiny.input, tiny.get_layer("relu").output)(images).numpy()
    kernel = tiny.get_layer("head").conv.kernel.numpy()[0, 0]
    cam = np.maximum(np.einsum("bijc,cb->bij", features, kernel[:, classes]), 0)
    assert cam.shape == (3, 4, 4)
    cam /= cam.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(in_cells(heats, 32), cam, atol=2e-3)


@pytest.mark.parametrize(("side", "block"), [(32, "block2"), (64, "block3"), (96, "block3")])
def test_small_images_get_an_earlier_map_of_four_cells_or_more(tiny, side, block):
    images, n = noise(side), UNITS.index(block)
    heats, _ = heat_maps(tiny, side)(images)
    x = tf.constant(keras.Model(tiny.input, tiny.get_layer(block).output)(images))
    assert 4 <= x.shape[1] < 8
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for name in (*UNITS[n + 1 :], "group_norm", "relu", "pooled", "head"):
            y = tiny.get_layer(name)(y)
        score = tf.reduce_max(y, axis=1)
    expected = np.maximum((x * tape.gradient(score, x)).numpy().sum(axis=-1), 0)
    expected /= expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(in_cells(heats, 2 ** (n + 2)), expected, atol=2e-3)


@pytest.mark.parametrize("place", [(32, 96), (96, 32), (0, 64)])
def test_the_hottest_place_is_where_the_class_is(place):
    """A head that looks for what the middle of a patch gives, on another image with the patch."""
    model = named_weights(bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 2))

    def image(row, column):
        pixels = np.full((1, 160, 160, 3), 0.5, np.float32)
        patch = pixels[0, max(row - 15, 0) : row + 16, max(column - 15, 0) : column + 16]
        patch[:] = noise(31, 1)[0, : patch.shape[0], : patch.shape[1]]
        return pixels

    features = keras.Model(model.input, model.get_layer("relu").output)(image(64, 64))[0].numpy()
    kernel = np.zeros((1, 1, features.shape[-1], 2), np.float32)
    kernel[..., 1] = features[2, 2] - features.mean(axis=(0, 1))
    model.get_layer("head").conv.kernel.assign(kernel)
    [heat], _ = heat_maps(model, 160)(image(*place), [1])
    found = np.unravel_index(heat.argmax(), heat.shape)
    assert np.abs(np.subtract(found, place)).max() <= 8


def test_an_image_has_its_heat_map_whatever_is_beside_it_and_the_model_stays(tiny, tmp_path):
    before, images = tiny.get_config(), noise(64, 4)
    find = heat_maps(tiny, 64)
    together, logits = find(images)
    for i, image in enumerate(images):
        alone, _ = find(image[np.newaxis], [int(logits[i].argmax())])
        np.testing.assert_allclose(alone[0], together[i], atol=1e-3)
    assert tiny.get_config() == before
    tiny.save(tmp_path / "m.keras")
    np.testing.assert_allclose(bit_keras.load(tmp_path / "m.keras")(images), logits, atol=1e-5)


def test_a_head_of_several_layers_is_explained_and_a_model_without_a_mean_is_not(tiny):
    x = keras.layers.Dense(7, activation="relu")(tiny.get_layer("pooled").output)
    deep = keras.Model(tiny.input, keras.layers.Dense(3, name="head")(x))
    heats, logits = heat_maps(deep, 128)(noise(128))
    assert heats.shape == (3, 128, 128)
    assert logits.shape == (3, 3)
    wrapped = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="no layer named 'pooled', before which"):
        heat_maps(wrapped, 32)


def test_color_is_heat_alone():
    picture = np.zeros((2, 5, 3), np.uint8) + np.uint8([200, 40, 90])
    heat = np.linspace(0, 1, 5) * np.ones((2, 1))
    over = heated(picture, heat).astype(int)
    assert over.shape == picture.shape
    assert np.ptp(over[0, 0]) <= 3  # gray
    assert np.ptp(over[0, 2:], axis=-1).min() > 30
    assert (np.diff(over.sum(axis=-1), axis=1) > 0).all()  # hot is bright


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of four photos, twice as wide as high."""
    root = tmp_path_factory.mktemp("photos")
    for c, name in enumerate(["cat", "dog"]):
        (root / name).mkdir()
        for i in range(4):
            picture(60, 120, seed=10 * c + i).save(root / name / f"{i}.png")
    return root


def test_a_picture_for_each_image(tiny, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = "an odd / name\n?.png".replace("/", "\\") + " \udcff.png"
    picture(60, 120, seed=99).save(tmp_path / "plain.png")
    os.rename(tmp_path / "plain.png", tmp_path / odd)
    files = [str(photos / "cat/0.png"), str(photos / "dog/0.png"), odd]
    names = ["ant", "b" * 300, "cat", "dog", "eel"]
    write_heat_maps("new/maps", tiny, files, labels=names, size=40, batch=2)
    assert sorted(os.listdir("new/maps")) == ["1-0.jpg", "2-0.jpg", "3-an-odd-name-.png-.jpg"]
    assert os.listdir("new") == ["maps"]
    side = 7 * 40  # of enlarged pixels, at least 256
    for name, file in zip(sorted(os.listdir("new/maps")), files, strict=True):
        drawn = PIL.Image.open(f"new/maps/{name}")
        assert drawn.size == (2 * side + 24, side + 60)
        left, right = (np.asarray(drawn.crop((x, 8, x + side, 8 + side))) for x in (8, side + 16))
        seen = tf.image.resize(np.asarray(PIL.Image.open(file)), (40, 40)).numpy()
        middles = left[3::7, 3::7].astype(float)
        assert np.abs(middles - seen).mean() < 4  # squashed, as the model sees it; JPEG
        assert np.ptp(right.astype(int), axis=-1).max() > 60  # some of it is hot
        text = np.asarray(drawn)[side + 12 :]
        assert text.min() < 100
    with pytest.raises(ValueError, match=r"new.maps holds other files; give a new folder"):
        write_heat_maps("new/maps", tiny, files, size=40)


@pytest.mark.slow
def test_the_command(run, photos, tmp_path):
    command = [sys.executable, "-m", "bit_keras.cli.predict", f"--model={run}", str(photos / "cat")]
    flags = ("--explain=maps", "--format=csv", "--threshold=1", "--output=answers.csv")
    done = subprocess.run([*command, *flags], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is shown 40 x 40 pixels") == 1
    assert sorted(os.listdir(tmp_path / "maps")) == [f"{i + 1}-{i}.jpg" for i in range(4)]
    with open(tmp_path / "answers.csv", newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "rank", "class", "probability"]
    assert [row[0] for row in rows] == [str(photos / f"cat/{i}.png") for i in range(4)]


def test_what_cannot_be_explained_is_refused_before_anything_is_written(tiny, photos, tmp_path):
    for name in ("m.onnx", "m.tflite"):
        with pytest.raises(ValueError, match=f"{name} gives logits alone, .* a run's folder"):
            check_explainable(tmp_path / "new", tmp_path / name)
    check_explainable(tmp_path / "new", "BiT-XS-R26x0.25")
    body = bit_keras.models.resnet_v2.with_head(tiny, 0)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    for model, images, message in (
        (body, [photos / "cat"], "tiny has no head"),
        (tiny, [tmp_path / "broken.png"], r"broken.png \(cannot identify"),
    ):
        with pytest.raises(ValueError, match=message):
            write_heat_maps(tmp_path / "new", model, images, size=40)
    assert os.listdir(tmp_path) == ["broken.png"]


def alternatives(path):
    """What the pictures of a report are called."""
    return re.findall(r'<img[^>]* alt="([^"]*)"', path.read_text(encoding="utf-8"))


def of_wrong(path):
    """(the number of an image, its true class, what was said) of every mistake in a report."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"test image (\d+), true class \w+.*?true <b>(\w+)</b>, said <b>(\w+)", text)
    return [(int(number), true, said) for number, true, said in found]


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A run that ends with mistakes, because it hardly learned."""
    workdir = tmp_path_factory.mktemp("runs") / "photos"
    images = evaluation_images(str(photos))
    model = named_weights(bit_keras.ResNetV2((1,), 0.25, 2))
    rule = bit_keras.HyperRule.release(8, (60, 120)).with_steps(1)
    rule = rule.replace(batch=2, resize=40, crop=40, base_lr=1.0)
    bit_keras.fine_tune(model, images, images, workdir=workdir, rule=rule)
    return workdir


def test_reports_show_where_the_model_saw_what_it_said(run, photos, tmp_path):
    own = of_wrong(run / "report.html")
    assert own
    expected = []
    for number, true, said in own:
        expected += [f"test image {number}, true class {true}"]
        expected += [f"heat map of {said} on test image {number}"]
    assert alternatives(run / "report.html") == expected
    bit_keras.evaluate(run, photos, workdir=tmp_path / "tested")
    assert alternatives(tmp_path / "tested/report.html") == expected
    with open(tmp_path / "tested/per_class.csv", newline="") as file:
        assert len([*csv.reader(file)]) == 3
    few = np.zeros((1, 32, 32, 3))
    frozen = tmp_path / "frozen"
    bit_keras.export(
        bit_keras.load(run), frozen, "saved_model", frozen=True, images=few, labels=["cat", "dog"]
    )
    with pytest.raises(ValueError, match="frozen gives logits alone"):
        check_explainable(tmp_path / "new", frozen)
    bit_keras.evaluate(frozen, photos, workdir=tmp_path / "graph")
    assert alternatives(tmp_path / "graph/report.html") == expected[::2]


def test_classes_in_another_order_are_those_that_were_said(run, photos, tmp_path):
    images = evaluation_images(str(photos))
    model = bit_keras.load(run)
    found = bit_keras.evaluate(model, images, labels=["dog", "cat"], workdir=tmp_path / "turned")
    pictures = found.explain([0, 5], np.array([0, 1]))
    expected = explanations(model, spec_of(model), images)([0, 5], [1, 0])
    np.testing.assert_array_equal(pictures, expected)
    other = explanations(model, spec_of(model), images)([0, 5], [0, 1])
    assert not np.array_equal(pictures, other)
    assert pictures[0].shape[1] == 2 * pictures[0].shape[0]  # as the photos, not squashed


def test_only_the_center_that_was_seen_is_hot(tiny, photos):
    images = evaluation_images(str(photos))
    spec = spec_of(tiny).replace(test_size=40, test_resize=80)
    [over] = explanations(tiny, spec, images)([0], [0])
    color = np.ptp(over.astype(int), axis=-1)
    height, width = color.shape
    seen = np.zeros((height, width), bool)
    side = height // 2
    seen[(height - side) // 2 :, (width - side) // 2 :][:side, :side] = True
    assert color[seen].max() > 60
    assert color[~seen].max() <= 6
