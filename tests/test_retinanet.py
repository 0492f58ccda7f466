import functools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import bit_keras
from bit_keras.detection import RetinaNet
from bit_keras.detection.anchors import places
from bit_keras.detection.decoding import detections
from bit_keras.detection.losses import LOSS_PARTS, detection_loss
from bit_keras.detection.targets import detection_targets
from bit_keras.models.resnet_v2 import freeze_before
from bit_keras.models.spec import spec_of
from bit_keras.models.spec_files import read_spec
from bit_keras.training import Objective, memory
from bit_keras.training.step import TrainStep


def backbone():
    return bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 0)


@pytest.fixture(scope="module")
def detector():
    """Tests must not train it."""
    keras.utils.set_random_seed(0)  # where an output looks is tested, and depends on the weights
    return RetinaNet(backbone(), 3, size=96, channels=16)


@pytest.fixture
def pictures():
    return np.random.default_rng(0).uniform(size=(4, 96, 96, 3)).astype("float32")


LABELS = {
    "boxes": np.array(
        [
            [[10, 10, 40, 50], [60, 60, 70, 75]],
            [[0, 0, 96, 96], [0, 0, 0, 0]],
            [[0, 0, 0, 0], [0, 0, 0, 0]],
            [[50, 5, 90, 30], [40, 40, 80, 80]],
        ],
        "float32",
    ),
    "classes": np.array([[1, 0], [2, -1], [-1, -1], [0, 2]], "int32"),
}


def objective(model, batch, size, labels=LABELS, **changes):
    most = labels["classes"].shape[1]
    spec = {
        "boxes": tf.TensorSpec((None, most, 4)),
        "classes": tf.TensorSpec((None, most), tf.int32),
    }
    settings = {
        "batches": None,
        "batch": batch,
        "loss": detection_loss,
        "parts": LOSS_PARTS,
        "targets": functools.partial(detection_targets, anchor_sizes=model.spec.anchor_sizes),
        "spec": (tf.TensorSpec((None, size, size, 3)), spec),
        **changes,
    }
    return Objective(model=model, **settings)


@pytest.mark.parametrize("sides", [(96, 96), (32, 160), (128, 64)])
def test_outputs_have_a_row_for_every_anchor(detector, sides):
    images = np.zeros((2, *sides, 3), "float32")
    found = detector(images)
    anchors = sum(places(*sides))
    assert {name: (x.shape, x.dtype) for name, x in found.items()} == {
        "boxes": ((2, anchors, 4), tf.float32),
        "classes": ((2, anchors, 3), tf.float32),
    }
    assert detector.input_shape == (None, None, None, 3)
    symbolic = detector(keras.Input((*sides, 3), batch_size=2))
    assert symbolic["classes"].shape == (2, anchors, 3)


