"""How a Mask R-CNN learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from mask_detectors import SIZE, backbone, labels, objective

import bit_keras
from bit_keras.detection import MaskRCNN
from bit_keras.detection.kerascv import pairwise_iou
from bit_keras.detection.mask_rcnn import training_model
from bit_keras.detection.mask_rcnn_losses import MASK_PARTS, mask_rcnn_loss
from bit_keras.recipes import DetectionRecipe
from bit_keras.training import Objective, memory
from bit_keras.training.step import TrainStep


@pytest.fixture
def pictures():
    return np.random.default_rng(0).uniform(size=(4, SIZE, SIZE, 3)).astype("float32")


def test_every_weight_learns_and_pieces_have_the_gradient_of_the_whole(pictures):
    """Also of an image without objects, whose losses of boxes and masks are zero."""
    keras.utils.set_random_seed(0)
    detector = MaskRCNN(backbone(), 3, size=SIZE, channels=8)
    inputs = {"images": tf.constant(pictures), **labels()}
    found = []
    for pieces in (1, 2):
        one = objective(detector, 4)
        step = TrainStep(one, keras.optimizers.SGD(), tf.distribute.get_strategy(), pieces)
        found.append(tf.function(step._gradients_of_pieces)(inputs, ()))
    paths = [v.path for v in one.model.trainable_variables]
    assert {*paths} == {v.path for v in detector.trainable_variables}
    losses, gradients = found[0]
    assert np.all(losses.numpy() > 0)
    for path, x in zip(paths, gradients, strict=True):
        assert np.isfinite(x).all(), path
        assert np.any(x), path
    largest = max(np.abs(x).max() for x in gradients)
    for other_losses, other in found[1:]:
        np.testing.assert_allclose(other_losses, losses, rtol=1e-4)
        for a, b in zip(other, gradients, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4 * largest)
    parts = mask_rcnn_loss({}, one.model(inputs))
    assert all(x.shape == (4,) and np.isfinite(x).all() for x in parts.values())
    assert {name for name, x in parts.items() if x[2] == 0} == {
        "rpn_box_loss",
        "box_loss",
        "mask_loss",
    }


def test_losses_are_finite_of_no_objects_and_no_proposals(pictures):
    detector = MaskRCNN(backbone(), 3, size=SIZE, channels=8)
    for part in detector.get_layer("region_head").parts.values():
        part.bias.assign(np.full(part.bias.shape, -1e4))  # boxes far away, and none likely
    none = labels(
        boxes=np.zeros((4, 2, 4), "float32"),
        frames=np.zeros((4, 2, 4), "float32"),
        classes=np.full((4, 2), -1, "int32"),
    )
    assert not np.any(detector(pictures)["scores"])
    one = objective(detector, 4)
    sums, gradients = one.gradients({"images": pictures, **none}, {}, tf.constant(0.25))
    assert np.isfinite(sums).all()
    assert all(np.isfinite(x).all() for x in gradients)
    assert sums.numpy()[2:].tolist() == [0, 0, 0, 0]


def test_losses_are_means_over_what_was_chosen():
    """By hand, of two images; the second has one box of an object and ignores the others."""
    targets = {
        "places": tf.constant([[2, 0], [1, 1]]),
        "classes": tf.constant([[0, -1], [1, -2]]),
        "boxes": tf.constant([[[0.0, 0, 0, 4], [0.0] * 4], [[0.5, 0, 0, 0], [np.inf] * 4]]),
    }
    regions = {"scores": tf.constant([[1.0, 9, -2], [0, 3, 9]]), "boxes": tf.zeros((2, 3, 4))}
    roi_targets = {**targets, "masks": tf.ones((2, 1, 28, 28))}
    logits = tf.constant([[[2.0, 0, 1], [0, 0, 3]], [[0, 1, 0], [9, 9, 9]]])
    boxes = tf.concat([tf.zeros((2, 2, 1, 4)), tf.ones((2, 2, 1, 4))], axis=2)
    masks = tf.stack([tf.zeros((2, 1, 28, 28)), tf.fill((2, 1, 28, 28), 2.0)], axis=-1)
    found = mask_rcnn_loss(
        {},
        {
            "region_targets": targets,
            "regions": regions,
            "roi_targets": roi_targets,
            "rois": {"classes": logits, "boxes": boxes},
            "masks": masks,
        },
    )

    def entropy(logits, k):
        return np.log(np.sum(np.exp(logits))) - logits[k]

    softplus = np.logaddexp(0, [2, 1, -3, -2])  # -log of the sigmoids of -2, -1, 3 and 2
    expected = {
        "rpn_class_loss": [(softplus[0] + softplus[1]) / 2, softplus[2]],
        "rpn_box_loss": [3.5 / 4 / 2, 0.125 / 4],
        "class_loss": [(entropy([2, 0, 1], 0) + entropy([0, 0, 3], 2)) / 2, entropy([0, 1, 0], 1)],
        "box_loss": [3.5 / 2, 0.125 + 3 * 0.5],
        "mask_loss": [np.log(2), softplus[3]],
    }
    assert tuple(found) == MASK_PARTS
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_answers_in_float32(pictures, policy):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        detector = MaskRCNN(backbone(), 3, size=SIZE, channels=8)
        found = detector(pictures)
        given = labels()
        given["boxes"] += [0.1, 0.2, 0.3, 0.4]
        inputs = {"images": tf.constant(pictures), **given}
        outputs = training_model(detector, rois=32)(inputs)
        losses = mask_rcnn_loss({}, outputs)
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert {x.dtype for x in tf.nest.flatten([found, outputs, losses])} == {tf.float32, tf.int32}
    assert detector.get_layer("mask_head").convs[0].compute_dtype == policy.removeprefix("mixed_")
    assert np.isfinite([*losses.values()]).all()
    own = given["boxes"][0, 1].numpy()  # not rounded to the places of a bfloat16
    assert np.any(np.all(outputs["roi_targets"]["rois"][0].numpy() == own, axis=1))


@pytest.mark.slow
def test_a_few_steps_find_the_objects_of_two_images():
    """A red disk and a blue square, on gray: a tiny detector from random weights."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0.4, 0.6, (2, SIZE, SIZE, 3)).astype("float32")
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    disk = np.hypot(x - 24, y - 30) < 14
    square = (np.abs(x - 40) < 12) & (np.abs(y - 26) < 12)
    images[0][disk], images[1][square] = (1, 0, 0), (0, 0, 1)
    boxes = np.array([[[10, 16, 38, 44]], [[28, 14, 52, 38]]], "float32")
    cells = np.mgrid[:112, :112] + 0.5
    masks = np.stack([np.hypot(*(cells - 56)) < 56, np.ones((112, 112), bool)])
    inputs = {
        "images": tf.constant(images),
        "boxes": tf.constant(boxes),
        "classes": tf.constant([[0], [1]]),
        "masks": tf.constant(255 * masks[:, np.newaxis].astype("uint8")),
        "frames": tf.constant(boxes),
    }
    keras.utils.set_random_seed(0)
    detector = MaskRCNN(backbone(), 2, size=SIZE, channels=16)
    one = objective(detector, 2, {**inputs, "seeds": tf.zeros((2, 2), tf.int32)})
    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(one.model.trainable_variables)

    @tf.function
    def step(seeds):
        sums, gradients = one.gradients({**inputs, "seeds": seeds}, {}, tf.constant(0.5))
        optimizer.apply(gradients, one.model.trainable_variables)
        return sums

    losses = [step(tf.constant([[i, 0], [i, 1]], tf.int32)).numpy() for i in range(50)]
    assert np.isfinite(losses).all()
    assert losses[-1][0] < losses[0][0] / 3
    found = {name: x.numpy() for name, x in detector(images).items()}
    np.testing.assert_array_equal(found["classes"][:, 0], [0, 1])
    for own, expected in zip(found["boxes"][:, :1], boxes, strict=True):
        assert pairwise_iou(tf.constant(own), tf.constant(expected)).numpy().item() > 0.6
    own = found["masks"][:, 0] >= 0.5
    expected = masks[:, 2::4, 2::4]
    overlap = (own & expected).sum(axis=(1, 2)) / (own | expected).sum(axis=(1, 2))
    assert overlap.min() > 0.6


