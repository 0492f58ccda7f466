"""Edge values everywhere: no images, NaN and infinity, pixels in another range, ragged arrays."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import bit_keras
from bit_keras import data

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def model():
    return bit_keras.ResNetV2((1,), 0.25, 3)


def test_no_images_give_no_answers(model):
    nothing = np.zeros((0, 40, 40, 3), np.float32)
    assert model(nothing).shape == (0, 3)
    assert bit_keras.ResNetV2((1, 1), 0.25, 0)(nothing).shape == (0, 128)
    assert bit_keras.StdConv2D(5, 3, strides=2)(nothing).shape == (0, 19, 19, 5)
    assert bit_keras.GroupNormalization(3)(nothing).shape == nothing.shape


@pytest.mark.parametrize("value", [NAN, INF, -1.0])
@pytest.mark.parametrize("setting", ["base_lr", "mixup_alpha", "cutmix_alpha"])
def test_rules_are_finite(setting, value):
    with pytest.raises(ValueError, match=rf"{setting} must be .*, got {value}"):
        bit_keras.HyperRule.release(10, (32, 32)).replace(**{setting: value})


@pytest.mark.parametrize("value", [NAN, INF, 0.0, 1.0])
def test_fractions_lie_between_0_and_1(value):
    train, _ = data.digits()
    with pytest.raises(data.DataError, match="test_fraction must lie between 0 and 1"):
        train.split(value)
    with pytest.raises(data.DataError, match="validation must be a part of the images"):
        data.with_validation(train, str(value))


FOUR = np.zeros((4, 8, 8, 3), np.float32)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (FOUR + np.float32(NAN), [0, 1, 0, 1], "floats in .*nan, nan"),
        (FOUR + np.float32(INF), [0, 1, 0, 1], "floats in .*inf, inf"),
        (FOUR[:0], [], "holds no images"),
        (FOUR, [0, 1, NAN, 1], "must be integers"),
        (FOUR, np.array([0, 1, 10, 2], object), "must be integers"),
        ([FOUR[0], FOUR[0, :5]], [0, 1], "arrays of one shape, got list of several"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, labels, message):
    with pytest.raises(data.DataError, match=message):
        data.from_arrays(images, labels)


def test_labels_may_be_names():
    train, test = data.from_arrays(FOUR, ["dog", "ape", "ape", "dog"], test=(FOUR[:1], ["dog"]))
    assert train.class_names == ("ape", "dog")
    assert (train.labels.tolist(), test.labels.tolist()) == ([1, 0, 0, 1], [1])
    names = np.array(["dog", "ape", "ape", "dog"], object)
    train, _ = data.from_arrays(FOUR, names, class_names=["dog", "ape"], test=(FOUR, names))
    assert train.labels.tolist() == [0, 1, 1, 0]
    with pytest.raises(data.DataError, match="labels must be of class_names, got 'dog'"):
        data.from_arrays(FOUR, names, class_names=["ape", "cat"])


def as_dataset(images):
    return tf.data.Dataset.from_tensor_slices((images, np.zeros((len(images), 3)))).batch(2)


@pytest.mark.parametrize(
    "use",
    [
        lambda model, images: model(images),
        lambda model, images: model(tf.constant(images)),
        lambda model, images: model.predict(images, verbose=0),
        lambda model, images: model.evaluate(x=images, y=np.zeros((len(images), 3)), verbose=0),
        lambda model, images: model.fit(as_dataset(images), verbose=0),
        lambda model, images: keras.Sequential([model])(images),
    ],
)
def test_images_in_0_to_255_are_warned_of(model, use):
    model.compile("sgd", "categorical_crossentropy")
    bright = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    with pytest.warns(UserWarning, match="images must lie in .0, 1., and these look like 0 .. 255"):
        use(model, bright)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "`shuffle=True` was passed")
        use(model, bright / 255)
        use(model, bright / 128 - 1)
