import keras
import numpy as np
import pytest
import tensorflow as tf

from bit_keras import GroupNormalization, StdConv2D


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("strides", "padding"), [(1, "same"), (2, "valid")])
def test_std_conv_is_a_convolution_with_a_standardized_kernel(rng, strides, padding):
    x = rng.normal(size=(2, 9, 8, 4)).astype("float32")
    kernel = rng.normal(3, 2, size=(3, 3, 4, 6)).astype("float32")
    layer = StdConv2D(6, 3, strides=strides, padding=padding)
    layer.build(x.shape)
    layer.kernel.assign(kernel)
    plain = keras.layers.Conv2D(6, 3, strides=strides, padding=padding, use_bias=False)
    plain.build(x.shape)
    exact = kernel.astype("float64")
    exact = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-10)
    plain.kernel.assign(exact)
    np.testing.assert_allclose(layer(x), plain(x), atol=2e-5)


def test_std_conv_ignores_scale_and_shift_of_its_kernel(rng):
    x = rng.normal(size=(1, 6, 6, 3)).astype("float32")
    layer = StdConv2D(4, 3)
    before = layer(x)
    layer.kernel.assign(7 * layer.kernel + 2)
    np.testing.assert_allclose(layer(x), before, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 7, 5, 24), (3, 24)])
def test_group_normalization_agrees_with_keras(rng, shape):
    x = rng.normal(5, 3, size=shape).astype("float32")
    ours, theirs = GroupNormalization(8), keras.layers.GroupNormalization(8, epsilon=1e-5)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 24))
        layer.beta.assign(np.linspace(-1, 1, 24))
    np.testing.assert_allclose(ours(x), theirs(x), atol=2e-5)


def test_group_normalization_of_a_constant_is_beta():
    layer = GroupNormalization(2)
    layer.build((None, 4, 4, 4))
    layer.beta.assign([1.0, 2.0, 3.0, 4.0])
    y = np.array(layer(np.full((2, 4, 4, 4), 1000.0, "float32")))
    np.testing.assert_allclose(y, np.broadcast_to([1.0, 2.0, 3.0, 4.0], y.shape), atol=1e-4)


def test_group_normalization_survives_a_mean_far_above_the_deviation(rng):
    x = rng.normal(1000, 1, size=(2, 16, 16, 8)).astype("float32")
    exact = x.astype("float64").reshape(2, 256, 4, 2)
    deviation = np.sqrt(exact.var((1, 3), keepdims=True) + 1e-5)
    exact = ((exact - exact.mean((1, 3), keepdims=True)) / deviation).reshape(x.shape)
    np.testing.assert_allclose(GroupNormalization(4)(x), exact, atol=1e-3)


def test_group_normalization_has_the_exact_gradient(rng):
    x = tf.constant(rng.normal(3, 2, size=(2, 5, 4, 8)).astype("float32"))
    weights = tf.constant(rng.normal(size=x.shape).astype("float32"))
    gradients = []
    for layer in (GroupNormalization(4), keras.layers.GroupNormalization(4, epsilon=1e-5)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(layer(x) * weights)
        gradients.append(tape.gradient(total, x))
    np.testing.assert_allclose(*gradients, atol=1e-5)


def test_group_normalization_keeps_examples_independent(rng):
    x = rng.normal(size=(4, 6, 6, 8)).astype("float32")
    layer = GroupNormalization(4)
    np.testing.assert_allclose(layer(x)[1:2], layer(x[1:2]), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_statistics_and_kernels_stay_float32_under_mixed_precision(rng, policy):
    x = rng.normal(200, 1, size=(2, 8, 8, 16)).astype("float32")
    norm = GroupNormalization(4, dtype=policy)
    conv = StdConv2D(8, 3, dtype=policy)
    low = x.astype(norm.compute_dtype)
    exact = GroupNormalization(4)(np.array(low, "float32"))
    # All that is lost is the rounding of the result.
    np.testing.assert_allclose(np.array(norm(low), "float32"), exact, atol=0.02)
    # A large common offset drowns differences between weights in bfloat16's 8 bits, not here.
    conv.build(x.shape)
    kernel = np.array(conv.kernel)
    y = rng.normal(size=(2, 8, 8, 16)).astype("float32")
    before = np.array(conv(y), "float32")
    conv.kernel.assign(kernel + 10)
    np.testing.assert_allclose(np.array(conv(y), "float32"), before, atol=0.1, rtol=0.02)
    assert conv(y).dtype == norm(low).dtype == norm.compute_dtype


@pytest.mark.parametrize("layer", [StdConv2D(4, 3, strides=2, name="c"), GroupNormalization(3)])
def test_layers_survive_serialization(layer):
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()


def test_std_conv_takes_the_arguments_of_conv2d_in_their_order():
    layer = StdConv2D(8, 3, 2, "same")
    assert (layer.strides, layer.padding, layer.use_bias) == ((2, 2), "same", False)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="groups must be an integer of 1 or more, got 0"):
        GroupNormalization(0)
    with pytest.raises(ValueError, match="cannot cut 10 channels into 4"):
        GroupNormalization(4).build((None, 8, 8, 10))
    with pytest.raises(ValueError, match="epsilon"):
        GroupNormalization(4, epsilon=0)