def test_a_large_detector_is_built_and_its_memory_is_known():
    """R50x1 at 512 for 80 classes; nothing is trained. Parameters by hand, of each part."""
    body = bit_keras.ResNetV2(50, 1, 0, kernel_initializer="zeros")
    detector = MaskRCNN(body, 80)
    assert detector.spec.anchor_sizes == (32, 64, 128, 256, 512)
    numbers = {
        part: sum(np.prod(v.shape) for v in detector.get_layer(part).variables)
        for part in ("feature_pyramid", "region_head", "box_head", "mask_head")
    }
    convolutions = 4 * (9 * 256 * 256 + 2 * 256)
    sides = (256, 512, 1024, 2048)
    assert numbers == {
        "feature_pyramid": sum(2 * c + (c + 1) * 256 for c in sides) + 4 * (9 * 256 + 1) * 256,
        "region_head": (9 * 256 + 1) * 256 + 257 * 3 + 257 * 12,
        "box_head": convolutions + (49 * 256 + 1) * 1024 + 1025 * 81 + 1025 * 320,
        "mask_head": convolutions + (4 * 256 + 1) * 256 + 257 * 80,
    }
    fixed = detector(keras.Input((512, 512, 3), batch_size=1))
    assert fixed["masks"].shape == (1, 100, 28, 28)
    specs = {
        "images": tf.TensorSpec((None, 512, 512, 3)),
        "boxes": tf.TensorSpec((None, 50, 4)),
        "classes": tf.TensorSpec((None, 50), tf.int32),
        "seeds": tf.TensorSpec((None, 2), tf.int32),
        "masks": tf.TensorSpec((None, 50, 112, 112), tf.uint8),
        "frames": tf.TensorSpec((None, 50, 4)),
    }
    one = Objective(
        model=training_model(detector),
        batches=None,
        batch=1,
        loss=mask_rcnn_loss,
        parts=MASK_PARTS,
        spec=(specs, ()),
    )
    _, need = memory.fitting_split(one, tf.distribute.get_strategy(), 1)
    assert 2**30 < need < 10 * 2**30


def test_a_wrong_number_of_boxes_to_learn_from_is_named():
    with pytest.raises(ValueError, match="rois must be 4 to 1,000, got 3"):
        training_model(MaskRCNN(backbone(), 3, channels=8), rois=3)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["retinanet", "faster_rcnn"])
def test_batch_normalization_is_kept_as_it_was_pretrained(tmp_path, model_type):
    body = bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 0, norm="batch")
    before = {v.path: v.numpy() + 0.125 for v in body.variables}
    for variable in body.variables:
        variable.assign(before[variable.path])
    scenes, _ = bit_keras.data.scenes(4, num_test=1, size=64)
    recipe = DetectionRecipe(
        epochs=1, decay_epochs=(), batch=4, base_lr=0.1, warmup_steps=0, size=64
    )
    trained = bit_keras.fine_tune_detector(
        body, scenes, workdir=tmp_path, model_type=model_type, recipe=recipe, export=False
    ).model
    after = {v.path: v.numpy() for v in trained.variables if v.path in before and "block" in v.path}
    kept = {path for path, value in after.items() if np.array_equal(value, before[path])}
    assert kept == {path for path in after if "batch_norm" in path}
