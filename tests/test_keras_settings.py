"""Precision and layout, as Keras is set to: honored, or refused in one sentence."""

import keras
import numpy as np
import pytest
from conftest import named_weights

import bit_keras
from bit_keras.models.resnet_v2 import with_head


@pytest.fixture
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


PRECISIONS = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16", "float64")


@pytest.mark.parametrize("policy", PRECISIONS, indirect=True)
def test_weights_and_answers_are_float32_in_every_precision(policy, tiny, images):
    model = named_weights(bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 5))
    assert model.get_layer("block1").compute_dtype == policy.removeprefix("mixed_")
    assert {variable.dtype for variable in model.variables} == {"float32"}
    found, exact = np.array(model(images)), np.array(tiny(images))
    assert found.dtype == "float32"
    close = 1e-5 if policy == "float64" else 0.05
    np.testing.assert_allclose(found, exact, atol=close * np.abs(exact).max())


@pytest.mark.parametrize("policy", ["float16", "mixed_float16"], indirect=True)
def test_it_learns_in_half_precision(policy, images):
    model = bit_keras.ResNetV2((1, 1), 0.25, 2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    losses = model.fit(images, np.array([0, 1, 0, 1]), epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("policy", ["float16", "mixed_float16"], indirect=True)
@pytest.mark.parametrize("top", [300.0, 60_000.0])
def test_half_precision_overflows_nowhere_in_group_normalization(policy, top):
    """The largest float16 is 65,504; squares and sums of these values are far above it."""
    x = np.linspace(top / 2, top, 2 * 16 * 16 * 8, dtype="float16").reshape(2, 16, 16, 8)
    found = np.array(bit_keras.GroupNormalization(4)(x))
    assert found.dtype == "float16"
    theirs = keras.layers.GroupNormalization(4, epsilon=1e-5, dtype="float32")
    exact = np.array(theirs(x.astype("float32")))
    assert np.ptp(exact) > 3
    np.testing.assert_allclose(found.astype("float32"), exact, atol=2e-3)


def test_channels_first_is_refused_in_one_sentence(channels_first, tiny):
    for refused in (
        lambda: bit_keras.ResNetV2((1,), 0.25, 3, norm="batch"),
        lambda: bit_keras.load("BiT-XS-R26x0.25"),
        lambda: bit_keras.GroupNormalization(4),
        lambda: with_head(tiny, 3),
    ):
        with pytest.raises(ValueError, match=r"^BiT takes images of \[batch, height, .* first\.$"):
            refused()


def test_a_saved_model_is_refused_under_channels_first(tiny, tmp_path):
    tiny.save(tmp_path / "tiny.keras")
    keras.config.set_image_data_format("channels_first")
    try:
        for read, error in ((bit_keras.load, ValueError), (keras.saving.load_model, TypeError)):
            with pytest.raises(error, match="and Keras is set to channels_first; call keras"):
                read(tmp_path / "tiny.keras")  # Keras names the layer in an error of its own
    finally:
        keras.config.set_image_data_format("channels_last")


def test_a_standardized_convolution_alone_takes_channels_first(channels_first):
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 7)).astype("float32")
    layer = bit_keras.StdConv2D(4, 3, padding="same")
    found = np.array(layer(x))
    last = bit_keras.StdConv2D(4, 3, padding="same", data_format="channels_last")
    last.build((None, 8, 7, 3))
    last.kernel.assign(layer.kernel)
    expected = np.array(last(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)
