import pathlib

import keras
import numpy as np
import pytest
from conftest import named_weights

import bit_keras
from bit_keras.models.resnet_v2 import freeze_before, pyramid, with_head

GOLDEN = pathlib.Path(__file__).with_name("golden")
STAGES = ("root_block", "block1", "block2", "block3", "block4")


@pytest.mark.parametrize(
    ("file", "depth", "width"),
    [("R50x1_64px", 50, 1), ("R101x1_96px", 101, 1), ("R50x3_65px", 50, 3)],
)
def test_golden_outputs_of_timm_and_transformers(file, depth, width):
    golden = np.load(GOLDEN / f"{file}.npz")
    # Zeros, for drawing what is overwritten next takes longer than all else.
    model = named_weights(bit_keras.ResNetV2(depth, width, 10, kernel_initializer="zeros"))
    assert model.count_params() == golden["nparams"]
    size = int(golden["px"])
    images = np.random.default_rng(size).uniform(-1, 1, (2, size, size, 3)).astype("float32")
    taps = [model.get_layer(name).output for name in (*STAGES, "pooled")]
    *features, pooled, logits = keras.Model(model.input, [*taps, model.output])((images + 1) / 2)
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)
    np.testing.assert_allclose(logits, golden["logits_transformers"], atol=1e-4)
    np.testing.assert_allclose(pooled[:, :256], golden["pooled"], atol=1e-4)
    for i, feature in enumerate(features):
        assert feature.shape == tuple(golden[f"tap{i}_shape"])
        expected = golden[f"tap{i}_mean"]
        # Residual sums grow to 60 here: float32 cannot hold 1e-4 of that but relatively.
        scale = max(1.0, np.abs(expected).max())
        means = np.mean(feature, axis=(1, 2))[:, :64]
        np.testing.assert_allclose(means, expected, atol=1e-4 * scale)


def test_every_variable_has_its_canonical_name(tiny):
    paths = [variable.path for variable in tiny.variables]
    assert len(set(paths)) == len(paths)
    unit = {
        f"block2/unit01/{conv}/{name}"
        for conv in "abc"
        for name in ("group_norm/gamma", "group_norm/beta", "standardized_conv2d/kernel")
    }
    assert unit | {"block2/unit01/a/proj/standardized_conv2d/kernel"} == {
        path for path in paths if path.startswith("block2/")
    }
    rest = {path for path in paths if not path.startswith("block")}
    assert rest == {
        "root_block/standardized_conv2d/kernel",
        "group_norm/gamma",
        "group_norm/beta",
        "head/conv2d/kernel",
        "head/conv2d/bias",
    }


def test_keras_file_round_trip_is_exact(tiny, images, tmp_path):
    tiny.save(tmp_path / "tiny.keras")
    twin = keras.saving.load_model(tmp_path / "tiny.keras")
    np.testing.assert_array_equal(twin(images), tiny(images))
    assert [v.path for v in twin.variables] == [v.path for v in tiny.variables]


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (224, 96)])
def test_any_size_and_symbolic_shapes_agree(size):
    model = bit_keras.ResNetV2((1, 2, 1, 1), 0.25, 3)
    taps = [model.get_layer(name).output for name in STAGES]
    fixed = keras.Input((*size, 3), batch_size=2)
    extractor = keras.Model(model.input, taps)
    symbolic = [tuple(x.shape) for x in extractor(fixed)]
    x = np.zeros((2, *size, 3), "float32")
    assert symbolic == [tuple(y.shape) for y in extractor(x)]
    assert model(x).shape == (2, 3)


