"""Batches for detection: boxes move with their pixels; a batch is a function of (seed, step)."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from boxes import COLORS, rectangles

from bit_keras import data
from bit_keras.data import DataError

IMAGES = rectangles(
    [(0, 4, 8, 20, 24), (1, 30, 8, 42, 40)],
    [(2, 10, 4, 50, 14)],
    [],
    [(1, 2, 2, 12, 12), (0, 24, 20, 40, 36), (2, 50, 30, 63, 47)],
)
SQUARE = {"batch": 4, "size": 96, "seed": 3}


def elements(dataset, count):
    return [tf.nest.map_structure(np.asarray, element) for element in dataset.take(count)]


def extent(image, label):
    """The box around the pixels of a class's color, [left, top, right, bottom]; None without."""
    color = COLORS[label] / 255
    covered = np.abs(image - color).max(-1) < 0.5
    if not covered.any():
        return None
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def check_boxes(image, targets):
    """Asserts that boxes are where their pixels are, and that no other object is seen in full."""
    assert image.min() >= 0
    assert image.max() <= 1
    present = targets["classes"] >= 0
    assert np.all(np.diff(present.astype(int)) <= 0)
    assert not targets["boxes"][~present].any()
    for box, label in zip(targets["boxes"][present], targets["classes"][present], strict=True):
        seen = extent(image, label)
        if seen is None:  # a strip of less than a pixel's half
            assert (box[2:] - box[:2]).min() < 2
        else:
            np.testing.assert_allclose(box, seen, atol=1)
    for label in {0, 1, 2} - {*targets["classes"].tolist()}:
        seen = extent(image, label)
        assert seen is None or 0 in seen or image.shape[0] in seen


def test_boxes_without_random_changes_are_exact():
    images = dataclasses.replace(IMAGES, augmentations=frozenset())
    ((batch, targets),) = elements(
        data.detection_batches(images, batch=32, size=128, seed=0, scale_jitter=(1, 1)), 1
    )
    assert batch.shape == (32, 128, 128, 3)
    assert (batch.dtype, targets["boxes"].dtype) == (np.float32, np.float32)
    assert (targets["boxes"].shape, targets["classes"].shape) == ((32, 3, 4), (32, 3))
    tops = set()
    for image, boxes, classes in zip(batch, targets["boxes"], targets["classes"], strict=True):
        for box, label in zip(boxes[classes >= 0], classes[classes >= 0], strict=True):
            # Twice as large, and moved down by whole pixels: 48 rows become 96 of 128.
            np.testing.assert_array_equal(box, extent(image, label))
            original = IMAGES.boxes[IMAGES.classes == label]
            moved = box - 2 * original
            assert np.any(np.all(moved[:, [0, 2]] == 0, 1) & (moved[:, 1] == moved[:, 3]))
        tops.add(int(np.flatnonzero((image != 0.5).any((1, 2)))[0]))
        assert (image == 0.5).all((1, 2)).sum() == 32
    assert len(tops) > 5
    assert tops <= {*range(33)}


def test_half_of_the_images_are_mirrored_with_their_boxes():
    ((batch, targets),) = elements(
        data.detection_batches(IMAGES, batch=64, size=64, seed=1, scale_jitter=(1, 1)), 1
    )
    mirrored = []
    for image, boxes, classes in zip(batch, targets["boxes"], targets["classes"], strict=True):
        for box, label in zip(boxes[classes >= 0], classes[classes >= 0], strict=True):
            np.testing.assert_array_equal(box, extent(image, label))
        if np.array_equal(classes, [2, -1, -1]):
            mirrored.append(boxes[0, 0] == 14)
            assert boxes[0, 0] in (10, 14)
    assert 3 <= sum(mirrored) <= len(mirrored) - 3


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_boxes_follow_any_scale_and_crop(fit):
    for jitter in ((0.8, 1.25), (0.3, 0.5), (2, 3)):
        for batch, targets in elements(
            data.detection_batches(IMAGES, **SQUARE, scale_jitter=jitter, fit=fit), 8
        ):
            for i, image in enumerate(batch):
                check_boxes(image, {key: part[i] for key, part in targets.items()})


def test_scales_are_spread_as_their_logarithms():
    images = rectangles([(0, 0, 0, 64, 48)])
    options = {"batch": 200, "size": 64, "seed": 0, "scale_jitter": (0.5, 1)}
    ((_, targets),) = elements(data.detection_batches(images, **options), 1)
    scales = (targets["boxes"][:, 0, 2] - targets["boxes"][:, 0, 0]) / 64
    assert (scales.min() > 0.49) & (scales.max() <= 1)
    assert abs(np.log2(scales).mean() + 0.5) < 0.06


