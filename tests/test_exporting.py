import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import named_weights

import bit_keras
from bit_keras import exporting
from bit_keras.exporting import ExportError


@pytest.mark.parametrize("num_classes", [5, 0])
def test_a_saved_model_serves_and_trains(num_classes, images, tmp_path):
    model = named_weights(bit_keras.ResNetV2((1, 1), 0.25, num_classes))
    assert bit_keras.export(model, tmp_path / "served") <= 1e-4
    module = tf.saved_model.load(str(tmp_path / "served"))
    expected = np.array(model(images))
    np.testing.assert_allclose(module(images), expected, atol=1e-4)
    answer = "logits" if num_classes else "features"
    served = module.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(served[answer], expected, atol=1e-4)
    names = {variable.name.split(":")[0] for variable in module.variables}
    assert names == {variable.path for variable in model.variables}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(module(images, training=True) ** 2)
    gradients = tape.gradient(loss, module.trainable_variables)
    assert len(gradients) == len(model.trainable_variables)
    assert all(gradient is not None for gradient in gradients)


def test_frozen_variables_stay_frozen_and_batch_statistics_move(images, tmp_path):
    model = bit_keras.ResNetV2((1,), 0.25, 2, norm="batch")
    model.get_layer("root_block").trainable = False
    bit_keras.export(model, tmp_path / "served")
    module = tf.saved_model.load(str(tmp_path / "served"))
    assert len(module.trainable_variables) == len(model.trainable_variables)
    before = [variable.numpy() for variable in module.variables]
    module(images, training=True)
    moved = [
        variable.name
        for variable, value in zip(module.variables, before, strict=True)
        if not np.array_equal(variable, value)
    ]
    assert moved
    assert all("moving" in name for name in moved)


@pytest.mark.parametrize(("format", "name"), [("npz", "m.npz"), ("keras", "m.keras")])
def test_weights_travel_exactly(tiny, tmp_path, format, name):
    bit_keras.export(tiny, tmp_path / name, format=format)
    twin = bit_keras.load(tmp_path / name)
    for a, b in zip(tiny.variables, twin.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_export_that_answers_wrongly_leaves_nothing(tiny, tmp_path, monkeypatch):
    off_by_a_little = keras.Model(tiny.input, tiny.output + 0.001)
    monkeypatch.setattr(exporting, "read_saved_model", lambda path: off_by_a_little)
    with pytest.raises(ExportError, match=r"up to 0\.001 where 0\.0001 was allowed"):
        bit_keras.export(tiny, tmp_path / "served")
    assert list(tmp_path.iterdir()) == []


def test_nan_is_no_agreement(tmp_path):
    model = bit_keras.ResNetV2((1,), 0.25, 2)
    model.get_layer("head").conv.bias.assign([np.nan, 0.0])
    with pytest.raises(ExportError, match="nan"):
        bit_keras.export(model, tmp_path / "served")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_named_and_nothing_is_touched(tiny, tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served/thesis.doc").write_text("x")
    with pytest.raises(ExportError, match="exists already"):
        bit_keras.export(tiny, tmp_path / "served")
    with pytest.raises(ExportError, match="format must be one of"):
        bit_keras.export(tiny, tmp_path / "b", format="h5")
    with pytest.raises(ExportError, match=r"must end in \.npz"):
        bit_keras.export(tiny, tmp_path / "b", format="npz")
    for variant, reason in (
        ({"groups": 4}, "does not record the number of groups, 4"),
        ({"norm": "batch"}, "cannot hold batch normalisation"),
        ({"conv": "plain"}, "cannot hold plain convolutions"),
    ):
        other = bit_keras.ResNetV2((1,), 0.25, 2, **variant)
        with pytest.raises(ExportError, match=reason):
            bit_keras.export(other, tmp_path / "b.npz", format="npz")
    with pytest.raises(ExportError, match="must not hold any of"):
        bit_keras.export(tiny, tmp_path / "a[1]")
    assert [path.name for path in tmp_path.rglob("*")] == ["served", "thesis.doc"]
