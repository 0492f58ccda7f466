"""What a Mask R-CNN learns from: choices at random, boxes and masks."""

import numpy as np
import pytest
import tensorflow as tf

from bit_keras.detection.anchors import decoded
from bit_keras.detection.kerascv import pairwise_iou
from bit_keras.detection.proposals import region_anchors
from bit_keras.detection.roi_targets import (
    chosen,
    mask_targets,
    masks_learned,
    region_targets,
    roi_targets,
)

SIZES = (8, 16, 32, 64, 128)
SEEDS = tf.constant([[3, 1], [3, 2], [5, 1]], tf.int32)


@pytest.fixture
def labels():
    """Of three images of 96 x 96 pixels, the last without objects."""
    boxes = np.zeros((3, 2, 4), "float32")
    boxes[0] = [[10, 10, 40, 50], [60, 60, 70, 75]]
    boxes[1, 0] = 5, 30, 90, 64
    classes = tf.constant([[1, 0], [2, -1], [-1, -1]], tf.int32)
    return {"boxes": tf.constant(boxes), "classes": classes, "seeds": SEEDS}


def chosen_of(classes, **options):
    classes = tf.tile(tf.constant([classes], tf.int32), [3, 1])
    places, found = tf.function(lambda x: chosen(SEEDS, 0, x, **options))(classes)
    for own, there in zip(places.numpy(), found.numpy(), strict=True):
        taken = own[there != -2]
        assert len({*taken}) == len(taken)
        np.testing.assert_array_equal(there[there != -2], classes[0].numpy()[taken])
    return places.numpy(), found.numpy()


def test_objects_come_first_and_are_not_more_than_asked_for():
    classes = [-1, 4] * 20 + [-2] * 10
    places, found = chosen_of(classes, number=16, most=4)
    np.testing.assert_array_equal(found, [[4] * 4 + [-1] * 12] * 3)
    assert len({tuple(own) for own in places}) == 3  # each image has choices of its own


def test_places_of_missing_objects_are_taken_by_others_and_then_by_nothing():
    _, found = chosen_of([7] + [-1] * 20, number=8, most=4)
    np.testing.assert_array_equal(found, [[7] + [-1] * 7] * 3)
    _, found = chosen_of([7] * 9 + [-1] * 3 + [-2] * 9, number=8, most=4)
    np.testing.assert_array_equal(found, [[7] * 4 + [-1] * 3 + [-2]] * 3)
    _, found = chosen_of([-2] * 9, number=4, most=4)
    np.testing.assert_array_equal(found, [[-2] * 4] * 3)
    _, found = chosen_of([1, -1], number=4, most=4)
    np.testing.assert_array_equal(found, [[1, -1]] * 3)


def test_choices_are_of_an_images_seeds_alone_and_even():
    classes = tf.fill([1, 50], -1)
    many = tf.stack([tf.range(400), tf.zeros(400, tf.int32)], axis=1)
    places, _ = chosen(many, 0, tf.tile(classes, [400, 1]), number=10, most=5)
    counts = np.bincount(places.numpy().ravel(), minlength=50)
    assert counts.min() > 40  # 80 are expected, with a deviation of 8
    assert counts.max() < 120
    for row in (0, 7, 399):
        alone, _ = chosen(many[row : row + 1], 0, classes, number=10, most=5)
        np.testing.assert_array_equal(alone[0], places[row])
    other, _ = chosen(many[:1], 1, classes, number=10, most=5)
    assert other.numpy().tolist() != places[:1].numpy().tolist()


def test_anchors_are_chosen_by_their_overlap(labels):
    found = tf.function(lambda x: region_targets(x, (96, 96), SIZES))(labels)
    anchors = region_anchors(96, 96, SIZES)
    overlap = pairwise_iou(anchors, labels["boxes"]).numpy()
    for i, objects in enumerate((2, 1, 0)):
        classes, places = found["classes"][i].numpy(), found["places"][i].numpy()
        own = overlap[i, :, :objects]
        most = own.max(axis=1, initial=0)[places]
        best = {own[:, k].argmax() for k in range(objects)}
        assert (classes == -1).sum() + (classes >= 0).sum() == 256
        assert best <= {*places[classes >= 0]}
        assert all(most[k] >= 0.7 or places[k] in best for k in np.flatnonzero(classes >= 0))
        assert np.all(most[classes == -1] < 0.3)
        for k in np.flatnonzero(classes >= 0):
            box = decoded(found["boxes"][i, k : k + 1], anchors.numpy()[places[k] : places[k] + 1])
            owner = own[places[k]].argmax()
            np.testing.assert_allclose(box[0], labels["boxes"][i, owner], atol=1e-3)
        assert not np.any(found["boxes"].numpy()[i][classes < 0])