def test_a_pyramid_gives_feature_maps_by_level(tiny, images):
    maps = pyramid(tiny, ("P1", "P2", "P3", "P4", "P5"))(images)  # of 48 x 40 pixels, width 1/4
    assert {level: tuple(x.shape) for level, x in maps.items()} == {
        "P1": (4, 24, 20, 16),
        "P2": (4, 12, 10, 64),
        "P3": (4, 6, 5, 128),
        "P4": (4, 3, 3, 256),
        "P5": (4, 2, 2, 512),
    }
    blocks = keras.Model(tiny.input, [tiny.get_layer(name).output for name in STAGES])(images)
    for expected, found in zip(blocks, maps.values(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_pyramid_shares_the_models_variables(images):
    model = bit_keras.ResNetV2((1, 1), 0.25, 3)
    maps = pyramid(model, ["P3", "P2"])
    assert list(maps(images)) == ["P3", "P2"]
    own = {id(variable): variable.path for variable in model.variables}
    shared = {own[id(variable)] for variable in maps.variables}
    body = {path for path in own.values() if path.startswith(("root_block", "block"))}
    assert shared == body
    assert set(pyramid(model, ["P2"]).output) == {"P2"}
    with pytest.raises(ValueError, match=r"levels must be some of P1, P2, P3, .* got P4, P5"):
        pyramid(model)


def test_permuting_the_batch_permutes_the_logits(tiny, images):
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(tiny(images[order]), np.array(tiny(images))[order], atol=1e-5)


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("conv", ["standardized", "plain"])
def test_ablation_variants_learn_and_survive_saving(norm, conv, images, tmp_path):
    model = bit_keras.ResNetV2((1, 1), 0.25, 2, norm=norm, conv=conv)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)  # XLA takes longer to compile than this to train
    labels = np.array([0, 1, 0, 1])
    losses = model.fit(images, labels, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    twin = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(twin(images), model(images), atol=1e-6)
    has_statistics = any("moving_mean" in v.path for v in model.variables)
    assert has_statistics == (norm == "batch")


def test_zero_classes_are_features_and_a_new_head_is_zero(tiny, images):
    features = with_head(tiny, 0)
    assert features(images).shape == (4, 512)
    headed = with_head(tiny, 7)
    np.testing.assert_array_equal(headed(images), np.zeros((4, 7)))
    assert headed.get_layer("block1") is tiny.get_layer("block1")


def test_mixed_precision_gives_float32_logits_close_to_the_exact(tiny, images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 5)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(tiny.get_weights())
    logits = mixed(images)
    assert logits.dtype == "float32"
    assert all(v.dtype == "float32" for v in mixed.variables)
    exact = np.array(tiny(images))
    np.testing.assert_allclose(logits, exact, atol=0.05 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 18}, r"depth must be of \[14, 26, 50, 101, 152\], or"),
        ({"depth": ()}, "depth must be"),
        ({"width": 0}, "width must make"),
        ({"width": 0.33}, "width must make"),
        ({"num_classes": -3}, r"num_classes must be 0 \(features\) or more, got -3"),
        ({"norm": "layer"}, 'norm must be "group" or "batch"'),
        ({"conv": "ws"}, "conv must be"),
        ({"groups": 7}, "into 7 equal groups"),
        ({"groups": 0}, "groups must be an integer of 1 or more"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        bit_keras.ResNetV2(**arguments)


@pytest.mark.slow
def test_what_is_frozen_stays_frozen_inside_a_bigger_model_that_is_saved(tmp_path):
    """As with the models of keras.applications, whose layers are all layers of the model."""
    body = bit_keras.ResNetV2((2, 1), 0.25, 0)
    freeze_before(body, "block1/unit02")
    trainable = [v.path for v in body.trainable_variables]
    assert not any(path.startswith(("root_block", "block1/unit01")) for path in trainable)
    for frozen, expected in ((False, len(trainable) + 2), (True, 2)):
        body.trainable = not frozen if frozen else body.trainable
        images = keras.Input((32, 32, 3))
        whole = keras.Model(images, keras.layers.Dense(3, name="top")(body(images)))
        whole.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
        whole.fit(np.ones((2, 32, 32, 3)), np.ones((2, 3)), verbose=0)
        whole.save(tmp_path / "whole.keras")
        loaded = keras.saving.load_model(tmp_path / "whole.keras")
        assert len(loaded.trainable_variables) == expected
        momenta = zip(loaded.optimizer.variables, whole.optimizer.variables, strict=True)
        assert all(np.array_equal(a, b) for a, b in momenta)


def test_a_file_of_mixed_precision_loads_under_another_policy(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = bit_keras.ResNetV2((1,), 0.25, 3)
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "m.keras")
    loaded = bit_keras.load(tmp_path / "m.keras")
    unit = loaded.get_layer("block1").units[0]
    assert unit.conv_a.compute_dtype == unit.norm_a.compute_dtype == "bfloat16"
    images = np.random.default_rng(0).uniform(size=(1, 32, 32, 3))
    np.testing.assert_array_equal(loaded(images), model(images))
