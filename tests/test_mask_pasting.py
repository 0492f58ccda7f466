"""Masks of detections in their images."""

import contextlib
import io
import time

import numpy as np
import pytest
import tensorflow as tf
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.ndimage import map_coordinates

from bit_keras.detection.mask_pasting import pasted_masks
from bit_keras.detection.roi_targets import mask_targets


def pixels(masks, boxes, size):
    """bool [D, height, width]."""
    found = pasted_masks(np.float32(masks), np.float32(boxes), size)
    assert all(one["size"] == [*size] and isinstance(one["counts"], bytes) for one in found)
    return np.stack([coco_masks.decode(one) for one in found]).astype(bool)


def reference(mask, box, size):
    """Every pixel of the image by scipy's bilinear interpolation, with 0 around the mask."""
    left, top, right, bottom = box
    y = (np.arange(size[0]) + 0.5 - top) / (bottom - top) * mask.shape[0] - 0.5
    x = (np.arange(size[1]) + 0.5 - left) / (right - left) * mask.shape[1] - 0.5
    places = np.meshgrid(y, x, indexing="ij")
    return map_coordinates(mask, places, order=1, mode="grid-constant")


def test_probabilities_are_interpolated_at_the_centers_of_pixels():
    rng, size = np.random.default_rng(0), (60, 90)
    corners = rng.uniform((-15, -15), (80, 50), (30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(2, 70, (30, 2))], axis=1)
    masks = rng.uniform(size=(30, 28, 28)).astype("float32")
    found = pixels(masks, boxes, size)
    for mask, box, own in zip(masks, boxes.astype("float32"), found, strict=True):
        expected = reference(mask, box, size)
        clear = np.abs(expected - 0.5) > 1e-4
        np.testing.assert_array_equal(own[clear], expected[clear] > 0.5)
    assert 0.02 < found.mean() < 0.5


def test_a_full_mask_is_its_box():
    boxes = [[3, 5, 40, 20], [0, 0, 64, 48], [-10, 40, 5, 60], [7.4, 7.6, 8.6, 9.4]]
    found = pixels(np.ones((4, 28, 28)), boxes, (48, 64))
    for own, (left, top, right, bottom) in zip(found, boxes, strict=True):
        expected = np.zeros((48, 64), bool)
        left, top, right, bottom = np.rint([max(left, 0), max(top, 0), right, bottom]).astype(int)
        expected[top:bottom, left:right] = True
        np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize(
    "box", [[5, 5, 5, 9], [0, 0, 0, 0], [-30, 2, -10, 9], [70, 2, 90, 9], [1.6, 1.6, 2.4, 2.4]]
)
def test_boxes_without_the_center_of_a_pixel_cover_nothing(box):
    assert not pixels(np.ones((1, 28, 28)), [box], (48, 64)).any()


def test_no_detections_have_no_masks():
    assert pasted_masks(np.zeros((0, 28, 28)), np.zeros((0, 4)), (48, 64)) == []


def shapes(size):
    """Disks, triangles, rings and crosses of an image, bool [N, height, width]."""
    y, x = np.mgrid[:size, :size] + 0.5
    found = []
    for n, (center, row, radius) in enumerate([(40, 45, 30), (130, 50, 40), (60, 140, 45)]):
        across, down = np.abs(x - center), y - row
        away = np.hypot(across, down)
        square = np.maximum(across, np.abs(down)) < radius
        found.append(away < radius)
        found.append(square & (2 * across < down + radius))
        found.append((away < radius) & (away > radius / 2))
        found.append(square & (np.minimum(across, np.abs(down)) < radius / (3 + n)))
    return np.stack(found)


def test_perfect_masks_of_boxes_have_nearly_the_highest_precision():
    """The shapes as the model is taught them, 0 or 1 at 28x28 places, pasted back again."""
    size = 192
    objects = shapes(size)
    boxes = np.array(
        [
            [x.min(), y.min(), x.max() + 1, y.max() + 1]
            for y, x in (np.nonzero(one) for one in objects)
        ],
        "float32",
    )
    cells = []
    for one, box in zip(objects, boxes, strict=True):
        left, top, right, bottom = box.astype(int)
        own = tf.cast(one[top:bottom, left:right, np.newaxis], tf.float32)
        cells.append(np.rint(255 * tf.image.resize(own, (112, 112)).numpy()[..., 0]))
    labels = {"masks": tf.constant(np.uint8(cells)[None]), "frames": tf.constant(boxes[None])}
    targets = mask_targets(labels["frames"], tf.range(len(boxes))[None], labels)
    found = pasted_masks(targets[0].numpy(), boxes, (size, size))
    coco = {"images": [{"id": 1, "height": size, "width": size}], "categories": [{"id": 1}]}
    coco["annotations"] = [
        {
            "id": n,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "area": int(one.sum()),
            "bbox": [0, 0, 1, 1],
            "segmentation": coco_masks.encode(np.asfortranarray(one)),
        }
        for n, one in enumerate(objects.astype(np.uint8), 1)
    ]
    answers = [
        {"image_id": 1, "category_id": 1, "score": 0.9, "segmentation": one} for one in found
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(answers), "segm")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert judge.stats[0] >= 0.95


def test_a_hundred_large_objects_take_seconds_at_most():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 500, (100, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(100, 500, (100, 2))], axis=1)
    masks = rng.uniform(size=(100, 28, 28)).astype("float32")
    start = time.perf_counter()
    assert len(pasted_masks(masks, boxes, (1024, 1024))) == 100
    assert time.perf_counter() - start < 10
