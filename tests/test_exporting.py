import dataclasses
import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import named_weights

import bit_keras
from bit_keras.exporting import FORMATS, Artifact, ExportError, open_artifact
from bit_keras.exporting.proof import compare
from bit_keras.exporting.weight_files import write_keras

LABELS = ["ant", "bee", "cat", "dog", "eel"]


@pytest.fixture(scope="module")
def small():
    """One unit; quick to trace."""
    return named_weights(bit_keras.ResNetV2((1,), 0.25, 5, name="small"))


@pytest.mark.parametrize("num_classes", [5, 0])
def test_a_saved_model_serves_and_trains(num_classes, images, tmp_path):
    model = named_weights(bit_keras.ResNetV2((1, 1), 0.25, num_classes))
    assert bit_keras.export(model, tmp_path / "served", size=64) <= 1e-4
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


@pytest.fixture(scope="module")
def frozen(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("frozen") / "served"
    bit_keras.export(small, path, frozen=True, labels=LABELS, size=40)
    return tf.saved_model.load(str(path))


def test_a_saved_model_takes_bytes_and_names_what_it_sees(small, frozen):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    logits = np.array(small(pixels / np.float32(255)))
    served = frozen.signatures["serve_uint8"](images=tf.constant(pixels))
    np.testing.assert_allclose(served["logits"], logits, atol=1e-4)
    # A file of another size is resized to 40 first: every pixel twice leaves the same image.
    large = pixels[1].repeat(2, axis=0).repeat(2, axis=1)
    files = tf.stack([tf.io.encode_png(pixels[0]), tf.io.encode_png(large)])
    served = frozen.signatures["serve_encoded"](encoded=files)
    np.testing.assert_allclose(served["logits"], logits, atol=1e-4)
    order = np.argsort(-logits, axis=1)
    assert served["class_names"].numpy().tolist() == [
        [LABELS[n].encode() for n in row] for row in order
    ]
    expected = np.take_along_axis(np.array(keras.ops.softmax(logits)), order, axis=1)
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-5)
    jpeg = tf.io.encode_jpeg(pixels[0])
    assert frozen.signatures["serve_encoded"](encoded=jpeg[None])["logits"].shape == (1, 5)


def test_a_frozen_saved_model_standardizes_nothing(small, frozen, images):
    np.testing.assert_allclose(frozen(images), small(images), atol=1e-4)
    assert len(frozen.trainable_variables) == 0
    kernels = [v.numpy() for v in frozen.variables if "/conv2d/kernel" in v.name][:-1]  # no head
    assert len(kernels) == 5
    for kernel in kernels:
        np.testing.assert_allclose(kernel.mean((0, 1, 2)), 0, atol=1e-6)
        np.testing.assert_allclose(kernel.std((0, 1, 2)), 1, atol=1e-5)


def test_frozen_variables_stay_frozen_and_batch_statistics_move(images, tmp_path):
    model = bit_keras.ResNetV2((1,), 0.25, 2, norm="batch")
    model.get_layer("root_block").trainable = False
    bit_keras.export(model, tmp_path / "served", size=64)
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


