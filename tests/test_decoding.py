import numpy as np
import pytest
import tensorflow as tf

from bit_keras.detection.anchors import anchors_of, encoded
from bit_keras.detection.decoding import detections

SIZES = (16, 32, 64, 128, 256)
ANCHORS = anchors_of(96, 64, SIZES)


def outputs(*objects, classes=3):
    """Of a detector that is sure of (box, class, score) and gives them to the nearest anchor."""
    boxes = np.zeros((1, len(ANCHORS), 4), "float32")
    logits = np.full((1, len(ANCHORS), classes), -9, "float32")
    for box, number, score in objects:
        box = np.array(box, "float32")
        place = np.abs(ANCHORS - box).sum(axis=1).argmin()
        boxes[0, place] = encoded(box[np.newaxis], ANCHORS[place : place + 1])
        logits[0, place, number] = np.log(score / (1 - score))
    return {"boxes": tf.constant(boxes), "classes": tf.constant(logits)}


def test_sure_boxes_are_found_best_first():
    objects = [((3, 4, 30, 40), 2, 0.6), ((20, 30, 60, 90), 0, 0.9), ((-5, 50, 20, 99), 2, 0.7)]
    found = detections(outputs(*objects), (96, 64), SIZES, max_boxes=5)
    assert found["classes"].numpy().tolist() == [[0, 2, 2, -1, -1]]
    np.testing.assert_allclose(found["scores"][0], [0.9, 0.7, 0.6, 0, 0], atol=1e-5)
    expected = [objects[n][0] for n in (1, 2, 0)] + [(0,) * 4] * 2
    np.testing.assert_allclose(found["boxes"][0], expected, atol=1e-4)
    few = detections(outputs(*objects), (96, 64), SIZES, max_boxes=5, score_threshold=0.65)
    assert few["classes"].numpy().tolist() == [[0, 2, -1, -1, -1]]


@pytest.mark.parametrize(("threshold", "number"), [(0.5, 1), (0.7, 2)])
def test_overlapping_boxes_of_a_class_are_one(threshold, number):
    objects = [((10, 10, 30, 30), 1, 0.9), ((10, 10, 30, 42), 1, 0.8)]  # of IoU 0.625
    for second, expected in ((1, number), (0, 2)):
        own = [objects[0], (objects[1][0], second, 0.8)]
        found = detections(outputs(*own), (96, 64), SIZES, iou_threshold=threshold)
        assert (found["classes"].numpy() >= 0).sum() == expected


def test_the_best_of_a_thousand_anchors_of_a_level_count():
    """Image of 256 x 256, whose P3 has 9,216 anchors."""
    size, rng = (256, 256), np.random.default_rng(0)
    anchors = anchors_of(*size, SIZES)
    random = {
        "boxes": tf.zeros((1, len(anchors), 4)),
        "classes": tf.constant(rng.normal(size=(1, len(anchors), 1)), tf.float32),
    }
    found = detections(random, size, SIZES, max_boxes=20, iou_threshold=0.99)
    best = np.sort(random["classes"].numpy().ravel())[::-1][:20]
    np.testing.assert_allclose(found["scores"][0], 1 / (1 + np.exp(-best)), rtol=1e-5)


def test_an_image_has_its_detections_whatever_batch_it_is_in():
    rng = np.random.default_rng(0)
    both = {
        "boxes": tf.constant(rng.normal(size=(8, len(ANCHORS), 4)), tf.float32),
        "classes": tf.constant(rng.normal(size=(8, len(ANCHORS), 3)) - 3, tf.float32),
    }
    whole = tf.function(lambda x: detections(x, (96, 64), SIZES))(both)
    for i in range(8):
        one = detections({k: v[i : i + 1] for k, v in both.items()}, (96, 64), SIZES)
        for name, value in one.items():
            np.testing.assert_array_equal(value[0], whole[name][i])
