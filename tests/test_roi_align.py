"""RoIAlign, against a reference that goes sample by sample."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bit_keras.detection.roi_align import RoIAlign, aligned, roi_align

LEVELS = ("P2", "P3", "P4", "P5")


def sample(plane, y, x):
    """Detectron2's bilinear interpolation of a map [height, width, C], with `aligned=True`."""
    height, width, channels = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(channels)
    y, x = max(y, 0), max(x, 0)
    top, left = int(y), int(x)
    if top >= height - 1:
        y = top = height - 1
    if left >= width - 1:
        x = left = width - 1
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = y - top, x - left
    return (
        (1 - down) * ((1 - along) * plane[top, left] + along * plane[top, right])
        + down * (1 - along) * plane[bottom, left]
        + down * along * plane[bottom, right]
    )


def reference(maps, boxes, size, anchor_size):
    found = np.zeros((*boxes.shape[:2], size, size, maps["P2"].shape[-1]))
    for image, row in np.ndindex(*boxes.shape[:2]):
        left, top, right, bottom = boxes[image, row].astype(float)
        side = np.sqrt((right - left) * (bottom - top))
        level = int(np.clip(np.floor(np.log2(max(side, 1e-9) / (1.75 * anchor_size))), 0, 3))
        stride = 2 ** (level + 2)
        for i, j in np.ndindex(size, size):
            for k, n in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
                y = (top + (i + k) / size * (bottom - top)) / stride - 0.5
                x = (left + (j + n) / size * (right - left)) / stride - 0.5
                found[image, row, i, j] += sample(maps[f"P{level + 2}"][image], y, x) / 4
    return found


@pytest.fixture
def maps():
    """Of images of 64 x 96 pixels."""
    rng = np.random.default_rng(0)
    return {
        level: rng.normal(size=(2, 64 // 2**n, 96 // 2**n, 3)).astype("float32")
        for n, level in enumerate(LEVELS, 2)
    }


@pytest.fixture
def boxes():
    """All over the image, over its borders and beyond; thin ones, one of no area."""
    rng = np.random.default_rng(1)
    corners = rng.uniform((-20, -20), (100, 70), (2, 20, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.5, 80, (2, 20, 2))], axis=-1)
    boxes[:, 0] = 0, 0, 96, 64
    boxes[:, 1] = 0
    boxes[:, 2] = 90, 60, 96, 64
    boxes[:, 3] = 0, 0, 1, 64
    return boxes.astype("float32")


@pytest.mark.parametrize("size", [1, 7])
def test_it_is_the_mean_of_interpolated_samples(maps, boxes, size):
    expected = reference(maps, boxes, size, 4.0)
    tensors = tf.nest.map_structure(tf.constant, maps)
    for function in (roi_align, tf.function(roi_align)):
        found = function(tensors, tf.constant(boxes), size, 4.0)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_large_boxes_are_on_coarse_levels():
    maps = {
        level: tf.fill((1, 1024 // 2**n, 1024 // 2**n, 1), float(n))
        for n, level in enumerate(LEVELS, 2)
    }
    sides = np.array([0, 1, 111.9, 112, 223.9, 224, 447, 448, 512])
    boxes = np.stack([0 * sides, 0 * sides, 2 * sides, sides / 2], axis=-1)[np.newaxis]
    for factor in (1, 0.25):
        found = roi_align(maps, tf.constant(factor * boxes, tf.float32), 1, 32 * factor)
        assert found.numpy().ravel().tolist() == [2, 2, 2, 3, 3, 4, 4, 5, 5]


def test_a_slope_is_followed_exactly():
    """Features that grow by their place: every bin has the place of its center, in pixels."""
    maps = {}
    for n, level in enumerate(LEVELS, 2):
        centers = (np.arange(128 // 2**n) + 0.5) * 2**n
        maps[level] = tf.constant(np.stack(np.meshgrid(centers, centers), -1)[None], tf.float32)
    boxes = tf.constant([[[20.0, 30, 75, 99], [41, 43, 50, 47]]])
    found = roi_align(maps, boxes, 5, 8)
    for row, (left, top, right, bottom) in enumerate(boxes[0].numpy()):
        steps = (np.arange(5) + 0.5) / 5
        centers = left + (right - left) * steps, top + (bottom - top) * steps
        np.testing.assert_allclose(found[0, row], np.stack(np.meshgrid(*centers), -1), atol=1e-4)


def test_gradients_are_those_of_differences(maps, boxes):
    tensors = tf.nest.map_structure(tf.constant, maps)
    rng = np.random.default_rng(2)
    directions = {level: rng.normal(size=x.shape).astype("float32") for level, x in maps.items()}
    weights = tf.constant(rng.normal(size=(2, 20, 3, 3, 3)), tf.float32)

    @tf.function
    def slopes(tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            total = tf.reduce_sum(roi_align(tensors, tf.constant(boxes), 3, 4.0) * weights)
        return tape.gradient(total, tensors)

    found = slopes(tensors)
    assert all(np.isfinite(x).all() and np.any(x) for x in found.values())
    along = sum(float(tf.reduce_sum(found[level] * directions[level])) for level in LEVELS)
    # It is linear in the maps, so the difference along a direction is exact.
    moved = reference(directions, boxes, 3, 4.0)
    assert along == pytest.approx(np.sum(moved * weights.numpy()), rel=1e-4)


def test_boxes_have_no_gradient(maps, boxes):
    boxes = tf.constant(boxes)
    with tf.GradientTape() as tape:
        tape.watch(boxes)
        total = tf.reduce_sum(roi_align(tf.nest.map_structure(tf.constant, maps), boxes, 3, 4.0))
    assert tape.gradient(total, boxes) is None


def test_whole_numbers_are_interpolated_as_real_ones():
    rows = tf.constant([[0], [255], [100], [200]], tf.uint8)
    found = aligned(
        rows, tf.constant([0]), tf.constant([[2, 2]]), tf.constant([[0.5, 0, 1.5, 2]]), 1
    )
    assert found.dtype == tf.float32
    assert found.numpy().item() == pytest.approx((0 + 255 + 100 + 200) / 4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_boxes_are_not_rounded_under_a_mixed_policy(maps, boxes, policy):
    layer = RoIAlign(3, 4.0, dtype=policy)
    features = {level: tf.cast(x, layer.compute_dtype) for level, x in maps.items()}
    found = layer(features, tf.constant(boxes))
    assert found.dtype == layer.compute_dtype
    rounded = {level: tf.cast(x, tf.float32).numpy() for level, x in features.items()}
    np.testing.assert_allclose(
        tf.cast(found, tf.float32), reference(rounded, boxes, 3, 4.0), atol=0.02
    )
    twin = RoIAlign.from_config(layer.get_config())
    symbolic = twin(
        {
            level: keras.KerasTensor((None, *x.shape[1:]), layer.compute_dtype)
            for level, x in maps.items()
        },
        keras.KerasTensor((None, 20, 4)),
    )
    assert symbolic.shape == (None, 20, 3, 3, 3)
