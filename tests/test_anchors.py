import numpy as np
import pytest
import tensorflow as tf

from bit_keras.detection.anchors import (
    anchors_of,
    check_size,
    decoded,
    default_anchor_sizes,
    encoded,
    places,
)


def test_anchors_are_those_of_the_paper_at_its_size():
    sizes = default_anchor_sizes(1024)
    assert sizes == (32, 64, 128, 256, 512)
    assert places(1024, 512) == [9 * 64 * n for n in (128, 32, 8, 2)] + [9 * 8 * 4]
    anchors = anchors_of(1024, 512, sizes).numpy()
    assert len(anchors) == sum(places(1024, 512))
    widths, heights = (anchors[:, 2:] - anchors[:, :2]).T
    areas = np.unique((widths * heights).round(-1))
    steps = [(32 * 2 ** (n / 3)) ** 2 for n in range(15)]
    np.testing.assert_allclose(np.unique(np.sqrt(areas).round(1)), np.sqrt(steps), atol=0.2)
    np.testing.assert_allclose(np.unique((widths / heights).round(3)), [0.5, 1, 2])


@pytest.mark.parametrize(
    ("size", "smallest"), [(96, 16), (256, 16), (384, 24), (512, 32), (1024, 32)]
)
def test_default_anchors_follow_the_resolution(size, smallest):
    """Every object from 16 pixels to the image's side has an anchor of IoU 0.4 or more."""
    sizes = default_anchor_sizes(size)
    assert sizes == tuple(smallest * 2**n for n in range(5))
    anchors = anchors_of(size, size, sizes).numpy()
    rng = np.random.default_rng(0)
    for side in np.geomspace(smallest, size, 12):
        left, top = rng.uniform(0, size - side, 2)
        low = np.maximum(anchors[:, :2], [left, top])
        high = np.minimum(anchors[:, 2:], [left + side, top + side])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        union = np.prod(anchors[:, 2:] - anchors[:, :2], axis=1) + side**2 - common
        assert (common / union).max() > 0.4, side


def test_sides_that_are_no_multiples_of_32_are_refused():
    for sides in ((100, 96), (96, 0), (None, 96), (-32, 32)):
        with pytest.raises(
            ValueError, match=f"multiples of 32 pixels, got {sides[0]} x {sides[1]}"
        ):
            check_size(*sides)


def test_a_decoded_encoded_box_is_itself():
    anchors = anchors_of(64, 96, (16, 32, 64, 128, 256))
    rng = np.random.default_rng(0)
    corner, side = (
        rng.uniform(0, 60, (2, len(anchors), 2)),
        rng.uniform(5, 90, (2, len(anchors), 2)),
    )
    boxes = tf.constant(np.concatenate([corner, corner + side], axis=-1), tf.float32)
    np.testing.assert_allclose(decoded(encoded(boxes, anchors), anchors), boxes, atol=1e-4)
    np.testing.assert_array_equal(encoded(anchors, anchors), np.zeros(anchors.shape))


def test_codes_by_hand():
    anchors = tf.constant([[10.0, 20, 30, 60]])  # centered at (20, 40), of 20 by 40
    boxes = tf.constant([[[12.0, 36, 32, 56]]])  # centered at (22, 46), of 20 by 20
    expected = [[[1, 1.5, 0, -5 * np.log(2)]]]
    np.testing.assert_allclose(encoded(boxes, anchors), expected, rtol=1e-6)


def test_wild_outputs_are_decoded_to_finite_boxes():
    anchors = tf.constant([[10.0, 20, 30, 60]])
    box = decoded(tf.constant([[[0.0, 0, 1000, -1000]]]), anchors)[0, 0].numpy()
    np.testing.assert_allclose(box, [20 - 625, 40, 20 + 625, 40])
