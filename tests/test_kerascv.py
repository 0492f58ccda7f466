"""What is taken from KerasCV, against cases made by hand."""

import pathlib
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import bit_keras
from bit_keras.detection import RetinaNet
from bit_keras.detection.kerascv import (
    centers_and_sides,
    class_wise_nms,
    focal_losses,
    grid_anchors,
    pairwise_iou,
)


@pytest.fixture(params=["float32", "mixed_bfloat16"])
def policy(request):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    keras.mixed_precision.set_global_policy(before)


def test_anchors_are_exact_under_every_policy(policy):
    found = grid_anchors(
        *(16, 24, (10.3, 20)), scales=(1, 2), aspect_ratios=(1, 4), strides=(8, 16)
    )
    square, wide = np.array([5.15, 5.15]), np.array([10.3, 2.575])  # halves of (width, height)
    expected = [
        np.concatenate([center - half, center + half])
        for center in [(4, 4), (12, 4), (20, 4), (4, 12), (12, 12), (20, 12)]
        for half in (square, wide, 2 * square, 2 * wide)
    ]
    expected += [
        np.concatenate([center - half, center + half])
        for center in [np.array([8, 8]), np.array([24, 8])]  # the second is beyond the image
        for half in map(np.array, [(10, 10), (20, 5), (20, 20), (40, 10)])
    ]
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_iou_of_boxes_by_hand(policy):
    boxes = tf.constant([[[0, 0, 300.5, 100.0], [7, 7, 7, 9]]])
    others = tf.constant([[[0, 0, 300.25, 100.0], [150.25, 50, 450.75, 150], [400, 0, 500, 9]]])
    expected = [[[300.25 / 300.5, 0.25 / 1.75, 0], [0, 0, 0]]]
    np.testing.assert_allclose(pairwise_iou(boxes, others), expected, rtol=1e-6)


def test_centers_and_sides_by_hand(policy):
    center, side = centers_and_sides(tf.constant([[10, 20, 310.5, 24]]))
    np.testing.assert_array_equal(center, [[160.25, 22]])
    np.testing.assert_array_equal(side, [[300.5, 4]])


def test_the_focal_loss_is_its_formula_and_never_without_gradient(policy):
    """Written as in the paper, in float64; a wrong logit always has a slope of alpha_t."""
    logits = np.array([[-30, -9, -1, 0, 0.5, 4, 30]])
    for label, alpha in ((0, 0.75), (1, 0.25)):
        right = 1 / (1 + np.exp(-logits if label else logits))
        expected = -alpha * (1 - right) ** 2 * np.log(right)
        labels = tf.fill(logits.shape, float(label))
        x = tf.constant(logits, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = focal_losses(labels, x, 0.25, 2.0)
        np.testing.assert_allclose(found, expected.sum(axis=-1), rtol=1e-5)
        slopes = tape.gradient(found, x).numpy()[0]
        assert slopes[-1 if label == 0 else 0] == pytest.approx(alpha * (1 - 2 * label), rel=1e-5)
        assert np.isfinite(slopes).all()


def test_only_boxes_of_one_class_suppress_each_other(policy):
    boxes = tf.constant(
        [[[0, 0, 300, 100.25], [0, 0, 300, 90], [0, 0, 300, 49], [200, 0, 500, 100]]]
    )
    boxes = tf.concat([boxes, boxes], axis=0)
    scores = np.full((2, 4, 2), 0.01, "float32")
    scores[0, :, 0] = 0.9, 0.8, 0.7, 0.6  # the second is 0.9 of the first, the third 0.49
    scores[0, 1, 1] = 0.95
    logits = tf.constant(np.log(scores / (1 - scores)))
    options = {"score_threshold": 0.05, "iou_threshold": 0.5}
    found = class_wise_nms(boxes, logits, **options, max_boxes=6)
    assert found["classes"].numpy().tolist() == [[1, 0, 0, 0, -1, -1], [-1] * 6]
    np.testing.assert_allclose(found["scores"][0], [0.95, 0.9, 0.7, 0.6, 0, 0], rtol=1e-5)
    expected = np.zeros((2, 6, 4))
    expected[0, :4] = boxes.numpy()[0, [1, 0, 2, 3]]
    np.testing.assert_array_equal(found["boxes"], expected)
    few = class_wise_nms(boxes, logits, **options, max_boxes=2)
    assert few["classes"].numpy().tolist() == [[1, 0], [-1, -1]]


def test_kerascv_is_in_one_file_and_keras_core_nowhere(tiny):
    RetinaNet(tiny, 1)
    assert "keras_cv" in sys.modules
    assert "keras_core" not in sys.modules
    package = pathlib.Path(bit_keras.__file__).parent
    files = [
        f for f in package.rglob("*.py") if re.search(r"import keras_c|keras_cv\.", f.read_text())
    ]
    assert [file.name for file in files] == ["kerascv.py"]


def test_a_missing_kerascv_is_named_with_its_extra(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    with pytest.raises(ValueError, match=r'not installed; .* pip install "bit-keras\[detection\]"'):
        RetinaNet(tiny, 1)
