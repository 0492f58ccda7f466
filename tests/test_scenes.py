"""Drawn scenes: exact boxes, and functions of (seed, index)."""

import numpy as np
import pytest
from pictures import read_all

from bit_keras import data
from bit_keras.data import DataError


def test_boxes_are_the_smallest_around_their_masks():
    for index in range(40):
        drawn = data.scene(index)
        assert drawn.image.shape == (128, 128, 3)
        assert 1 <= len(drawn.boxes) == len(drawn.classes) == len(drawn.masks) <= 6
        for box, mask in zip(drawn.boxes, drawn.masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert drawn.masks.sum(0).max() == 1  # no object hides another


def test_objects_stand_out_from_what_is_behind_them():
    contrasts = []
    for index in range(20):
        drawn = data.scene(index)
        gray = drawn.image.mean(-1)
        behind = ~drawn.masks.any(0)
        for (left, top, right, bottom), mask in zip(
            drawn.boxes.astype(int), drawn.masks, strict=True
        ):
            around = np.zeros_like(mask)
            around[top:bottom, left:right] = True
            if np.any(around & behind):
                contrasts.append(abs(gray[mask].mean() - gray[around & behind].mean()))
    assert min(contrasts) > 25


def test_a_scene_is_a_function_of_seed_and_index():
    for one, other in ((data.scene(5), data.scene(5)), (data.scene(5), data.scene(5, seed=0))):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)
    images = [data.scene(i, seed=s).image for s, i in ((0, 5), (1, 5), (0, 6), (0, 2**31 + 5))]
    assert len({image.tobytes() for image in images}) == 4


def test_a_set_of_scenes_has_them_in_order():
    train, test = data.scenes(30, num_test=6, size=64, seed=3)
    assert (len(train), len(test), train.num_classes) == (30, 6, 14)
    assert {*range(14)} == {*train.classes.tolist()}
    for images, first in ((train, 0), (test, 2**31)):
        for i, image in enumerate(read_all(images)[:6]):
            drawn = data.scene(first + i, size=64, seed=3)
            rows = slice(images.starts[i], images.starts[i + 1])
            np.testing.assert_array_equal(image, drawn.image)
            np.testing.assert_array_equal(images.boxes[rows], drawn.boxes)
            np.testing.assert_array_equal(images.classes[rows], drawn.classes)
    fewer, same_test = data.scenes(20, num_test=6, size=64, seed=3)
    np.testing.assert_array_equal(fewer.boxes, train.boxes[: train.starts[20]])
    assert same_test.description() == test.description()
    assert fewer.description()["fingerprint"] != train.description()["fingerprint"]
    assert "flip" not in train.augmentations


def test_wrong_numbers_are_refused():
    for options in ({"num_images": 0}, {"num_test": 0}, {"size": 16}, {"seed": -1}):
        with pytest.raises(DataError, match="scenes"):
            data.scenes(**options)