@pytest.mark.parametrize(
    ("format", "name"), [("npz", "m.npz"), ("keras", "m.keras"), ("transformers", "m")]
)
def test_weights_travel_exactly(tiny, tmp_path, format, name):
    assert bit_keras.export(tiny, tmp_path / name, format=format, size=64) == 0
    twin = bit_keras.load(tmp_path / name)
    for a, b in zip(tiny.variables, twin.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_trained_in_bfloat16_leaves_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = named_weights(bit_keras.ResNetV2((1,), 0.25, 5))
        bit_keras.export(model, tmp_path / "m.npz", format="npz", size=64)
        bit_keras.export(model, tmp_path / "frozen", frozen=True, size=64)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    images = np.random.default_rng(0).uniform(size=(2, 40, 40, 3)).astype("float32")
    expected = bit_keras.load(tmp_path / "m.npz")(images)
    frozen = tf.saved_model.load(str(tmp_path / "frozen"))
    np.testing.assert_allclose(frozen(images), expected, atol=1e-4)


def test_the_proof_is_printed_and_written_beside_the_artifact(small, tmp_path, capsys):
    own = np.random.default_rng(0).uniform(size=(3, 50, 70, 3))
    for images, count in ((None, 16), (own, 3), (bit_keras.data.digits(10)[0], 100)):
        path = tmp_path / f"{count}.npz"
        difference = bit_keras.export(small, path, format="npz", images=images, size=48)
        proof = json.loads((tmp_path / f"{count}.npz.proof.json").read_text())
        assert proof["largest_difference"] == difference
        assert proof["images"] == count
        assert proof["sizes"] == [[48, 48], [97, 97], [96, 160]]
        assert proof["scale"] > 0
        assert proof["passed"]
        printed = capsys.readouterr().out
        assert f"{path}: float32 npz export" in printed
        assert proof["proven"].startswith("Answers of Keras, with the weights and facts that were")
        assert proof["not_proven"] == ""
        assert "not compared" not in printed


def test_a_proof_says_what_it_does_not_prove(small, tmp_path, capsys):
    bit_keras.export(small, tmp_path / "m", format="transformers", labels=LABELS, size=48)
    proof = json.loads((tmp_path / "m.proof.json").read_text())
    assert proof["proven"].startswith("Answers of Keras, with the weights and facts that were")
    assert proof["proven"].endswith("preparation of pictures were read back from it.")
    assert proof["not_proven"].startswith("Not compared: answers of transformers itself")
    [line] = capsys.readouterr().out.splitlines()
    assert " proven: answers are within 0 " in line
    assert "; not compared: answers of transformers itself, with its own preparation" in line


def test_an_export_that_answers_wrongly_leaves_nothing(small, tmp_path, monkeypatch):
    off = keras.Model(small.input, small.output + 0.001)
    wrong = dataclasses.replace(
        FORMATS["keras"], write=lambda _, *args, **facts: write_keras(off, *args, **facts)
    )
    monkeypatch.setitem(FORMATS, "keras", wrong)
    with pytest.raises(ExportError, match=r"within 0\.001 of .* 0\.0001 is allowed"):
        bit_keras.export(small, tmp_path / "m.keras", format="keras", size=64)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def two_outputs():
    """A model that answers a dictionary."""
    images = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(2, 3, padding="same")(images)
    means = keras.layers.GlobalAveragePooling2D()(maps)
    return keras.Model(images, {"maps": maps, "means": means}, name="two_outputs")


@pytest.mark.parametrize(
    ("format", "name"),
    [
        *(("saved_model", "m"), ("keras", "m.keras"), ("litert", "m.tflite")),
        *(("onnx", "m.onnx"), ("openvino", "m")),
    ],
)
def test_a_dictionary_of_answers_is_exported_as_it_is(two_outputs, images, tmp_path, format, name):
    bit_keras.export(two_outputs, tmp_path / name, format, size=48)
    answers, expected = open_artifact(tmp_path / name).compute(images), two_outputs(images)
    assert answers.keys() == {"maps", "means"}
    for output, value in expected.items():
        np.testing.assert_allclose(answers[output], value, atol=1e-5)
    assert json.loads((tmp_path / f"{name}.proof.json").read_text())["top1_agreement"] is None


def test_nested_answers_are_compared_part_by_part():
    def model(images):
        return {"maps": images, "means": (images.mean((1, 2)), images.max((1, 2)))}

    def close(images):
        return {"maps": images, "means": (images.mean((1, 2)), images.max((1, 2)) + 0.25)}

    def shorter(images):
        return {"maps": images[:, 1:], "means": (images.mean((1, 2)), images.max((1, 2)))}

    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found = compare(model, Artifact(close), pixels, all_sizes=True)
    assert found["largest_difference"] == pytest.approx(0.25, abs=1e-6)
    assert found["scale"] == pytest.approx(pixels.max() / 255)
    assert found["top1_agreement"] is None
    with pytest.raises(ExportError, match="where the model answers in"):
        compare(model, Artifact(shorter), pixels, all_sizes=False)
    with pytest.raises(ValueError, match="key"):
        compare(model, Artifact(lambda images: {"maps": images}), pixels, all_sizes=False)
    other_route = Artifact(model, routes={"other": lambda pixels: close(pixels / np.float32(255))})
    found = compare(model, other_route, pixels, all_sizes=False)
    assert found["largest_difference"] == pytest.approx(0.25, abs=1e-6)


def test_nan_is_no_agreement(tmp_path):
    model = bit_keras.ResNetV2((1,), 0.25, 2)
    model.get_layer("head").conv.bias.assign([np.nan, 0.0])
    with pytest.raises(ExportError, match="numbers that are not finite"):
        bit_keras.export(model, tmp_path / "m.npz", format="npz", size=64)
    assert list(tmp_path.iterdir()) == []


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("format", "name"), [("npz", "m.npz"), ("transformers", "m")])
def test_an_old_export_is_replaced_only_when_told_and_only_by_a_proven_one(
    small, tmp_path, format, name
):
    bit_keras.export(small, tmp_path / name, format=format, size=64)
    before = contents(tmp_path)
    other = named_weights(bit_keras.ResNetV2((1,), 0.25, 3))
    with pytest.raises(ExportError, match="exists already"):
        bit_keras.export(other, tmp_path / name, format=format)
    other.get_layer("head").conv.bias.assign([np.nan, 0.0, 0.0])
    with pytest.raises(ExportError, match="numbers that are not finite"):
        bit_keras.export(other, tmp_path / name, format=format, overwrite=True, size=64)
    assert contents(tmp_path) == before
    other.get_layer("head").conv.bias.assign([1.0, 0.0, 0.0])
    bit_keras.export(other, tmp_path / name, format=format, overwrite=True, size=64)
    assert bit_keras.load(tmp_path / name).output_shape == (None, 3)
    assert contents(tmp_path).keys() == before.keys()


