import numpy as np
import pytest
import tensorflow as tf

from bit_keras.detection.anchors import encoded
from bit_keras.detection.proposals import (
    default_region_sizes,
    proposals,
    region_anchors,
    region_places,
)

SIZES = (8, 16, 32, 64, 128)
SIZE = (64, 96)  # height and width
ANCHORS = region_anchors(*SIZE, SIZES)
NUMBERS = region_places(*SIZE)


def outputs(*objects, batch=1):
    """Of a network that is sure of (level, box, score), which the level's nearest anchor tells."""
    boxes = np.zeros((batch, len(ANCHORS), 4), "float32")
    scores = np.full((batch, len(ANCHORS)), -np.inf, "float32")
    for level, box, score in objects:
        start = sum(NUMBERS[:level])
        own = ANCHORS.numpy()[start : start + NUMBERS[level]]
        place = np.abs(own - np.array(box)).sum(axis=1).argmin()
        boxes[:, start + place] = encoded(np.array([box], "float32"), own[place : place + 1])
        scores[:, start + place] = np.log(score / (1 - score))
    return {"boxes": tf.constant(boxes), "scores": tf.constant(scores)}


def found(given, number=4, candidates=50):
    return proposals(given, SIZE, SIZES, candidates=candidates, number=number)


def test_anchors_have_one_scale_and_three_ratios():
    assert NUMBERS == [3 * 16 * 24, 3 * 8 * 12, 3 * 4 * 6, 3 * 2 * 3, 3 * 1 * 2]
    assert len(ANCHORS) == sum(NUMBERS)
    sides = ANCHORS.numpy()[:, 2:] - ANCHORS.numpy()[:, :2]
    areas = np.repeat(np.square(SIZES), NUMBERS)
    np.testing.assert_allclose(sides.prod(axis=1), areas, rtol=1e-5)
    np.testing.assert_allclose(sides[:3, 0] / sides[:3, 1], [0.5, 1, 2], rtol=1e-5)
    np.testing.assert_allclose(ANCHORS[1], [-2, -2, 6, 6])
    assert default_region_sizes(1024) == default_region_sizes(512) == (32, 64, 128, 256, 512)
    assert default_region_sizes(64) == default_region_sizes(128) == SIZES


def test_proposals_are_cut_at_the_edge_and_best_first():
    objects = [(0, (3, 4, 11, 14), 0.6), (2, (60, 40, 120, 70), 0.9), (3, (-9, 8, 50, 60), 0.7)]
    some = found(outputs(*objects, batch=2))
    for image in range(2):
        np.testing.assert_allclose(some["scores"][image], [0.9, 0.7, 0.6, 0], atol=1e-5)
        expected = [[60, 40, 96, 64], [0, 8, 50, 60], [3, 4, 11, 14], [0] * 4]
        np.testing.assert_allclose(some["boxes"][image], expected, atol=1e-4)
    few = found(outputs(*objects), number=2)
    np.testing.assert_allclose(few["scores"], [[0.9, 0.7]], atol=1e-5)


def test_only_boxes_of_one_level_suppress_each_other():
    first, second = (15, 8, 47, 40), (17, 8, 49, 40)  # of neighboring anchors, IoU 0.88
    for level, number in ((2, 1), (1, 2)):
        some = found(outputs((2, first, 0.9), (level, second, 0.8)))
        assert np.count_nonzero(some["scores"]) == number
    apart = outputs((2, first, 0.9), (2, (21, 8, 53, 40), 0.8))  # of IoU 0.68
    assert np.count_nonzero(found(apart)["scores"]) == 2


def test_what_is_less_than_a_pixel_within_the_image_is_dropped():
    objects = [
        (0, (95.5, 10, 110, 20), 0.9),
        (0, (94.5, 40, 110, 50), 0.8),
        (0, (3, -9, 9, 0), 0.7),
    ]
    some = found(outputs(*objects))
    np.testing.assert_allclose(some["scores"][0], [0.8, 0, 0, 0], atol=1e-5)


def test_the_best_anchors_of_every_level_count():
    rng = np.random.default_rng(0)
    given = {
        "boxes": tf.constant(rng.normal(size=(1, len(ANCHORS), 4)), tf.float32),
        "scores": tf.constant(rng.normal(size=(1, len(ANCHORS))), tf.float32),
    }
    some = found(given, number=len(ANCHORS), candidates=2)
    levels = np.split(given["scores"].numpy()[0], np.cumsum(NUMBERS)[:-1])
    best = {float(tf.sigmoid(x)) for level in levels for x in np.sort(level)[-2:]}
    scores = some["scores"].numpy()[0]
    assert 5 <= np.count_nonzero(scores) <= 10
    assert all(min(abs(score - x) for x in best) < 1e-6 for score in scores[scores > 0])
    assert np.all(np.diff(scores) <= 0)


def test_no_proposals_are_zeros():
    for scores in (-np.inf, np.nan):
        given = {"boxes": tf.zeros((2, len(ANCHORS), 4))}
        some = found({**given, "scores": tf.fill((2, len(ANCHORS)), scores)})
        assert not np.any(some["boxes"])
        assert not np.any(some["scores"])


def test_an_image_has_its_proposals_whatever_batch_it_is_in():
    rng = np.random.default_rng(0)
    four = {
        "boxes": tf.constant(rng.normal(size=(4, len(ANCHORS), 4)), tf.float32),
        "scores": tf.constant(rng.normal(size=(4, len(ANCHORS))), tf.float32),
    }
    whole = tf.function(lambda x: found(x, 100))(four)
    for i in range(4):
        one = found({name: x[i : i + 1] for name, x in four.items()}, 100)
        for name, value in one.items():
            np.testing.assert_allclose(value[0], whole[name][i], rtol=1e-5, atol=1e-5)


def test_images_of_other_sides_are_refused():
    with pytest.raises(ValueError, match="multiples of 32 pixels, got 60 x 96"):
        region_anchors(60, 96, SIZES)