def some_proposals(labels):
    """Objects' boxes moved a little, others at random, and a few that are none."""
    rng = np.random.default_rng(0)
    moved = np.repeat(labels["boxes"].numpy(), 10, axis=1)
    moved = moved + rng.uniform(-2, 2, moved.shape)
    corners = rng.uniform(0, 60, (3, 60, 2))
    others = np.concatenate([corners, corners + rng.uniform(5, 30, (3, 60, 2))], axis=-1)
    boxes = np.concatenate([moved, others, np.zeros((3, 5, 4))], axis=1).astype("float32")
    scores = np.where(np.arange(85) < 80, 0.5, 0) * np.ones((3, 1))
    scores[:, :20][np.repeat(labels["classes"].numpy(), 10, axis=1) < 0] = 0
    return {"boxes": tf.constant(boxes), "scores": tf.constant(scores, tf.float32)}


def test_regions_are_proposals_and_objects(labels):
    given = some_proposals(labels)
    found = tf.function(lambda p, x: roi_targets(p, x, number=32))(given, labels)
    assert masks_learned(32) == 8
    for i in range(3):
        rois, classes, owners = (found[name][i].numpy() for name in ("rois", "classes", "owners"))
        overlap = pairwise_iou(rois, labels["boxes"][i]).numpy()
        positive = classes >= 0
        assert positive.sum() == (0 if i == 2 else 8)
        assert np.all(positive[: positive.sum()])
        assert (classes == -2).sum() == 0
        for k, own in enumerate(classes):
            if own >= 0:
                assert overlap[k].argmax() == owners[k]
                assert overlap[k].max() >= 0.5
                assert own == labels["classes"][i, owners[k]]
                box = decoded(found["boxes"][i, k : k + 1], rois[k : k + 1])
                np.testing.assert_allclose(box[0], labels["boxes"][i, owners[k]], atol=1e-3)
            else:
                assert overlap[k].max() < 0.5
                assert np.all(rois[k, 2:] > rois[k, :2])
        assert not np.any(found["boxes"].numpy()[i][classes < 0])


def test_without_proposals_the_objects_themselves_are_learned_from(labels):
    none = {"boxes": tf.zeros((3, 85, 4)), "scores": tf.zeros((3, 85))}
    found = roi_targets(none, labels, number=32)
    assert [(found["classes"][i].numpy() >= 0).sum() for i in range(3)] == [2, 1, 0]
    assert not np.any(found["classes"].numpy() == -1)
    assert np.isfinite(found["boxes"]).all()


def test_a_region_has_its_part_of_the_mask():
    """A disk over a frame that reaches beyond the image, and a half of another."""
    y, x = np.mgrid[:112, :112] + 0.5
    disk = np.where(np.hypot(x - 56, y - 56) < 56, 255, 0)
    half = np.where(x < 56, 255, 0)
    frames = np.array([[[-20, -10, 36, 46], [30, 0, 86, 28], [0, 0, 0, 0]]], "float32")
    masks = np.stack([disk, half, 0 * disk]).astype("uint8")[None]
    labels = {"frames": tf.constant(frames), "masks": tf.constant(masks)}
    rois = np.array(
        [[[-20, -10, 36, 46], [8, 18, 36, 46], [30, 0, 86, 28], [44, -14, 72, 14], [0, 0, 9, 9]]],
        "float32",
    )
    owners = tf.constant([[0, 0, 1, 1, 2]])
    found = tf.function(mask_targets)(tf.constant(rois), owners, labels).numpy()[0]
    y, x = np.mgrid[:28, :28] + 0.5
    expected = [
        np.hypot(x - 14, y - 14) < 14,
        np.hypot(x, y) < 28,  # its lower right quarter
        x < 14,
        (x < 14) & (y >= 14),  # the frame begins at its middle
        x < 0,
    ]
    for own, wanted in zip(found, expected, strict=True):
        assert set(np.unique(own)) <= {0, 1}
        assert np.mean(own != wanted) < 0.02


def test_a_place_is_covered_from_a_half_on():
    for value, expected in ((127, 0), (128, 1)):
        labels = {"masks": tf.fill((1, 1, 112, 112), tf.constant(value, tf.uint8))}
        labels["frames"] = tf.constant([[[0, 0, 50.0, 50]]])
        found = mask_targets(tf.constant([[[5.0, 5, 45, 45]]]), tf.constant([[0]]), labels)
        assert set(np.unique(found)) == {expected}
