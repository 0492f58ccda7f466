"""Exported detectors find what the detector finds, or are not written."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from conftest import made_once
from detections import detections_of
from detectors import NAMES, SIZES, boxless, export, lively_detector, pictures, typed

import bit_keras
from bit_keras.detection import exporting
from bit_keras.detection.detecting import all_detections
from bit_keras.detection.matching import agreement
from bit_keras.exporting import ExportError

pytestmark = pytest.mark.slow
ROUTES = ("serving_default", "serve_uint8", "serve_encoded", "onnx")


@pytest.fixture(scope="module")
def detector():
    return lively_detector()


@pytest.fixture(scope="module")
def photos():
    return pictures(*SIZES)


@pytest.fixture(scope="module")
def expected(detector, photos):
    return all_detections(detector, boxless(*photos))


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """A folder with `served`, and with `cells.onnx`, which the command wrote; what they said."""
    folder = made_once(tmp_path_factory, "detector", export)
    return folder / "exports", *json.loads((folder / "said.json").read_text())


@pytest.fixture(scope="module")
def routes(exports):
    """By name: uint8 [batch, height, width, 3] to what the export answers, as arrays."""
    folder, *_ = exports
    signatures = tf.saved_model.load(str(folder / "served")).signatures
    session = onnxruntime.InferenceSession(folder / "cells.onnx")
    outputs = [output.name for output in session.get_outputs()]

    def served(name, **inputs):
        return {key: part.numpy() for key, part in signatures[name](**inputs).items()}

    def scaled(pixels):
        return pixels / np.float32(255)

    def serve_encoded(pixels):
        files = tf.stack([tf.io.encode_png(image) for image in pixels])
        return served("serve_encoded", encoded=files)

    found = (
        lambda pixels: served("serving_default", images=tf.constant(scaled(pixels))),
        lambda pixels: served("serve_uint8", images=tf.constant(pixels)),
        serve_encoded,
        lambda pixels: dict(
            zip(outputs, session.run(outputs, {"images": scaled(pixels)}), strict=True)
        ),
    )
    return dict(zip(ROUTES, found, strict=True))


def of_one(answers, row=0):
    """The objects of one image, as `all_detections` gives them."""
    there = answers["classes"][row] >= 0
    return {name: answers[name][row][there] for name in ("boxes", "scores", "classes")}


@pytest.mark.parametrize("route", ROUTES)
def test_an_export_finds_the_objects_of_the_detector(route, routes, photos, expected):
    found = [of_one(routes[route](image[None])) for image in photos]
    assert all(len(one["scores"]) > 5 for one in expected)  # or little is compared
    assert {k for one in expected for k in one["classes"]} == {0, 1, 2}
    alike = agreement(expected, found, 0.05, 100)
    assert alike.matched > 0.99
    assert alike.score_difference < 1e-4
    assert alike.corner_difference < 0.02
    for one, image in zip(found, photos, strict=True):
        height, width, _ = image.shape
        assert np.all(one["boxes"][:, :2] < one["boxes"][:, 2:])
        assert np.all((one["boxes"] >= 0) & (one["boxes"] <= [width, height] * 2))
        assert np.all(np.diff(one["scores"]) <= 0)


@pytest.mark.parametrize("route", ROUTES)
def test_images_of_a_batch_are_answered_as_each_alone(route, routes):
    pair = np.stack([*pictures((50, 70)), *pictures((50, 70), (50, 70))[1:]])
    together = routes[route](pair)
    for row, image in enumerate(pair):
        alone = routes[route](image[None])
        assert alone.keys() == together.keys()
        for name, part in alone.items():
            if part.dtype == object:
                np.testing.assert_array_equal(part[0], together[name][row])
            else:
                np.testing.assert_allclose(part[0], together[name][row], rtol=1e-4, atol=1e-3)


def test_files_of_a_batch_may_have_different_sizes(exports, photos, expected):
    served = tf.saved_model.load(str(exports[0] / "served")).signatures["serve_encoded"]
    files = tf.stack([tf.io.encode_png(image) for image in photos])
    answers = {name: part.numpy() for name, part in served(encoded=files).items()}
    found = [of_one(answers, row) for row in range(len(photos))]
    assert agreement(expected, found, 0.05, 100).matched > 0.99


@pytest.mark.parametrize("route", ROUTES)
def test_shapes_types_and_rows_without_an_object(route, routes, photos):
    for image in photos:
        answers = routes[route](image[None])
        assert {name: (part.shape, part.dtype) for name, part in answers.items()} == {
            "boxes": ((1, 100, 4), np.float32),
            "scores": ((1, 100), np.float32),
            "classes": ((1, 100), np.int32),
            **({} if route == "onnx" else {"class_names": ((1, 100), object)}),
        }
        number = int((answers["classes"] >= 0).sum())
        assert 0 < number < 100
        assert np.all(answers["classes"][0, number:] == -1)
        assert not np.any(answers["scores"][0, number:])
        assert not np.any(answers["boxes"][0, number:])
        if route != "onnx":
            names = [name.decode() for name in answers["class_names"][0]]
            assert names == [("", *NAMES)[k + 1] for k in answers["classes"][0]]


def test_the_proof_is_beside_the_export_and_facts_are_within(exports):
    folder, matched, printed = exports
    assert printed.startswith("cells.onnx: onnx export proven: 100.0% of")
    assert len(printed.splitlines()) == 1
    for path, part, pictures_of, number, routes in (
        ("served", matched, "pictures", len(SIZES), [*ROUTES[:3]]),
        ("cells.onnx", 1, "two photos and pieces of them", 18, ["run"]),
    ):
        proof = json.loads((folder / f"{path}.proof.json").read_text())
        assert proof["passed"] is True
        assert proof["matched"] == part >= proof["least_matched"] == 0.995
        assert (proof["images"], proof["images_of"]) == (number, pictures_of)
        assert proof["objects"] > number
        assert proof["routes"] == routes
    session = onnxruntime.InferenceSession(folder / "cells.onnx")
    facts = json.loads(session.get_modelmeta().custom_metadata_map["bit_keras"])
    assert tuple(facts["class_names"]) == NAMES
    of_saved = json.loads((folder / "served/assets.extra/bit_keras.json").read_text())
    assert facts["notice"] == of_saved["notice"] == proof["notice"]
    assert "https://arxiv.org/abs/1912.11370" in facts["notice"]
    assert {path.name for path in folder.iterdir()} == {
        *("served", "served.proof.json", "cells.keras", "cells.onnx", "cells.onnx.proof.json")
    }


@pytest.fixture(scope="module")
def other():
    """A detector to alter, so that it is no longer what was converted."""
    return lively_detector()


@pytest.fixture
def converted(exports, monkeypatch):
    """Conversion takes no time, and writes `cells.onnx` whatever it is asked for."""

    def write(model, path, **_):
        shutil.copy(exports[0] / "cells.onnx", path)

    monkeypatch.setattr(exporting, "write_onnx", write)


def class_bias(model, value):
    bias = model.get_layer("class_head").last.bias
    bias.assign(np.full(bias.shape, value))


def test_an_export_of_other_weights_is_refused_and_the_old_one_stays(
    converted, other, photos, tmp_path
):
    class_bias(other, -5.9)
    path = tmp_path / "cells.onnx"
    path.write_text("the old one")
    options = {"images": boxless(*photos), "overwrite": True}
    with pytest.raises(ExportError, match=r"onnx export refused: .*% of .* and 99\.5% must;.*"):
        bit_keras.export_detector(other, path, "onnx", **options)
    assert path.read_text() == "the old one"
    assert [*tmp_path.iterdir()] == [path]


def test_lost_facts_are_refused(converted, other, tmp_path):
    other.spec = other.spec.replace(class_names=("a", "b", "c"))
    with pytest.raises(ExportError, match="the export has other facts than the detector"):
        bit_keras.export_detector(other, tmp_path / "cells.onnx", "onnx")
    assert [*tmp_path.iterdir()] == []


def test_detectors_that_find_nothing_are_refused_at_once(other, photos, tmp_path, monkeypatch):
    monkeypatch.delattr(exporting, "write_onnx")  # nothing is converted
    class_bias(other, -60.0)
    images = boxless(*photos[:2])
    with pytest.raises(ExportError, match=r"finds nothing on pictures, .*; give images with obj"):
        bit_keras.export_detector(other, tmp_path / "cells.onnx", "onnx", images=images)
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_is_no_network_is_refused_in_one_sentence(detector, tmp_path, monkeypatch):
    def broken(model, path, **_):
        path.write_bytes(b"no network")

    monkeypatch.setattr(exporting, "write_onnx", broken)
    with pytest.raises(ExportError, match=r"cannot be exported as onnx \(.*\); nothing was"):
        bit_keras.export_detector(detector, tmp_path / "cells.onnx", "onnx")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("m.tflite", "litert", "format must be one of saved_model, onnx, got 'litert'"),
        ("m.pb", "onnx", r"file's name must end in .onnx, got 'm.pb'"),
        ("taken.onnx", "onnx", "exists already; choose another path, or say overwrite"),
        ("thesis", "saved_model", "exists already"),
    ],
)
def test_mistakes_are_named_and_nothing_is_touched(detector, tmp_path, name, format, message):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "taken.onnx").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExportError, match=message):
        bit_keras.export_detector(detector, tmp_path / name, format)
    if name == "thesis":
        with pytest.raises(ExportError, match="is no saved_model export"):
            bit_keras.export_detector(detector, tmp_path / name, format, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "taken.onnx").read_text() == "x"


def test_what_is_no_detector_is_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="is no detector; give one that bit-detect train made"):
        bit_keras.export_detector(tiny, tmp_path / "served")
    with pytest.raises(ValueError, match="there is no detector"):
        bit_keras.export_detector(tmp_path / "nowhere.keras", tmp_path / "served")
    assert [*tmp_path.iterdir()] == []


BOX, FAR = (10, 10, 110, 60), (200, 200, 250, 260)


@pytest.mark.parametrize(
    ("found", "matched"),
    [
        ([(0, BOX, 0.9), (1, FAR, 0.5)], 1),
        ([(1, FAR, 0.5), (0, BOX, 0.9)], 1),  # in another order
        ([(0, BOX, 0.9005), (1, FAR, 0.4995)], 1),
        ([(0, BOX, 0.902), (1, FAR, 0.5)], 2 / 4),  # another score
        ([(1, BOX, 0.9), (1, FAR, 0.5)], 2 / 4),  # another class
        ([(0, (10.2, 10, 110.2, 60), 0.9), (1, FAR, 0.5)], 1),  # an IoU of 0.996
        ([(0, (10.8, 10, 110.8, 60), 0.9), (1, FAR, 0.5)], 2 / 4),  # of 0.984
        ([(0, BOX, 0.9)], 2 / 3),
        ([(0, BOX, 0.9), (0, BOX, 0.9), (1, FAR, 0.5)], 4 / 5),  # one twice
        ([(0, BOX, 0.9), (1, FAR, 0.5), (2, BOX, 0.0505)], 1),  # one near the threshold
        ([(0, BOX, 0.9), (1, FAR, 0.5), (2, BOX, 0.06)], 4 / 5),
        ([], 0),
    ],
)
def test_agreement_of_hand_made_objects(found, matched):
    expected, found = detections_of([[(0, BOX, 0.9), (1, FAR, 0.5)]]), detections_of([found])
    for one, other in ((expected, found), (found, expected)):
        assert agreement(one, other, 0.05, 100).matched == pytest.approx(matched)


def test_agreement_counts_all_images_and_measures_what_matches():
    nothing = detections_of([[], []])
    assert agreement(nothing, nothing, 0.05, 100).matched == 1
    one = detections_of([[(0, BOX, 0.9)], [(1, FAR, 0.5)], []])
    other = detections_of([[(0, (10, 10, 110.25, 60), 0.9)], [(1, FAR, 0.5004)], []])
    alike = agreement(one, other, 0.05, 100)
    assert alike.matched == 1
    assert alike.score_difference == pytest.approx(4e-4, rel=1e-3)
    assert alike.corner_difference == pytest.approx(0.25)
    swapped = [one[1], one[0], one[2]]
    assert agreement(one, swapped, 0.05, 100).matched == 0
    # Where an image has the most that are kept, the last of them is decided by rounding.
    full = detections_of([[(0, BOX, 0.9), (1, FAR, 0.5)]])
    assert agreement(full, detections_of([[(0, BOX, 0.9), (2, FAR, 0.5)]]), 0.05, 2).matched == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["export", "--format=csv", "--output=x"],
            "--format must be saved_model or onnx here, got",
        ),
        (["export"], "say where to write the export: --output=PATH."),
        (["predict", "--format=onnx", "."], "--format must be table or json or csv here, got onnx"),
    ],
)
def test_the_command_answers_mistakes_in_a_sentence(arguments, sentence, tmp_path):
    done = typed(*arguments, "--model=runs/cells", cwd=tmp_path)
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert last.startswith(f"error: {sentence}")
    assert [*tmp_path.iterdir()] == []
