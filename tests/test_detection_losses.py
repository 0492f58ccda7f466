import numpy as np
import pytest
import tensorflow as tf

from bit_keras.detection.losses import LOSS_PARTS, detection_loss


def numpy_loss(classes, boxes, logits, outputs):
    """One image's, anchor by anchor, as the papers have it."""
    parts = np.zeros(2)
    for own, box, scores, output in zip(classes, boxes, logits, outputs, strict=True):
        if own == -2:
            continue
        for k, x in enumerate(scores):
            p = 1 / (1 + np.exp(-x))
            parts[0] += (
                -0.25 * (1 - p) ** 2 * np.log(p) if k == own else -0.75 * p**2 * np.log(1 - p)
            )
        if own >= 0:
            d = np.abs(box - output)
            parts[1] += np.where(d < 1, d**2 / 2, d - 0.5).mean()
    return parts / max(1, (np.array(classes) >= 0).sum())


@pytest.fixture
def batch():
    """Four images of 30 anchors and 3 classes; the last has no objects."""
    rng = np.random.default_rng(0)
    classes = rng.integers(-2, 3, (4, 30))
    classes[3] = np.minimum(classes[3], -1)
    targets = {"classes": classes.astype("int32"), "boxes": rng.normal(size=(4, 30, 4))}
    outputs = {"classes": rng.normal(size=(4, 30, 3)), "boxes": 2 * rng.normal(size=(4, 30, 4))}
    for part in (targets, outputs):
        part["boxes"] = part["boxes"].astype("float32")
    outputs["classes"] = outputs["classes"].astype("float32")
    return targets, outputs


def test_the_loss_of_each_image_is_the_papers(batch):
    targets, outputs = batch
    found = detection_loss(*tf.nest.map_structure(tf.constant, batch))
    assert tuple(found) == LOSS_PARTS
    for i in range(4):
        expected = numpy_loss(
            *(targets["classes"][i], targets["boxes"][i]),
            *(outputs["classes"][i], outputs["boxes"][i]),
        )
        np.testing.assert_allclose([found[name][i] for name in LOSS_PARTS], expected, rtol=1e-5)
    assert found["box_loss"][3] == 0


def test_ignored_anchors_and_boxes_of_background_have_no_gradient(batch):
    targets, outputs = tf.nest.map_structure(tf.constant, batch)
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        total = tf.add_n(detection_loss(targets, outputs).values())
    slopes = tape.gradient(total, outputs)
    classes = targets["classes"].numpy()
    assert not slopes["classes"].numpy()[classes == -2].any()
    assert slopes["classes"].numpy()[classes != -2].all()
    assert not slopes["boxes"].numpy()[classes < 0].any()
    assert slopes["boxes"].numpy()[classes >= 0].all()


def test_pieces_of_a_batch_have_the_losses_of_the_whole(batch):
    targets, outputs = tf.nest.map_structure(tf.constant, batch)
    whole = detection_loss(targets, outputs)
    halves = [
        detection_loss(*tf.nest.map_structure(lambda x, s=s: x[s], (targets, outputs)))
        for s in (slice(0, 2), slice(2, 4))
    ]
    for name in LOSS_PARTS:
        np.testing.assert_array_equal(whole[name], np.concatenate([half[name] for half in halves]))