def looked_at(detector, row, column):
    """Centre of the gradient of an output of P3 over the image: row and column, in units of 8."""
    size = 96
    place = (row * size // 8 + column) * 9 + 4
    images = tf.random.stateless_uniform((1, size, size, 3), (0, 0))
    with tf.GradientTape() as tape:
        tape.watch(images)
        number = tf.reduce_sum(detector(images)["classes"][0, place])
    slopes = tf.reduce_sum(tf.abs(tape.gradient(number, images)), axis=(0, 3)).numpy()
    window = slopes.reshape(12, 8, 12, 8).sum(axis=(1, 3)) / slopes.sum()
    centres = np.arange(12) + 0.5
    return window.sum(axis=1) @ centres, window.sum(axis=0) @ centres


def test_an_output_belongs_to_the_anchor_of_its_place(detector):
    """Compared with one another: the wide field of view draws all centres to the middle."""
    (top, right), (bottom, left) = looked_at(detector, 2, 9), looked_at(detector, 9, 2)
    assert bottom - top > 1.5
    assert right - left > 1.5


def test_images_of_other_sides_are_refused(detector):
    with pytest.raises(ValueError, match="sides that are multiples of 32 pixels"):
        detector(np.zeros((1, 96, 72, 3), "float32"))


def test_fresh_heads_expect_objects_with_the_prior_probability(detector, pictures):
    found = detector(pictures)
    assert np.mean(tf.sigmoid(found["classes"])) == pytest.approx(0.01, rel=0.2)
    assert np.abs(found["boxes"]).max() < 1


def test_groups_are_in_the_heads_or_not(detector):
    plain = RetinaNet(backbone(), 3, size=96, channels=16, norm="none")
    numbers = []
    for model in (detector, plain):
        paths = [v.path for v in model.variables if v.path.startswith(("class_head", "box_head"))]
        assert len(set(paths)) == len(paths)
        numbers.append(sum("group_norm" in path for path in paths))
    assert numbers == [16, 0]
    # A head's four convolutions have a bias instead of a beta, and no gamma.
    assert detector.count_params() - plain.count_params() == 2 * 4 * 16


def test_the_body_is_shared_and_its_last_normalization_is_kept():
    body = backbone()
    norm = body.get_layer("group_norm")
    norm.gamma.assign(tf.range(512, dtype=tf.float32))
    detector = RetinaNet(body, 3, size=96, channels=16)
    assert detector.get_layer("block4") is body.get_layer("block4")
    own = detector.get_layer("feature_pyramid").norms["P5"]
    np.testing.assert_array_equal(own.gamma, np.arange(512))
    other = RetinaNet(detector, 7, size=128, channels=8)
    assert other.output["classes"].shape[-1] == 7
    assert other.get_layer("block4") is body.get_layer("block4")
    own = other.get_layer("feature_pyramid").norms["P5"]
    np.testing.assert_array_equal(own.gamma, np.arange(512))


def test_the_facts_of_a_detector_are_its_bodys_and_its_own():
    spec = RetinaNet("BiT-XS-R26x0.25", 5, size=96, channels=8).spec
    assert (spec.num_classes, spec.test_size, spec.native_size) == (5, 96, 32)
    assert spec.anchor_sizes == (16, 32, 64, 128, 256)
    assert (spec.units, spec.published, spec.class_names) == ((2, 2, 2, 2), False, None)
    given = RetinaNet("R14x0.25", 5, anchor_sizes=[8, 16, 32, 64, 128], init="random", channels=8)
    assert given.spec.anchor_sizes == (8, 16, 32, 64, 128)
    assert spec.with_classes(9).anchor_sizes is None


def test_a_frozen_body_leaves_pyramid_and_heads_trainable():
    detector = RetinaNet(backbone(), 3, size=96, channels=8)
    freeze_before(detector, "block4")
    parts = {variable.path.split("/")[0] for variable in detector.trainable_variables}
    assert parts == {"block4", "feature_pyramid", "box_head", "class_head"}


@pytest.mark.slow
def test_keras_files_are_the_same_detector(detector, pictures, tmp_path):
    path = tmp_path / "detector.keras"
    detector.spec = detector.spec.replace(class_names=("a", "b", "c"))
    detector.save(path)
    expected = detector(pictures)
    for twin in (keras.saving.load_model(path), bit_keras.load(path)):
        assert twin.spec == detector.spec == read_spec(path) == spec_of(twin)
        assert [v.path for v in twin.variables] == [v.path for v in detector.variables]
        for name, value in twin(pictures).items():
            np.testing.assert_array_equal(value, expected[name])
    # Elsewhere it is found by its registered classes, and does not need KerasCV.
    code = f"""
import sys, bit_keras, keras
print(keras.saving.load_model({str(path)!r}).spec.class_names, "keras_cv" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "('a', 'b', 'c') False\n", done.stderr


def test_mixed_precision_answers_in_float32(pictures):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = RetinaNet(backbone(), 3, size=96, channels=16)
        found = model(pictures)
        targets = detection_targets(
            tf.constant(pictures),
            tf.nest.map_structure(tf.constant, LABELS),
            anchor_sizes=model.spec.anchor_sizes,
        )
        losses = detection_loss(targets, found)
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert {x.dtype for x in (*found.values(), *losses.values())} == {tf.float32}
    assert model.get_layer("class_head").convs[0].compute_dtype == "bfloat16"
    assert np.isfinite([*losses.values()]).all()


@pytest.mark.slow
def test_gradients_are_finite_without_boxes_and_of_pieces_those_of_the_whole(pictures):
    keras.utils.set_random_seed(0)
    model = RetinaNet(backbone(), 3, size=96, channels=8)
    strategy = tf.distribute.get_strategy()
    labels = tf.nest.map_structure(tf.constant, LABELS)
    found = []
    for pieces in (1, 2):
        step = TrainStep(objective(model, 4, 96), keras.optimizers.SGD(), strategy, pieces)
        found.append(tf.function(step._gradients_of_pieces)(tf.constant(pictures), labels))
    losses, gradients = found[0]
    assert losses[0] == losses[1] + losses[2]
    assert all(np.isfinite(x).all() and np.any(x) for x in gradients)
    largest = max(np.abs(x).max() for x in gradients)
    for other_losses, other in found[1:]:
        np.testing.assert_allclose(other_losses, losses, rtol=1e-5)
        for a, b in zip(other, gradients, strict=True):
            # What is rounded otherwise may cross the edge of a ReLU.
            np.testing.assert_allclose(a, b, atol=1e-4 * largest)
    empty = {"boxes": tf.zeros((2, 2, 4)), "classes": tf.fill((2, 2), -1)}
    one = objective(model, 2, 96)
    targets = one.targets(tf.constant(pictures[:2]), empty)
    sums, gradients = one.gradients(tf.constant(pictures[:2]), targets, tf.constant(0.5))
    assert np.isfinite(sums).all()
    assert sums[2] == 0
    assert all(x is None or np.isfinite(x).all() for x in gradients)


def test_a_few_steps_find_the_boxes_of_fixed_images():
    """Rectangles on grey: a tiny detector from random weights, in plain Adam steps."""
    rng, size = np.random.default_rng(0), 64
    images = rng.uniform(0.4, 0.6, (4, size, size, 3)).astype("float32")
    boxes, classes = np.zeros((4, 1, 4), "float32"), np.zeros((4, 1), "int32")
    for i, (left, top) in enumerate([(4, 8), (30, 30), (20, 3), (10, 36)]):
        boxes[i, 0], classes[i] = (left, top, left + 24, top + 20), i % 2
        images[i, top : top + 20, left : left + 24] = (1, 0, 0) if i % 2 else (0, 0, 1)
    labels = {"boxes": tf.constant(boxes), "classes": tf.constant(classes)}
    keras.utils.set_random_seed(0)
    model = RetinaNet(backbone(), 2, size=size, channels=16)
    one = objective(model, 4, size, labels)
    targets = one.targets(tf.constant(images), labels)
    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step():
        sums, gradients = one.gradients(tf.constant(images), targets, tf.constant(0.25))
        optimizer.apply(gradients, model.trainable_variables)
        return sums[0]

    losses = [float(step()) for _ in range(60)]
    assert losses[-1] < losses[0] / 10
    found = detections(model(images), (size, size), model.spec.anchor_sizes, max_boxes=1)
    np.testing.assert_array_equal(found["classes"], classes)
    np.testing.assert_allclose(found["boxes"], boxes, atol=4)


@pytest.mark.parametrize(
    ("depth", "width", "size", "parameters", "gigabytes"),
    [(50, 1, 512, 37_966_132, (1, 8)), (101, 3, 1024, 407_534_004, (12, 40))],
)
def test_large_detectors_are_built_and_their_memory_is_known(
    depth, width, size, parameters, gigabytes
):
    """The paper's own model, R101x3 at 1024, and one that trains in 8 GiB; nothing is trained.

    Parameters by hand for 80 classes, R101x3: 381,777,600 of the body (without head and last
    normalization); 21,504 of normalizations, 2,753,280 of laterals, 1,770,240 of P3 to P5,
    14,156,032 of P6, 590,080 of P7; 2 * 2,361,344 of the heads' convolutions, 82,980 and 1,659,600
    of their last.
    """
    body = bit_keras.ResNetV2(depth, width, 0, kernel_initializer="zeros")
    detector = RetinaNet(body, 80, size=size)
    assert detector.count_params() == parameters
    anchors = 9 * sum((size // stride) ** 2 for stride in (8, 16, 32, 64, 128))
    fixed = detector(keras.Input((size, size, 3), batch_size=1))
    assert fixed["boxes"].shape == (1, anchors, 4)
    assert fixed["classes"].shape == (1, anchors, 80)
    labels = {"boxes": np.zeros((1, 100, 4)), "classes": np.zeros((1, 100))}
    strategy = tf.distribute.get_strategy()
    _, need = memory.fitting_split(objective(detector, 1, size, labels), strategy, 1)
    assert gigabytes[0] * 2**30 < need < gigabytes[1] * 2**30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be 1 or more, got 0"),
        ({"size": 100}, "multiples of 32 pixels, got 100 x 100"),
        ({"channels": 12}, "channels must be a multiple of 8, got 12"),
        ({"norm": "batch"}, 'norm must be "group" or "none", got \'batch\''),
        ({"anchor_sizes": [16, 32]}, r"anchor_sizes must be 5 numbers above 0, .*got \(16, 32\)"),
        ({"anchor_sizes": [0, 1, 2, 3, 4]}, "anchor_sizes must be 5 numbers above 0"),
        ({"model": "BiT-XSX"}, "expected|did you mean"),
    ],
)
def test_mistakes_are_named(tiny, arguments, message):
    arguments = {"model": tiny, "num_classes": 3, **arguments}
    with pytest.raises(ValueError, match=message):
        RetinaNet(arguments.pop("model"), arguments.pop("num_classes"), **arguments)


def test_a_body_of_fewer_blocks_is_refused():
    with pytest.raises(ValueError, match="levels must be some of P1, P2, P3"):
        RetinaNet(bit_keras.ResNetV2((1, 1), 0.25, 0), 3)
