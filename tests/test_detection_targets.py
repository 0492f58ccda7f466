import numpy as np
import pytest
import tensorflow as tf

from bit_keras.detection.anchors import anchors_of, encoded
from bit_keras.detection.kerascv import pairwise_iou
from bit_keras.detection.targets import detection_targets

SIZES = (16, 32, 64, 128, 256)
ANCHORS = anchors_of(96, 96, SIZES)


def targets(*objects, padded_to=None):
    """Of images that each hold a list of (box, class)."""
    most = padded_to or max(map(len, objects))
    boxes = np.zeros((len(objects), most, 4), "float32")
    classes = np.full((len(objects), most), -1, "int32")
    for i, own in enumerate(objects):
        for n, (box, number) in enumerate(own):
            boxes[i, n], classes[i, n] = box, number
    labels = {"boxes": tf.constant(boxes), "classes": tf.constant(classes)}
    images = tf.zeros((len(objects), 96, 96, 3))
    found = tf.function(detection_targets)(images, labels, anchor_sizes=SIZES)
    assert found["boxes"].dtype == tf.float32
    assert found["classes"].dtype == tf.int32
    assert np.isfinite(found["boxes"]).all()
    return {name: value.numpy() for name, value in found.items()}


def test_thresholds_of_overlap_decide():
    boxes = np.array([[20, 20, 60, 50], [50, 40, 90, 90]], "float32")
    found = targets([(boxes[0], 3), (boxes[1], 0)], padded_to=5)
    overlap = pairwise_iou(ANCHORS, boxes).numpy()
    most, owner = overlap.max(axis=1), overlap.argmax(axis=1)
    expected = np.where(most >= 0.5, np.array([3, 0])[owner], np.where(most >= 0.4, -2, -1))
    assert {*expected} == {-2, -1, 0, 3}
    np.testing.assert_array_equal(found["classes"][0], expected)
    positive = expected >= 0
    codes = encoded(boxes[owner], ANCHORS).numpy()
    np.testing.assert_allclose(found["boxes"][0][positive], codes[positive], rtol=1e-5, atol=1e-6)
    assert not found["boxes"][0][~positive].any()


@pytest.mark.parametrize("box", [(41, 43, 44, 45), (0, 0, 96, 3), (90, 90, 96, 96)])
def test_every_object_has_its_best_anchor(box):
    overlap = pairwise_iou(ANCHORS, tf.constant([box], tf.float32)).numpy()[:, 0]
    assert overlap.max() < 0.4
    found = targets([(box, 2)])
    (positive,) = np.nonzero(found["classes"][0] == 2)
    assert positive.tolist() == [overlap.argmax()]


def test_objects_that_compete_for_an_anchor():
    """It belongs to the one it overlaps more, in either order; the other has the anchors it won."""
    better, worse = (12, 12, 20, 20), (12, 12, 20, 19)
    best = pairwise_iou(ANCHORS, tf.constant([better, worse], tf.float32)).numpy().argmax(axis=0)
    assert best[0] == best[1]
    for order in ([(better, 1), (worse, 2)], [(worse, 2), (better, 1)]):
        assert targets(order)["classes"][0][best[0]] == 1


def test_an_anchor_is_forced_away_from_an_object_that_has_others():
    """An object inside another one, best of all anchors for it, is of the former."""
    large, small = (10, 10, 74, 74), (30, 32, 42, 45)
    overlap = pairwise_iou(ANCHORS, tf.constant([large, small], tf.float32)).numpy()
    found = targets([(large, 0), (small, 1)])["classes"][0]
    assert found[overlap[:, 1].argmax()] == 1
    assert (found == 0).sum() >= (overlap[:, 0] >= 0.5).sum() - 1


def test_images_without_objects_have_background_only():
    found = targets([], [((20, 20, 60, 50), 0)], padded_to=3)
    assert {*found["classes"][0]} == {-1}
    assert not found["boxes"][0].any()
    assert {*found["classes"][1]} == {-2, -1, 0}
    assert {*targets([], padded_to=1)["classes"][0]} == {-1}


def test_boxes_without_area_or_far_outside_are_found_by_none():
    found = targets([((20, 20, 20, 50), 0), ((500, 500, 600, 600), 1)])
    assert {*found["classes"][0]} == {-1}


def test_an_image_has_its_targets_whatever_batch_it_is_in():
    one, two = [((20, 20, 60, 50), 0)], [((5, 5, 25, 30), 1), ((50, 40, 90, 90), 0)]
    both = targets(one, two)
    for i, own in enumerate((one, two)):
        alone = targets(own)
        for name in both:
            np.testing.assert_array_equal(both[name][i], alone[name][0])