def test_boxes_with_too_little_left_are_dropped():
    # Three halves as large, red has 81 x 72 pixels and green 15 x 72; 32 x 32 are cut out.
    images = rectangles([(0, 0, 0, 54, 48), (1, 54, 0, 64, 48)], augmentations=frozenset())
    areas = np.array([81 * 72, 15 * 72])
    shares, dropped = {0: [], 1: []}, 0
    for batch, targets in elements(
        data.detection_batches(images, batch=64, size=32, seed=0, scale_jitter=(3, 3)), 4
    ):
        for image, boxes, classes in zip(batch, targets["boxes"], targets["classes"], strict=True):
            for box, label in zip(boxes, classes, strict=True):
                if label >= 0:
                    shares[int(label)].append((box[2:] - box[:2]).prod() / areas[label])
            dropped += sum(
                extent(image, label) is not None and label not in classes for label in (0, 1)
            )
    assert 0.1 <= min(shares[0]) < 0.105
    assert 0.1 <= min(shares[1]) < 0.12
    assert dropped > 5
    tiny = rectangles([(0, 10, 10, 11, 40), (1, 20, 10, 24, 40)])
    ((_, targets),) = elements(
        data.detection_batches(tiny, batch=4, size=32, seed=0, scale_jitter=(1, 1)), 1
    )
    assert targets["classes"].tolist() == [[1, -1]] * 4  # half a pixel is not one


def test_crowds_are_not_trained_on():
    images = dataclasses.replace(IMAGES, crowd=[True, False, False, True, False, True])
    ((_, targets),) = elements(
        data.detection_batches(images, batch=16, size=64, seed=0, scale_jitter=(1, 1)), 1
    )
    assert targets["boxes"].shape == (16, 1, 4)
    assert {*targets["classes"].ravel().tolist()} == {-1, 0, 1, 2}
    boxes = targets["boxes"][targets["classes"] == 0]
    assert np.all(boxes[:, 2] - boxes[:, 0] == 16)
    assert np.all(np.isin(boxes[:, 0], (24, 64 - 40)))


def test_a_batch_is_a_function_of_seed_and_step():
    whole = elements(data.detection_batches(IMAGES, **SQUARE), 5)
    for start in (1, 4):
        resumed = elements(data.detection_batches(IMAGES, **SQUARE, start_step=start), 1)
        tf.nest.map_structure(np.testing.assert_array_equal, resumed[0], whole[start])
    halves = [elements(data.detection_batches(IMAGES, **SQUARE, part=(k, 2)), 2) for k in (0, 1)]
    for step in (0, 1):
        joined = tf.nest.map_structure(lambda *x: np.concatenate(x), *(h[step] for h in halves))
        tf.nest.map_structure(np.testing.assert_array_equal, joined, whole[step])
    other = elements(data.detection_batches(IMAGES, **(SQUARE | {"seed": 4})), 1)
    assert not np.array_equal(other[0][0], whole[0][0])
    assert not np.array_equal(whole[0][0], whole[1][0])


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("size", [32, 50, 128])
def test_test_batches_lead_back_to_the_original_boxes(fit, size):
    batches = elements(data.detection_test_batches(IMAGES, batch=3, size=size, fit=fit), 9)
    assert [len(images) for images, _ in batches] == [3, 1]
    images = np.concatenate([images for images, _ in batches])
    scales = np.concatenate([targets["scale"] for _, targets in batches])
    first = slice(IMAGES.starts[3], IMAGES.starts[4])
    boxes = IMAGES.boxes[first] * np.tile(scales[3], 2)
    for box, label in zip(boxes, IMAGES.classes[first], strict=True):
        np.testing.assert_allclose(box, extent(images[3], label), atol=1)
    back = data.original_boxes(boxes[np.newaxis], IMAGES.image_sizes[3:], size, fit)
    np.testing.assert_allclose(back[0], IMAGES.boxes[first], atol=1e-4)
    gray = (images[3] == 0.5).all((1, 2))
    assert gray.sum() == (size - round(size * 0.75) if fit == "letterbox" else 0)
    assert not gray[: round(size * 0.7)].any()  # below the image


def test_an_image_is_fitted_as_in_a_batch():
    ((batch, targets),) = elements(data.detection_test_batches(IMAGES, batch=4, size=80), 1)
    image, scale = data.fitted(IMAGES.read(tf.constant(3, tf.int64)), 80)
    np.testing.assert_array_equal(image, batch[3])
    np.testing.assert_array_equal(scale, targets["scale"][3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 16}, "below 32 pixels cannot be used, got size=16"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"start_step": -1}, "start_step must be 0 or more"),
        ({"scale_jitter": (1.25, 0.8)}, "two positive numbers, the smaller one first"),
        ({"scale_jitter": (0, 1)}, "two positive numbers"),
        ({"scale_jitter": (1, np.nan)}, "two positive numbers"),
        ({"fit": "crop"}, "fit must be 'letterbox' or 'stretch', got 'crop'"),
        ({"part": (0, 3)}, "3 workers must divide the batch"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        data.detection_batches(IMAGES, **(SQUARE | options))
