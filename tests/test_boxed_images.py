"""Boxed images: what they refuse, and parts of them."""

import dataclasses

import numpy as np
import pytest
from boxes import of_image, rectangles
from pictures import read_all

from bit_keras.data import DataError

FOUR = (
    [(0, 4, 8, 20, 24), (1, 30, 8, 40, 40)],
    [],
    [(2, 0, 0, 64, 48)],
    [(0, 1, 1, 9, 9), (0, 20, 20, 30, 30), (1, 40, 10, 60, 20)],
)


@pytest.fixture
def four():
    return rectangles(*FOUR, crowd=[False] * 5 + [True])


def test_what_is_not_given_has_a_default(four):
    assert (len(four), four.num_classes) == (4, 3)
    assert four.image_ids == (0, 1, 2, 3)
    assert four.category_ids.tolist() == [1, 2, 3]
    assert four.areas.tolist() == [256, 320, 64 * 48, 64, 100, 200]
    assert rectangles(*FOUR).crowd.tolist() == [False] * 6
    assert [len(of_image(four, i)) for i in range(4)] == [2, 0, 1, 3]


def test_boxes_are_cut_off_at_the_border(four):
    boxes = four.boxes.copy()
    boxes[0], boxes[2] = [-5, -6, 20, 24], [-1, 40, 70.5, 50]
    cut = dataclasses.replace(four, boxes=boxes, areas=None)
    assert cut.boxes[[0, 2]].tolist() == [[0, 0, 20, 24], [0, 40, 64, 48]]
    assert cut.areas[2] == 64 * 8
    assert boxes[0, 0] == -5


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([4, 8, np.nan, 24], "box 1 of image 3, which is not finite"),
        ([4, 8, np.inf, 24], "box 1 of image 3, which is not finite"),
        ([20, 8, 4, 24], r"corners in the wrong order, \[20, 8, 4, 24\]"),
        ([4, 8, 4, 24], "has no area"),
        ([64, 8, 70, 24], "lies outside its image of 64x48 pixels"),
        ([-9, -9, 0, -2], "lies outside its image"),
    ],
)
def test_boxes_that_are_none_are_refused(four, box, message):
    boxes = four.boxes.astype(float)
    boxes[4] = box
    with pytest.raises(DataError, match=f"^1 of 6 boxes of rectangles cannot .*{message}"):
        dataclasses.replace(four, boxes=boxes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": [0, 1, 2, 3, 0, 0]}, r"classes of rectangles must lie in 0 \.\. 2"),
        ({"classes": [0, 1, 2]}, r"classes of rectangles must be of shape \[6\]"),
        ({"classes": [0.0] * 6}, "must be integers"),
        ({"starts": [0, 2, 2, 3, 5]}, "must grow from 0 to its 6 boxes"),
        ({"starts": [0, 3, 2, 3, 6]}, "must grow"),
        ({"image_sizes": [[48, 64]] * 3}, r"starts .* of shape \[4\]"),
        ({"image_sizes": [[0, 64]] * 4}, "1 or more, got 0"),
        ({"image_sizes": np.zeros((0, 2), int)}, "holds no images"),
        ({"class_names": ()}, "holds no classes"),
        ({"class_names": ("a", "b", "a"), "category_ids": None}, "3 different class_names"),
        ({"image_ids": (1, 2, 3, 1)}, "4 different image_ids"),
        ({"category_ids": [1, 2]}, r"category_ids .* shape \[3\]"),
        ({"areas": [1.0, np.nan, 1, 1, 1, 1]}, "areas .* must be 0 or more"),
    ],
)
def test_fields_are_checked(four, fields, message):
    with pytest.raises(DataError, match=message):
        dataclasses.replace(four, **fields)


def test_a_subset_keeps_images_with_their_boxes(four):
    some = four.subset([3, 1, 0, 3], "some")
    for i, original in enumerate([3, 1, 0, 3]):
        assert of_image(some, i) == of_image(four, original)
        np.testing.assert_array_equal(read_all(some)[i], read_all(four)[original])
    assert (some.name, len({*some.image_ids})) == ("some", 4)
    assert four.subset([2, 1]).image_ids == (2, 1)
    descriptions = [s.description() for s in (four, some, four.subset([0, 1, 2, 3]))]
    assert len({d["fingerprint"] for d in descriptions}) == 3
    assert (descriptions[1]["num_images"], descriptions[1]["num_boxes"]) == (4, 8)


def test_a_split_leaves_every_class_to_train_on():
    images = rectangles(*[[(int(i == 7), 1, 1, 9, 9)] for i in range(20)])
    for seed in range(8):
        train, test = images.split(0.25, seed)
        assert (len(train), len(test)) == (15, 5)
        assert 1 in train.classes
        assert sorted(train.image_ids + test.image_ids) == [*range(20)]
    assert images.split(0.25, 1)[1].image_ids == images.split(0.25, 1)[1].image_ids
    assert images.split(0.25, 1)[1].image_ids != images.split(0.25, 2)[1].image_ids


def test_a_split_needs_images_to_spare():
    with pytest.raises(DataError, match="between 0 and 1"):
        rectangles(*FOUR).split(1.0)
    with pytest.raises(DataError, match="every image of rectangles is needed"):
        rectangles([(0, 1, 1, 9, 9)], [(1, 1, 1, 9, 9)]).split()
    with pytest.raises(DataError, match="1 image, and a split needs 2"):
        rectangles([]).split()
