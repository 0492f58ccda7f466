"""Exported detectors of two stages find the objects and masks of the detector, or are refused."""

import json
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from detectors import NAMES, boxless, pictures
from mask_detectors import SIZE, lively
from pycocotools import mask as coco_masks

import bit_keras
from bit_keras.detection import exporting
from bit_keras.detection.detecting import all_detections
from bit_keras.detection.mask_pasting import pasted_in_graph, pasted_masks
from bit_keras.detection.matching import agreement
from bit_keras.detection.serving import objects_on
from bit_keras.exporting import ExportError
from bit_keras.exporting.inference_graph import inference_graph
from bit_keras.models.spec import spec_of

CONSUMER = pathlib.Path(__file__).parents[1] / "export" / "consumers" / "detector_saved_model.py"
SIZES = [(SIZE, SIZE), (200, 90), (40, 30), (97, 180)]
ROUTES = ("serving_default", "serve_uint8", "serve_encoded")


def named_detector(**options):
    """Finds some objects of each class, but fewer than there may be, on any picture."""
    model = lively(**options)
    model.get_layer("box_head").classes.bias.assign([2, 0, 0.5, 5.3])
    model.spec = model.spec.replace(class_names=NAMES)
    return model


@pytest.fixture(scope="module")
def detector():
    return named_detector()


