"""Masks drawn over images."""

import numpy as np
import PIL.Image
import pytest
from detections import (
    ellipse,
    rectangle,
)
from PIL import ImageColor
from pycocotools import mask as mask_tools

from bit_keras.reporting.boxes import box_color, draw_boxes

BOX = (100, 100, 200, 200)
LEFT_HALF = rectangle(100, 100, 150, 200)


def mixed(gray, k):
    """What half of a class's color makes of a gray."""
    return (gray + np.array(ImageColor.getrgb(box_color(k)))) // 2


def test_a_mask_has_its_color_where_it_is_and_nowhere_else():
    image = np.full((320, 480, 3), 128, np.uint8)
    given = image, np.array([BOX]), [2], [""]
    plain, drawn = draw_boxes(*given), draw_boxes(*given, masks=[LEFT_HALF])
    assert (drawn[105:195, 105:145] == mixed(128, 2)).all()
    outline = drawn[105:195, 149]
    assert (outline == ImageColor.getrgb(box_color(2))).all()
    np.testing.assert_array_equal(drawn[:, 150:], plain[:, 150:])
    np.testing.assert_array_equal(drawn[:, :95], plain[:, :95])
    np.testing.assert_array_equal(draw_boxes(*given, masks=[None]), plain)
    np.testing.assert_array_equal(draw_boxes(*given, masks=[rectangle(0, 0, 0, 0)]), plain)
    assert (image == 128).all()


@pytest.mark.parametrize("side", [17, 96, 480, 700, 1920])
def test_masks_are_scaled_with_their_images(side):
    image = np.full((320, 480, 3), 128, np.uint8)
    box = np.array([[77.0, 41, 271, 203]])
    mask = ellipse(box[0])
    drawn = draw_boxes(image, box, [0], [""], side=side, masks=[mask])
    plain = draw_boxes(image, box, [0], [""], side=side)
    changed = np.any(drawn != plain, axis=2)
    lines = np.any(plain != 128, axis=2)
    size = drawn.shape[1::-1]
    expected = PIL.Image.fromarray(255 * mask_tools.decode(mask)).resize(size)
    expected = (np.asarray(expected) >= 128) & ~lines
    assert np.mean(changed != expected) < 0.005
    assert changed.any() == expected.any()


@pytest.mark.parametrize("box", [(0, 0, 480, 320), (400, 300, 480, 320), (7, 7, 8, 8)])
def test_masks_at_the_edge_and_of_one_pixel_are_drawn(box):
    image = np.zeros((320, 480, 3), np.uint8)
    drawn = draw_boxes(image, np.zeros((1, 4)), [1], [""], masks=[rectangle(*box)])
    left, top, right, bottom = box
    painted = np.any(drawn[5:, 5:], axis=2)  # beside the lines of the box
    expected = np.zeros((320, 480), bool)
    expected[top:bottom, left:right] = True
    np.testing.assert_array_equal(painted, expected[5:, 5:])


def test_the_first_mask_lies_on_top():
    image = np.zeros((320, 480, 3), np.uint8)
    drawn = draw_boxes(image, np.array([BOX, BOX]), [1, 0], ["", ""], masks=[LEFT_HALF] * 2)
    np.testing.assert_array_equal(drawn[150, 120], mixed(mixed(0, 0), 1))
