"""Weights from and for others: timm, transformers and SavedModels."""

import json
import os
import sys
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from conftest import named_weights

import bit_keras
from bit_keras.checkpoints import (
    CheckpointError,
    open_safetensors,
    open_saved_model,
    save_npz,
    save_timm,
    save_transformers,
)
from bit_keras.models import zoo


def weights(model):
    return {variable.path: variable.numpy() for variable in model.variables}


def assert_same_weights(model, expected):
    found = weights(model)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.fixture(scope="module")
def r50():
    return weights(named_weights(bit_keras.ResNetV2(50, 1, 10, kernel_initializer="zeros")))


@pytest.fixture(scope="module")
def arrays(tiny):
    return weights(tiny)


@pytest.fixture
def transformers_file(arrays, tmp_path):
    save_transformers(tmp_path / "peer", arrays, groups=8)
    return tmp_path / "peer/model.safetensors"


# timm and transformers


def test_r50x1_travels_through_npz_timm_and_transformers_exactly(r50, tmp_path):
    save_npz(tmp_path / "a.npz", r50)
    model = bit_keras.load(tmp_path / "a.npz")
    for save in (save_timm, save_transformers):
        save(tmp_path / save.__name__, weights(model))
        model = bit_keras.load(tmp_path / save.__name__)
        assert_same_weights(model, r50)
    assert model.name == "save_transformers"


@pytest.mark.parametrize("num_classes", [3, 0])
def test_other_depths_and_widths_travel_through_transformers(num_classes, tmp_path):
    expected = weights(named_weights(bit_keras.ResNetV2((2, 1, 11), 0.5, num_classes)))
    save_transformers(tmp_path, expected, groups=16)
    assert_same_weights(bit_keras.load(tmp_path / "model.safetensors"), expected)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["depths"] == [2, 1, 11]
    assert config["hidden_sizes"] == [128, 256, 512]
    assert len(config["id2label"]) == num_classes


@pytest.mark.parametrize(
    ("save", "root", "unit", "head"),
    [
        (save_timm, "stem.conv", "stages.{}.blocks.{}", "head.fc"),
        (save_transformers, "bit.embedder.convolution", "bit.encoder.stages.{}.layers.{}", 0),
    ],
)
def test_files_have_the_names_and_the_layout_of_pytorch(r50, save, root, unit, head, tmp_path):
    save(tmp_path, r50)
    file = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert len(file) == len(r50)
    kernel = r50["root_block/standardized_conv2d/kernel"]
    assert file[f"{root}.weight"][63, 2, 5, 1] == kernel[5, 1, 2, 63]
    kernel = r50["block3/unit06/b/standardized_conv2d/kernel"]
    assert file[unit.format(2, 5) + ".conv2.weight"][7, 9, 0, 2] == kernel[0, 2, 9, 7]
    np.testing.assert_array_equal(
        file[unit.format(0, 2) + ".norm3.bias"], r50["block1/unit03/c/group_norm/beta"]
    )
    kernel = r50["block4/unit01/a/proj/standardized_conv2d/kernel"]
    assert file[unit.format(3, 0) + ".downsample.conv.weight"][5, 4, 0, 0] == kernel[0, 0, 4, 5]
    weight = file["head.fc.weight"] if head else file["classifier.1.weight"]
    assert weight.shape == ((10, 2048, 1, 1) if head else (10, 2048))
    np.testing.assert_array_equal(np.squeeze(weight).T, r50["head/conv2d/kernel"][0, 0])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_precisions_and_a_body_without_a_head_load(dtype, transformers_file, arrays):
    file = safetensors.numpy.load_file(transformers_file)
    body = {
        name.removeprefix("bit."): array.astype(dtype)
        for name, array in file.items()
        if not name.startswith("classifier")
    }
    safetensors.numpy.save_file(body, transformers_file)
    expected = {
        name: array.astype(dtype).astype("float32")
        for name, array in arrays.items()
        if not name.startswith("head/")
    }
    assert_same_weights(bit_keras.load(transformers_file), expected)


def test_heads_and_random_weights_are_the_callers_choice(transformers_file, arrays, images):
    headed = bit_keras.load(transformers_file, num_classes=7)
    np.testing.assert_array_equal(headed(images), np.zeros((4, 7)))
    assert bit_keras.load(transformers_file, num_classes=0).output.shape == (None, 512)
    random = bit_keras.load(transformers_file, init="random")
    assert random.output.shape == (None, 5)
    name = "root_block/standardized_conv2d/kernel"
    assert not np.array_equal(weights(random)[name], arrays[name])