def test_an_unwritable_place_is_named(small, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExportError, match=r"cannot write .*file/m\.npz \(.*File exists"):
        bit_keras.export(small, tmp_path / "file/m.npz", format="npz")


@pytest.mark.parametrize(
    ("format", "package", "extra"),
    [
        ("onnx", "tf2onnx", "runtimes"),
        ("openvino", "openvino", "runtimes"),
        ("litert", "ai_edge_litert", "runtimes"),
        ("timm", "safetensors", "interop"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(
    small, tmp_path, monkeypatch, format, package, extra
):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    name = {"onnx": "m.onnx", "litert": "m.tflite"}.get(format, "m")
    with pytest.raises(ExportError, match=rf'{package}.*pip install "bit-keras\[{extra}\]"'):
        bit_keras.export(small, tmp_path / name, format=format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("b", {"format": "h5"}, "format must be one of saved_model, keras"),
        ("b", {"format": "npz"}, r"must end in \.npz"),
        ("a[1]", {}, "must not hold any of"),
        ("thesis", {"overwrite": True}, r"no saved_model export, for it has no saved_model\.pb"),
        ("b", {"labels": LABELS[:4]}, "the 5 classes of the model's head, got 4 names"),
        ("b", {"labels": "abcde"}, "labels must be a list of names"),
        ("b.npz", {"format": "npz", "frozen": True}, "frozen is an option of saved_model"),
        ("b", {"precision": "float16"}, "precision is an option of litert, not of saved_model"),
        ("b.tflite", {"format": "litert", "precision": "int8"}, "give images like those to come"),
        ("b.tflite", {"format": "litert", "integer_io": True}, "integer_io is an option of int8"),
        ("b.onnx", {"format": "onnx", "integer_io": True}, "integer_io is an option of litert"),
        ("b", {"precision": "float64"}, "precision must be one of float32, float16, int8"),
        ("b", {"size": 31}, "size must be 32 pixels or more, got 31"),
        ("b", {"images": np.ones((2, 9, 9, 3)) * 255}, r"got float64 of shape .* in \[255, 255\]"),
        ("b", {"images": "photos"}, "images must be labeled images of bit_keras.data"),
        ("b", {"format": "timm"}, "timm has no BiT with units"),
    ],
)
def test_mistakes_are_named_and_nothing_is_touched(tiny, tmp_path, name, arguments, message):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.doc").write_text("x")
    with pytest.raises(ValueError, match=message):
        bit_keras.export(tiny, tmp_path / name, **arguments)
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "thesis.doc"]


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        ({"groups": 4}, "does not record the number of groups, 4"),
        ({"norm": "batch"}, "cannot hold batch normalization"),
        ({"conv": "plain"}, "cannot hold plain convolutions"),
    ],
)
def test_an_npz_refuses_what_it_cannot_hold(tmp_path, variant, reason):
    other = bit_keras.ResNetV2((1,), 0.25, 2, **variant)
    with pytest.raises(ExportError, match=reason):
        bit_keras.export(other, tmp_path / "b.npz", format="npz")
    assert list(tmp_path.iterdir()) == []
