import numpy as np
import tensorflow as tf

from bit_keras.detection.anchors import encoded
from bit_keras.detection.second_stage import FoundBoxes, OwnMasks, region_detections

SIZE = (64, 96)  # height and width


def stage(*regions, classes=3):
    """Of regions (box of the proposal, {class: (box, score)}); all else is background."""
    rois = np.zeros((1, len(regions), 4), "float32")
    boxes = np.zeros((1, len(regions), classes, 4), "float32")
    scores = np.full((1, len(regions), classes + 1), 1e-9, "float32")
    for i, (roi, own) in enumerate(regions):
        rois[0, i] = roi
        for k, (box, score) in own.items():
            boxes[0, i, k] = encoded(np.array([box], "float32"), rois[0, i : i + 1])[0]
            scores[0, i, k] = score
        scores[0, i, -1] = 1 - scores[0, i, :-1].sum()
    outputs = {"classes": tf.constant(np.log(scores)), "boxes": tf.constant(boxes)}
    return outputs, {"boxes": tf.constant(rois), "scores": tf.fill((1, len(regions)), 0.5)}


def test_every_class_has_a_box_of_its_own():
    given = stage(
        ([10, 10, 30, 30], {0: ([12, 9, 33, 28], 0.5), 2: ([8, 10, 30, 40], 0.3)}),
        ([50, 20, 80, 60], {1: ([48, 22, 110, 70], 0.9), 0: ([50, 20, 80, 60], 0.04)}),
    )
    found = region_detections(*given, SIZE, max_boxes=5)
    assert found["classes"].numpy().tolist() == [[1, 0, 2, -1, -1]]
    np.testing.assert_allclose(found["scores"][0], [0.9, 0.5, 0.3, 0, 0], atol=1e-5)
    expected = [[48, 22, 96, 64], [12, 9, 33, 28], [8, 10, 30, 40], [0] * 4, [0] * 4]
    np.testing.assert_allclose(found["boxes"][0], expected, atol=1e-4)
    few = region_detections(*given, SIZE, max_boxes=5, score_threshold=0.4)
    assert few["classes"].numpy().tolist() == [[1, 0, -1, -1, -1]]


def test_only_boxes_of_one_class_suppress_each_other():
    box, near = [10, 10, 30, 30], [10, 10, 30, 35]  # of IoU 0.8
    for k, classes in ((1, [1, -1]), (2, [1, 2])):
        given = stage((box, {1: (box, 0.9)}), (near, {k: (near, 0.8)}))
        found = region_detections(*given, SIZE, max_boxes=2)
        assert found["classes"].numpy().tolist() == [classes]


def test_proposals_that_are_none_and_boxes_beyond_the_image_are_left_out():
    outputs, proposals = stage(
        ([0, 0, 9, 9], {1: ([0, 0, 9, 9], 0.9)}),
        ([80, 10, 96, 30], {0: ([96, 10, 99, 30], 0.8)}),
        ([1, 1, 9, 9], {2: ([1, 1, 9, 9], 0.7)}),
    )
    proposals["scores"] = tf.constant([[0.0, 0.5, 0.5]])
    found = region_detections(outputs, proposals, SIZE, max_boxes=3)
    assert found["classes"].numpy().tolist() == [[2, -1, -1]]
    none = {**proposals, "scores": tf.zeros((1, 3))}
    found = region_detections(outputs, none, SIZE, max_boxes=3)
    assert not any(np.any(found[part]) for part in ("boxes", "scores"))


def test_certain_classes_have_the_score_1():
    outputs, proposals = stage(([0, 0, 9, 9], {1: ([0, 0, 9, 9], 0.9)}))
    outputs["classes"] = tf.constant([[[-100.0, 100, -100, -100]]])
    found = region_detections(outputs, proposals, SIZE, max_boxes=1)
    assert (found["classes"].numpy().item(), found["scores"].numpy().item()) == (1, 1)


def test_a_mask_is_that_of_its_class():
    logits = tf.random.stateless_normal((2, 3, 4, 4, 2), (0, 0))
    classes = tf.constant([[1, 0, -1, -1, -1], [0, 0, 1, -1, -1]])
    found = OwnMasks()(logits, classes)
    assert found.shape == (2, 5, 4, 4)
    expected = tf.sigmoid([logits[0, 0, ..., 1], logits[0, 1, ..., 0]])
    np.testing.assert_allclose(found[0, :2], expected)
    np.testing.assert_allclose(found[1, 2], tf.sigmoid(logits[1, 2, ..., 1]))
    assert not np.any(found[0, 2:])
    assert not np.any(found[1, 3:])


def test_masks_are_looked_for_where_there_are_detections():
    boxes = tf.reshape(tf.range(40.0), (2, 5, 4))
    for classes, number in (
        ([[1, 0, -1, -1, -1], [0, 0, 1, -1, -1]], 3),
        ([[-1] * 5, [-1] * 5], 1),
        ([[0] * 5, [-1] * 5], 5),
    ):
        found = FoundBoxes()(boxes, tf.constant(classes))
        np.testing.assert_array_equal(found, boxes[:, :number])
