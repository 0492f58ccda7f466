"""The network of a Mask R-CNN, and what it answers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from mask_detectors import SIZE, backbone, lively

import bit_keras
from bit_keras.detection import MaskRCNN, RetinaNet
from bit_keras.detection.feature_pyramid import FeaturePyramid
from bit_keras.detection.kerascv import pairwise_iou
from bit_keras.detection.mask_rcnn import training_model
from bit_keras.models.spec import ModelSpec, spec_of
from bit_keras.models.spec_files import read_spec


@pytest.fixture(scope="module")
def detector():
    """Tests must not train it."""
    return lively()


@pytest.fixture
def pictures():
    return np.random.default_rng(0).uniform(size=(4, SIZE, SIZE, 3)).astype("float32")


def test_detections_have_fixed_shapes(detector):
    for sides in ((64, 64), (32, 160)):
        found = detector(np.zeros((2, *sides, 3), "float32"))
        assert {name: (x.shape, x.dtype) for name, x in found.items()} == {
            "boxes": ((2, 100, 4), tf.float32),
            "scores": ((2, 100), tf.float32),
            "classes": ((2, 100), tf.int32),
            "masks": ((2, 100, 28, 28), tf.float32),
        }
    symbolic = detector(keras.Input((64, 64, 3), batch_size=2))
    assert symbolic["masks"].shape == (2, 100, 28, 28)
    with pytest.raises(ValueError, match="sides that are multiples of 32 pixels"):
        detector(np.zeros((1, 64, 72, 3), "float32"))


def test_detections_are_within_the_image_and_best_first(detector, pictures):
    found = {name: x.numpy() for name, x in detector(pictures).items()}
    there = found["classes"] >= 0
    assert there.any()
    assert np.all(np.diff(found["scores"], axis=1) <= 0)
    assert found["scores"][there].min() > 0.05
    assert found["boxes"].min() >= 0
    assert found["boxes"].max() <= SIZE
    assert 0 < found["masks"][there].min() < found["masks"][there].max() < 1
    assert not found["masks"][~there].any()
    for boxes, classes in zip(found["boxes"], found["classes"], strict=True):
        for k in range(3):
            overlap = pairwise_iou(*2 * (tf.constant(boxes[classes == k]),)).numpy()
            assert np.all(overlap - np.eye(len(overlap)) <= 0.5)


def test_an_image_has_its_detections_whatever_batch_it_is_in(detector, pictures):
    four = tf.function(detector)(pictures)
    for i in range(4):
        one = detector(pictures[i : i + 1])
        for name, value in one.items():
            np.testing.assert_allclose(value[0], four[name][i], atol=1e-3)


def test_parts_are_shared_or_new():
    body = backbone()
    body.get_layer("group_norm").gamma.assign(tf.range(512, dtype=tf.float32))
    first = RetinaNet(body, 3, size=96, channels=8)
    for given in (body, first):
        detector = MaskRCNN(given, 5, size=96, channels=8, masks=False)
        assert detector.get_layer("block1") is body.get_layer("block1")
        own = detector.get_layer("feature_pyramid").norms["P5"]
        np.testing.assert_array_equal(own.gamma, np.arange(512))
        assert {*detector.output} == {"boxes", "scores", "classes"}
    assert RetinaNet(detector, 2, channels=8).get_layer("block1") is body.get_layer("block1")


def test_the_facts_of_a_detector_tell_its_kind():
    spec = MaskRCNN("BiT-XS-R26x0.25", 5, size=96, channels=8).spec
    assert (spec.detector, spec.num_classes, spec.test_size) == ("mask_rcnn", 5, 96)
    assert spec.anchor_sizes == (8, 16, 32, 64, 128)
    boxes = MaskRCNN(backbone(), 5, anchor_sizes=[9, 18, 36, 72, 144], channels=8, masks=False)
    assert boxes.spec.detector == "faster_rcnn"
    assert boxes.spec.anchor_sizes == (9, 18, 36, 72, 144)
    assert spec.with_classes(9).detector is None
    retinanet = RetinaNet(backbone(), 5, channels=8).spec
    assert retinanet.detector == "retinanet"
    old = retinanet.to_json().replace('"detector": "retinanet", ', "")
    assert "detector" not in old
    assert ModelSpec.from_json(old) == retinanet
    assert ModelSpec().detector is None


def test_pyramids_of_both_detectors_and_of_older_files():
    """Files that older versions wrote tell no finest level."""
    maps = {f"P{n}": tf.ones((1, 128 // 2**n, 96 // 2**n, 8 * n)) for n in range(2, 6)}
    layer = FeaturePyramid(8, 4, "P2")
    found = layer(maps)
    assert {level: (*x.shape[1:3],) for level, x in found.items()} == {
        "P2": (32, 24),
        "P3": (16, 12),
        "P4": (8, 6),
        "P5": (4, 3),
        "P6": (2, 2),
    }
    np.testing.assert_array_equal(found["P6"], found["P5"][:, ::2, ::2])
    config = FeaturePyramid(8, 4).get_config()
    del config["finest"]
    del maps["P2"]
    assert [*FeaturePyramid.from_config(config)(maps)] == ["P3", "P4", "P5", "P6", "P7"]


@pytest.mark.parametrize("masks", [True, False])
def test_keras_files_are_the_same_detector(pictures, tmp_path, masks):
    detector = lively(masks=masks)
    training_model(detector)  # must leave no trace in the file
    expected = detector(pictures)
    detector.save(tmp_path / "detector.keras")
    for twin in (
        keras.saving.load_model(tmp_path / "detector.keras"),
        bit_keras.load(tmp_path / "detector.keras"),
    ):
        assert twin.spec == detector.spec == read_spec(tmp_path / "detector.keras") == spec_of(twin)
        assert [v.path for v in twin.variables] == [v.path for v in detector.variables]
        for name, value in twin(pictures).items():
            np.testing.assert_array_equal(value, expected[name])
    assert len(training_model(twin).variables) == len(twin.variables)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be 1 or more, got 0"),
        ({"size": 100}, "multiples of 32 pixels, got 100 x 100"),
        ({"channels": 12}, "channels must be a multiple of 8, got 12"),
        (
            {"anchor_sizes": [16, 32]},
            r"must be 5 numbers above 0, of P2, .*got \(16, 32\)",
        ),
        ({"model": "BiT-XSX"}, "expected|did you mean"),
        ({"model": bit_keras.ResNetV2((1, 1), 0.25, 0)}, "levels must be some of P1, P2, P3"),
    ],
)
def test_mistakes_are_named(tiny, arguments, message):
    arguments = {"model": tiny, "num_classes": 3, **arguments}
    with pytest.raises(ValueError, match=message):
        MaskRCNN(arguments.pop("model"), arguments.pop("num_classes"), **arguments)
