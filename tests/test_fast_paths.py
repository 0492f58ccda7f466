"""What layers compute in training on a CPU is the plain formula, with its derivatives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bit_keras import GroupNormalization, ResNetV2, StdConv2D
from bit_keras.layers import fast_paths, standardize
from bit_keras.models import blocks
from bit_keras.models.standardizing import standardized_once


def derivatives(function, inputs, weights):
    """The values, and the first and second derivatives, of a weighted sum of what it returns."""
    inputs = [tf.convert_to_tensor(x) for x in inputs]
    with tf.GradientTape() as outer:
        outer.watch(inputs)
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            y = function(*inputs)
            total = tf.reduce_sum(tf.cast(y, tf.float32) * weights)
        first = inner.gradient(total, inputs)
        squares = tf.add_n([tf.reduce_sum(tf.square(tf.cast(x, tf.float32))) for x in first])
    second = outer.gradient(squares, inputs, unconnected_gradients="zero")
    return y, first, second


def test_a_tape_outside_of_a_traced_function():
    layer = GroupNormalization(2)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32"))
    gradients = []
    for function in (tf.function(lambda x: layer(x, training=True), autograph=False), layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x) * x)
        gradients.append(tape.gradient(total, [x, layer.gamma.value, layer.beta.value]))
    assert_alike(*gradients)


def assert_alike(fast, plain, tolerance=2e-5):
    for a, b in zip(tf.nest.flatten(fast), tf.nest.flatten(plain), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, atol=tolerance * max(1, np.abs(b).max()))


@pytest.mark.parametrize(("traced", "compiled"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(
    ("shape", "groups", "mean"),
    [((3, 7, 5, 24), 8, 1), ((2, 1, 1, 8), 2, 0), ((1, 16, 16, 4), 4, 1000), ((2, 9, 12), 3, -2)],
)
def test_group_normalization(shape, groups, mean, activation, traced, compiled, monkeypatch):
    rng = np.random.default_rng(0)
    layer = GroupNormalization(groups, activation=activation)
    layer.build(shape)
    inputs = [
        rng.normal(mean, 2, shape).astype("float32"),
        *rng.normal(1, 1, (2, shape[-1])).astype("float32"),
    ]

    def fast(x, gamma, beta):
        with keras.StatelessScope([(layer.gamma, gamma), (layer.beta, beta)]):
            return layer(x, training=True)

    assert fast_paths.usable(tf.constant(inputs[0]))
    monkeypatch.setattr(fast_paths, "_WORTH_COMPILING", 0 if compiled else np.inf)
    weights = rng.normal(size=shape).astype("float32")
    if traced:
        found = tf.function(derivatives, autograph=False)(fast, inputs, weights)
    else:
        found = derivatives(fast, inputs, weights)
    # Where the deviation is small beside the mean, both lose the same digits.
    assert_alike(found, derivatives(layer._plain, inputs, weights), 2e-5 if mean < 100 else 2e-3)


@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (1, 1, 16, 4), (7, 7, 3, 2), (1, 1, 1, 3)])
def test_standardization(shape):
    rng = np.random.default_rng(0)
    kernel = rng.normal(3, 2, shape).astype("float32")
    weights = rng.normal(size=shape).astype("float32")
    layer = StdConv2D(shape[-1], shape[:2])
    layer.build((None, 9, 9, shape[2]))
    x = rng.normal(size=(2, 9, 9, shape[2])).astype("float32")

    def fast(kernel):
        return fast_paths.standardized(kernel, standardize, epsilon=1e-10)

    if shape[2] > 1:
        found = derivatives(fast, [kernel], weights)
        assert_alike(found, derivatives(standardize, [kernel], weights))
    layer.kernel.assign(kernel)
    assert_alike(layer(x, training=True), layer(x))
    assert np.isfinite(derivatives(fast, [kernel], weights)[1][0]).all()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_rounded_at_the_end_alone(policy):
    rng = np.random.default_rng(0)
    layer = GroupNormalization(4, activation="relu", dtype=policy)
    layer.build((None, 6, 6, 8))
    x = tf.cast(rng.normal(size=(2, 6, 6, 8)), layer.compute_dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        fast, plain = (layer(x, training=training) for training in (True, False))
    assert fast.dtype == x.dtype
    np.testing.assert_array_equal(*(tf.cast(y, tf.float32) for y in (fast, plain)))
    gradients = [tf.cast(tape.gradient(y, x), tf.float32) for y in (fast, plain)]
    assert_alike(*gradients, tolerance=0.02)


def test_shapes_that_may_vary_take_the_plain_formula():
    layer = GroupNormalization(2)
    layer.build((None, None, None, 4))
    kinds = []

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 4))])
    def forward(x):
        kinds.append(fast_paths.usable(x))
        return layer(x, training=True)

    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")
    np.testing.assert_allclose(forward(x), layer(x), atol=1e-6)
    assert kinds == [False]


@pytest.mark.parametrize("remat", [False, True])
def test_units_that_share_a_trace_have_their_own_weights_and_gradients(remat, monkeypatch):
    model = ResNetV2((4,), 0.0625, 3)
    for variable in model.variables:
        variable.assign(keras.random.normal(variable.shape, seed=len(variable.path)) + 0.5)
    model.get_layer("block1").remat = remat
    images = tf.random.stateless_uniform((2, 32, 32, 3), (1, 2))
    traced, call = [], blocks.Unit.call

    def watched(unit, x, training):
        traced.append(unit.name)
        return call(unit, x, training)

    monkeypatch.setattr(blocks.Unit, "call", watched)

    def gradients():
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(tf.square(model(images, training=True)))
        return tape.gradient(total, [v.value for v in model.trainable_variables])

    shared = tf.function(gradients, autograph=False)()
    assert {*traced} == {"unit01", "unit02"}
    assert_alike(shared, gradients())
    assert {*traced} == {"unit01", "unit02", "unit03", "unit04"}


@pytest.mark.parametrize("remat", [False, True])
def test_kernels_standardized_once_have_the_gradients_of_all_calls(remat):
    model = ResNetV2((2,), 0.0625, 3)
    for variable in model.variables:
        variable.assign(keras.random.normal(variable.shape, seed=len(variable.path)) + 0.5)
    model.get_layer("block1").remat = remat
    variables = model.trainable_variables[1:]  # the kernel of the root is standardized as ever
    images = tf.random.stateless_uniform((2, 2, 32, 32, 3), (1, 2))

    def sums_of_gradients():
        sums = [0.0 for _ in variables]
        for part in (images[0], images[1]):
            values = [variable.value for variable in variables]
            with tf.GradientTape() as tape:
                tape.watch(values)
                total = tf.reduce_sum(tf.square(model(part, training=True)))
            sums = [a + b for a, b in zip(sums, tape.gradient(total, values), strict=True)]
        return sums

    @tf.function(autograph=False)
    def once():
        with standardized_once(variables) as gradients_of_variables:
            return gradients_of_variables(sums_of_gradients())

    assert_alike(once(), tf.function(sums_of_gradients, autograph=False)())