def test_opening_a_safetensors_reads_no_array(r50, tmp_path):
    save_timm(tmp_path, r50)
    tracemalloc.start()
    checkpoint = open_safetensors(tmp_path / "model.safetensors")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert checkpoint.shapes == {name: array.shape for name, array in r50.items()}


def test_safetensors_of_another_architecture_list_the_differences(transformers_file):
    file = safetensors.numpy.load_file(transformers_file)
    resnet = {"conv1.weight": np.zeros((64, 3, 7, 7)), "layer1.0.bn1.num_batches_tracked": 0}
    safetensors.numpy.save_file({k: np.array(v) for k, v in resnet.items()}, transformers_file)
    with pytest.raises(CheckpointError, match=r"missing: stem\.conv\.weight .*left over: conv1\."):
        bit_keras.load(transformers_file)
    file["bit.encoder.stages.0.layers.0.norm1.num_batches_tracked"] = np.array(0)
    del file["bit.encoder.stages.0.layers.0.norm1.bias"]
    safetensors.numpy.save_file(file, transformers_file)
    with pytest.raises(
        CheckpointError,
        match=r"missing: block1/unit01/a/group_norm/beta; "
        r"left over: bit\.encoder\.stages\.0\.layers\.0\.norm1\.num_batches_tracked\)",
    ):
        bit_keras.load(transformers_file)


def test_quantized_and_damaged_safetensors_are_refused(transformers_file):
    whole = transformers_file.read_bytes()
    for length in (0, 4, 100, len(whole) - 1):
        transformers_file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is damaged or was cut short"):
            bit_keras.load(transformers_file)
    transformers_file.write_bytes(whole)
    file = safetensors.numpy.load_file(transformers_file)
    file["bit.norm.weight"] = file["bit.norm.weight"].astype("int8")
    safetensors.numpy.save_file(file, transformers_file)
    with pytest.raises(CheckpointError, match=r"bit\.norm\.weight in .* has dtype I8"):
        bit_keras.load(transformers_file)


def test_what_a_peer_cannot_hold_is_not_written(arrays, tmp_path):
    with pytest.raises(CheckpointError, match=r"timm has no BiT with units .* at width 0\.25"):
        save_timm(tmp_path / "a", arrays)
    narrow = weights(bit_keras.ResNetV2((1,), 4 / 64, 2))
    with pytest.raises(CheckpointError, match=r"multiples of 8 .* 4 root channels"):
        save_transformers(tmp_path / "a", narrow)
    batch = weights(bit_keras.ResNetV2((1,), 0.25, 2, norm="batch"))
    with pytest.raises(CheckpointError, match=r"cannot save .*batch_norm/"):
        save_transformers(tmp_path / "a", batch)
    assert not (tmp_path / "a").exists()


# SavedModels


def test_our_export_travels_exactly_and_is_not_executed(tmp_path):
    model = named_weights(bit_keras.ResNetV2((1,), 0.25, 5))
    bit_keras.export(model, tmp_path / "served")
    (tmp_path / "served/saved_model.pb").write_bytes(b"not a graph")
    assert_same_weights(bit_keras.load(tmp_path / "served"), weights(model))
    headed = bit_keras.load(tmp_path / "served", num_classes=7)
    assert headed.output.shape == (None, 7)
    assert np.count_nonzero(headed.get_layer("head").conv.kernel) == 0


def test_groups_that_weights_do_not_tell_are_not_guessed(tmp_path):
    bit_keras.export(bit_keras.ResNetV2((1, 1), 0.5, 3, groups=4), tmp_path / "module")
    with pytest.raises(CheckpointError, match="left over: groups"):
        bit_keras.load(tmp_path / "module")


def test_an_export_of_keras_itself_travels_exactly(tmp_path):
    model = named_weights(bit_keras.ResNetV2((1,), 0.25, 2))
    model.export(tmp_path / "served", verbose=False)
    assert_same_weights(bit_keras.load(tmp_path / "served"), weights(model))


def save_module(path, arrays, spelling="resnet/{}", **attributes):
    """A module as TF-Hub has them: variables in one list, named by the scopes they were made in."""
    module = tf.train.Checkpoint(**attributes)
    module.variables = [
        tf.Variable(array, name=spelling.format(name)) for name, array in arrays.items()
    ]
    tf.saved_model.save(module, str(path))
    return module