@pytest.fixture(scope="module")
def mixed():
    """The same detector in mixed precision."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return named_detector()
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def photos():
    return pictures(*SIZES)


@pytest.fixture(scope="module")
def expected(detector, photos):
    return all_detections(detector, boxless(*photos))


@pytest.fixture(scope="module")
def served(mixed, photos, tmp_path_factory):
    """An export of the detector in mixed precision, which must be as that in float32."""
    path = tmp_path_factory.mktemp("exports") / "served"
    bit_keras.export_detector(mixed, path, images=boxless(*photos))
    return path


@pytest.fixture(scope="module")
def routes(served):
    """By name: uint8 pictures to what the export answers, as arrays."""
    signatures = tf.saved_model.load(str(served)).signatures

    def arrays(found):
        return {name: np.asarray(part) for name, part in found.items()}

    def serving_default(pixels):
        images = np.stack(pixels) / np.float32(255)
        return arrays(signatures["serving_default"](images=tf.constant(images)))

    def serve_uint8(pixels):
        return arrays(signatures["serve_uint8"](images=tf.constant(np.stack(pixels))))

    def serve_encoded(pixels):
        files = tf.stack([tf.io.encode_png(image) for image in pixels])
        return arrays(signatures["serve_encoded"](encoded=files))

    return {each.__name__: each for each in (serving_default, serve_uint8, serve_encoded)}


def of_one(answers, size, row=0):
    """The objects of one image, as `all_detections` gives them."""
    there = answers["classes"][row] >= 0
    found = {name: answers[name][row][there] for name in ("boxes", "scores", "classes")}
    masks = answers["masks"][row, : there.sum(), : size[0], : size[1]]
    return {**found, "masks": [coco_masks.encode(np.asfortranarray(mask)) for mask in masks]}


@pytest.mark.parametrize("route", ROUTES)
def test_an_export_finds_the_objects_and_masks_of_the_detector(route, routes, photos, expected):
    found = [of_one(routes[route]([image]), image.shape) for image in photos]
    assert all(5 < len(one["scores"]) < 100 for one in expected)  # or little is compared
    assert {k for one in expected for k in one["classes"]} == {0, 1, 2}
    assert all((coco_masks.area(one["masks"]) > 100).sum() > 3 for one in expected)
    alike = agreement(expected, found, 0.05, 100)
    assert alike.matched > 0.99
    assert alike.score_difference < 1e-4
    assert alike.corner_difference < 0.02
    assert alike.mask_iou > 0.9


def test_masks_of_boxes_that_are_cut_off_keep_their_scale(routes, detector, photos, expected):
    """The image is narrow, so that boxes reach into the gray to its right."""
    image = photos[1]
    height, width, _ = image.shape
    answers = routes["serve_uint8"]([image])
    found = of_one(answers, image.shape)
    cut = np.flatnonzero(found["boxes"][:, 2] == width)
    assert len(cut) > 3
    overlaps = coco_masks.iou(expected[1]["masks"], found["masks"], [0] * len(found["masks"]))
    assert overlaps[cut, cut].min() > 0.9
    square = tf.image.resize(image[np.newaxis] / np.float32(255), (SIZE, round(SIZE * 0.45)))
    square = tf.pad(square, [[0, 0], [0, 0], [0, SIZE - square.shape[2]], [0, 0]], "CONSTANT", 0.5)
    raw = {name: part[0].numpy() for name, part in detector(square).items()}
    whole = raw["boxes"] * (np.float32([width, height] * 2) / np.float32([29, SIZE] * 2))
    place = int(np.argmax((whole[:, 2] > 1.5 * width) & (whole[:, 0] < width / 2)))
    row = int(np.argmin(np.abs(found["scores"] - raw["scores"][place])))
    [right], [squeezed] = (
        pasted_masks(raw["masks"][[place]], boxes, (height, width))
        for boxes in (whole[[place]], found["boxes"][[row]])
    )
    assert coco_masks.iou([right], [found["masks"][row]], [0])[0, 0] > 0.99
    assert coco_masks.iou([squeezed], [found["masks"][row]], [0])[0, 0] < 0.9


@pytest.mark.parametrize("route", ROUTES)
def test_images_of_a_batch_are_answered_as_each_alone(route, routes):
    pair = [*pictures((50, 70)), *pictures((50, 70), (50, 70))[1:]]
    together = routes[route](pair)
    for row, image in enumerate(pair):
        alone = routes[route]([image])
        assert alone.keys() == together.keys()
        number = alone["masks"].shape[1]
        assert not together["masks"][row, number:].any()
        together_masks = together["masks"][row, :number]
        assert np.mean(alone["masks"][0] != together_masks) < 1e-4
        np.testing.assert_array_equal(alone["class_names"][0], together["class_names"][row])
        for name in ("boxes", "scores", "classes"):
            np.testing.assert_allclose(alone[name][0], together[name][row], rtol=1e-4, atol=1e-3)


def test_files_of_a_batch_may_have_different_sizes(routes, photos, expected):
    answers = routes["serve_encoded"](photos)
    assert answers["masks"].shape[2:] == (200, 180)
    for row, (height, width) in enumerate(SIZES):
        assert not answers["masks"][row, :, height:].any()
        assert not answers["masks"][row, :, :, width:].any()
    found = [of_one(answers, size, row) for row, size in enumerate(SIZES)]
    alike = agreement(expected, found, 0.05, 100)
    assert alike.matched > 0.99
    assert alike.mask_iou > 0.9


@pytest.mark.parametrize("route", ROUTES)
def test_shapes_types_and_rows_without_an_object(route, routes, photos):
    for image in photos:
        answers = routes[route]([image])
        number = int((answers["classes"] >= 0).sum())
        assert {name: (part.shape, part.dtype) for name, part in answers.items()} == {
            "boxes": ((1, 100, 4), np.float32),
            "scores": ((1, 100), np.float32),
            "classes": ((1, 100), np.int32),
            "class_names": ((1, 100), object),
            "masks": ((1, number, *image.shape[:2]), np.uint8),
        }
        assert np.all(answers["classes"][0, number:] == -1)
        assert {*np.unique(answers["masks"])} == {0, 1}


def test_an_image_without_objects_has_one_empty_mask():
    def nothing(squares):
        rows = tf.shape(squares)[0]
        return {
            "boxes": tf.zeros([rows, 100, 4]),
            "scores": tf.zeros([rows, 100]),
            "classes": tf.fill([rows, 100], -1),
            "masks": tf.zeros([rows, 100, 28, 28]),
        }

    found = objects_on(nothing, tf.zeros([2, 30, 40, 3]), SIZE)
    assert found["masks"].shape == (2, 1, 30, 40)
    assert not np.any(found["masks"])
    assert np.all(found["classes"] == -1)


def test_masks_are_pasted_in_the_graph_as_outside_of_it():
    rng, sides = np.random.default_rng(0), [(60, 90), (48, 64)]
    corners = rng.uniform((-15, -15), (80, 50), (2, 30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 70, (2, 30, 2))], axis=2)
    boxes[:, 0], boxes[:, 1] = 0, (-30, 2, -10, 9)
    masks = rng.uniform(size=(2, 30, 28, 28)).astype("float32")
    boxes = boxes.astype("float32")
    found = pasted_in_graph(tf.constant(masks), tf.constant(boxes), tf.constant(sides)).numpy()
    assert found.shape == (2, 30, 60, 90)
    for own, (height, width), *given in zip(found, sides, masks, boxes, strict=True):
        outside = np.stack([*map(coco_masks.decode, pasted_masks(*given, (height, width)))])
        np.testing.assert_array_equal(own[:, :height, :width], outside)
        assert not own[:, height:].any()
        assert not own[:, :, width:].any()
        assert 0.02 < outside.mean() < 0.5


def test_the_proof_tells_of_masks(served):
    proof = json.loads(served.with_name("served.proof.json").read_text())
    assert proof["passed"] is True
    assert proof["matched"] >= proof["least_matched"] == 0.995
    assert 0.9 < proof["lowest_mask_iou"] <= 1
    assert "to classes, scores, boxes and masks, are those" in proof["proven"]
    assert proof["routes"] == [*ROUTES]


@pytest.mark.slow
def test_boxes_alone_are_exported_without_masks(photos, tmp_path, capsys):
    detector = named_detector(masks=False)
    bit_keras.export_detector(detector, tmp_path / "served", images=boxless(*photos))
    assert "masks" not in capsys.readouterr().out
    proof = json.loads((tmp_path / "served.proof.json").read_text())
    assert "lowest_mask_iou" not in proof
    assert "to classes, scores and boxes, are those" in proof["proven"]
    signatures = tf.saved_model.load(str(tmp_path / "served")).signatures
    assert {*signatures["serve_uint8"].structured_outputs} == {
        *("boxes", "scores", "classes", "class_names")
    }


def test_the_inference_graph_of_a_file_has_the_weights_in_their_places(mixed, tmp_path):
    mixed.save(tmp_path / "mixed.keras")
    model = keras.saving.load_model(tmp_path / "mixed.keras")
    graph = inference_graph(model)
    assert spec_of(graph) == mixed.spec
    assert len(graph.variables) > 100
    for own, source in zip(graph.variables, model.variables, strict=True):
        assert own.path == source.path.replace("standardized_conv2d", "conv2d")
        if own.path == source.path:
            np.testing.assert_array_equal(own, source)


@pytest.mark.parametrize("by", ["function", "command"])
def test_onnx_is_refused_in_one_sentence(by, detector, tmp_path, monkeypatch):
    monkeypatch.delattr(exporting, "write_onnx")  # nothing is converted
    monkeypatch.delattr(exporting, "_expected")  # nor answered
    sentence = r"a mask_rcnn is exported as saved_model only, for .*; choose that format .*\."
    detector.save(tmp_path / "cells.keras")
    path = tmp_path / "cells.onnx"
    if by == "function":
        with pytest.raises(ExportError, match=f"^{sentence}$"):
            bit_keras.export_detector(detector, path, "onnx")
    else:
        command = [sys.executable, "-m", "bit_keras.cli.detect", "export", "--model=cells.keras"]
        done = subprocess.run(
            [*command, "--format=onnx", "--output=cells.onnx"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        *_, last = done.stderr.splitlines()
        assert re.fullmatch(f"error: {sentence}", last)
    assert [*tmp_path.iterdir()] == [tmp_path / "cells.keras"]


@pytest.mark.slow
def test_an_export_of_other_masks_is_refused(served, photos, tmp_path, monkeypatch):
    def write(model, path, **_):
        shutil.copytree(served, path)

    monkeypatch.setattr(exporting, "write_saved_detector", write)
    other = named_detector()
    kernel = other.get_layer("mask_head").last.kernel
    kernel.assign(-kernel)
    with pytest.raises(ExportError, match=r"saved_model export refused: .*nothing was written"):
        bit_keras.export_detector(other, tmp_path / "served", images=boxless(*photos))
    assert [*tmp_path.iterdir()] == []


def test_a_consumer_prints_how_many_pixels_objects_cover(
    served, photos, expected, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "large.png"
    PIL.Image.fromarray(photos[1]).save(file)
    arguments = [str(CONSUMER), f"--model={served}", "--threshold=0.1", str(file)]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(CONSUMER), run_name="__main__")
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == str(file)
    said = [re.fullmatch(r"  (\S+)  (.+)  [\d. ]+  (\d+) pixels", line).groups() for line in lines]
    own = expected[1]
    number = int((own["scores"] >= 0.1).sum())
    assert len(said) == number > 3
    assert [name for _, name, _ in said] == [NAMES[k] for k in own["classes"][:number]]
    scores, pixels = (np.array([row[column] for row in said], float) for column in (0, 2))
    np.testing.assert_allclose(scores, own["scores"][:number], atol=2e-4)
    np.testing.assert_allclose(pixels, coco_masks.area(own["masks"][:number]), atol=2)