@pytest.mark.parametrize("scope", ["standardized_conv2d", "standardized_conv2d_7"])
def test_a_module_with_published_names_becomes_a_native_model(
    scope, arrays, images, tiny, tmp_path
):
    published = {name.replace("standardized_conv2d", scope): a for name, a in arrays.items()}
    save_module(tmp_path / "hub", published)
    model = bit_keras.load(tmp_path / "hub")
    np.testing.assert_array_equal(model(images), tiny(images))
    assert len(model.trainable_variables) == len(arrays)


def test_what_an_optimizer_left_is_no_part_of_the_model(arrays, tmp_path):
    module = save_module(tmp_path / "a", arrays, optimizer=tf.Module())
    module.optimizer.momentum = [tf.Variable(array, name=name) for name, array in arrays.items()]
    tf.saved_model.save(module, str(tmp_path / "b"))
    assert_same_weights(bit_keras.load(tmp_path / "b"), arrays)


def test_saved_models_of_another_architecture_list_the_differences(arrays, tmp_path):
    save_module(tmp_path / "a", {"conv1/kernel": np.zeros((7, 7, 3, 64), "float32")})
    with pytest.raises(
        CheckpointError, match=r"missing: root_block/standardized_conv2d/.*left over: conv1/kernel"
    ):
        bit_keras.load(tmp_path / "a")
    other = {**arrays, "ema_decay": np.float32(0.9)}
    del other["group_norm/beta"]
    save_module(tmp_path / "b", other)
    with pytest.raises(CheckpointError, match="missing: group_norm/beta; left over: ema_decay"):
        bit_keras.load(tmp_path / "b")


def test_saved_models_that_cannot_be_read_say_why(arrays, tmp_path):
    frozen = tf.Module()
    frozen.call = tf.function(lambda x: x + 1.0, input_signature=[tf.TensorSpec([None])])
    tf.saved_model.save(frozen, str(tmp_path / "frozen"))
    with pytest.raises(CheckpointError, match=r"frozen holds no variables, .* frozen from$"):
        bit_keras.load(tmp_path / "frozen")
    (tmp_path / "old/variables").mkdir(parents=True)
    (tmp_path / "old/saved_model.pb").touch()
    prefix = str(tmp_path / "old/variables/variables")
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["w"], shape_and_slices=[""], tensors=[1.0])
    with pytest.raises(CheckpointError, match="was saved by TensorFlow 1"):
        bit_keras.load(tmp_path / "old")
    save_module(tmp_path / "two", arrays, more=tf.Variable(1.0, name="group_norm/beta"))
    with pytest.raises(CheckpointError, match="two variables for group_norm/beta"):
        bit_keras.load(tmp_path / "two")
    save_module(tmp_path / "whole", arrays)
    (tmp_path / "whole").rename(tmp_path / "a[1]")
    with pytest.raises(CheckpointError, match="move it to another path"):
        bit_keras.load(tmp_path / "a[1]")
    (tmp_path / "a[1]").rename(tmp_path / "whole")
    data = tmp_path / "whole/variables/variables.data-00000-of-00001"
    damaged = bytearray(data.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    data.write_bytes(damaged)
    checkpoint = open_saved_model(tmp_path / "whole")
    with pytest.raises(CheckpointError, match="is damaged or was cut short"):
        dict(checkpoint)


# What a command asks before it reads any data


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://me", "expected hf://ORG/NAME or hf://ORG/NAME@REVISION, got hf://me"),
        (
            "none.safetensors",
            r"there is no file none\.safetensors; expected one of list_models\(\)",
        ),
        (os.curdir, "holds neither a saved_model.pb nor a model.safetensors"),
        (__file__, r"cannot load .*; expected one of list_models\(\)"),
    ],
)
def test_sources_are_checked_before_anything_is_read(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        zoo.check_source(source)


@pytest.mark.parametrize("package", ["safetensors", "huggingface_hub"])
def test_a_missing_extra_names_the_line_that_installs_it(
    package, transformers_file, monkeypatch, arrays, tmp_path
):
    monkeypatch.setitem(sys.modules, package, None)  # as Python itself marks what is not there
    for source in ("hf://me/bit", transformers_file, transformers_file.parent):
        with pytest.raises(
            CheckpointError, match=rf'{package} .*pip install "bit-keras\[interop\]"'
        ):
            zoo.check_source(source)
    with pytest.raises(CheckpointError, match=rf"{package} is needed"):
        save_transformers(tmp_path / "a", arrays)
