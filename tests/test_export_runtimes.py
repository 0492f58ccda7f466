"""Artifacts in the hands of their own runtimes, called as a stranger would call them."""

import time

import numpy as np
import onnxruntime
import openvino
import psutil
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from conftest import named_weights
from sklearn.linear_model import LogisticRegression

import bit_keras
from bit_keras.exporting import ExportError, open_artifact
from bit_keras.exporting.formats import FORMATS
from bit_keras.exporting.runtimes import open_apart, open_here
from bit_keras.models.resnet_v2 import with_head

SIZES = ((64, 64), (77, 77), (101, 64))


def noise(size):
    return np.random.default_rng(0).uniform(size=(2, *size, 3)).astype("float32")


@pytest.fixture(scope="module")
def expected(tiny):
    """The model's own logits for noise of each size."""
    return {size: np.array(tiny(noise(size))) for size in SIZES}


def litert(path):
    interpreter = Interpreter(str(path))
    [first], [last] = interpreter.get_input_details(), interpreter.get_output_details()

    def answer(images):
        if tuple(first["shape"]) != images.shape:
            interpreter.resize_tensor_input(first["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(first["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(last["index"])

    return answer


def test_onnx_takes_images_of_any_size(tiny, expected, tmp_path):
    bit_keras.export(tiny, tmp_path / "m.onnx", format="onnx", size=64)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert [i.name for i in session.get_inputs()] == ["images"]
    for size in SIZES:
        [logits] = session.run(["logits"], {"images": noise(size)})
        np.testing.assert_allclose(logits, expected[size], atol=1e-4)


@pytest.mark.parametrize("format", ["onnx", "openvino", "litert"])
def test_a_comparison_has_the_runtime_in_a_process_of_its_own(tiny, tmp_path, format):
    path = tmp_path / f"m{FORMATS[format].name if format != 'openvino' else ''}"
    bit_keras.export(tiny, path, format, size=64)
    here, images = open_here(format, path), noise((64, 64))
    before = {*psutil.Process().children()}
    with open_apart(format, path) as apart:
        assert apart[1:] == here[1:]
        for name, answers in here.compute(images).items():
            np.testing.assert_array_equal(apart.compute(images)[name], answers)
        [process] = {*psutil.Process().children()} - before
        process.kill()
        while process.status() != psutil.STATUS_ZOMBIE:  # from then on no images can be sent
            time.sleep(0.01)
        with pytest.raises(RuntimeError, match=f"the process of {format} ended with -9"):
            apart.compute(images)
    assert {*psutil.Process().children()} == before


def test_what_a_runtime_raises_in_its_process_is_told(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"not a graph")
    with (
        pytest.raises(RuntimeError, match=r"INVALID_PROTOBUF.*m\.onnx failed"),
        open_apart("onnx", tmp_path / "m.onnx"),
    ):
        pass


def test_onnx_files_are_well_formed(tmp_path):
    import onnx

    features = named_weights(bit_keras.ResNetV2((1, 1), 0.25, 0))
    bit_keras.export(features, tmp_path / "m.onnx", format="onnx", size=64)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["images"]
    assert [value.name for value in model.graph.output] == ["features"]
    # The bytes are those that protobuf would write: no field is unknown, none comes twice.
    assert len(model.SerializeToString()) == (tmp_path / "m.onnx").stat().st_size
    kernels = [t.dims for t in model.graph.initializer if len(t.dims) == 4 and t.dims[2] == 7]
    assert [list(dims) for dims in kernels] == [[16, 3, 7, 7]]


def test_openvino_takes_images_of_any_size(tiny, expected, tmp_path):
    bit_keras.export(tiny, tmp_path / "m", format="openvino", size=64)
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(tmp_path / "m/model.xml", "CPU", precise)
    for size in SIZES:
        logits = compiled({"images": noise(size)})["logits"]
        np.testing.assert_allclose(logits, expected[size], atol=1e-4)


def test_litert_takes_images_of_any_size_or_of_one(tiny, expected, tmp_path):
    bit_keras.export(tiny, tmp_path / "any.tflite", format="litert")
    for size in SIZES:
        answer = litert(tmp_path / "any.tflite")
        np.testing.assert_allclose(answer(noise(size)), expected[size], atol=1e-4)
    bit_keras.export(tiny, tmp_path / "one.tflite", format="litert", size=77, precision="float16")
    [taken] = Interpreter(str(tmp_path / "one.tflite")).get_input_details()
    assert taken["shape_signature"].tolist() == [1, 77, 77, 3]
    got = litert(tmp_path / "one.tflite")(noise((77, 77))[:1])
    wanted = expected[77, 77][:1]
    np.testing.assert_allclose(got, wanted, atol=2e-2 * np.abs(wanted).max())
    sizes = [(tmp_path / f"{name}.tflite").stat().st_size for name in ("one", "any")]
    assert sizes[0] < 0.6 * sizes[1]


def digits_reader(train):
    """The embedded model, with a head fitted to its features of training images."""
    model = bit_keras.load("BiT-XS-R26x0.25", num_classes=10)
    [(images, _)] = bit_keras.data.test_batches(train, batch=len(train), size=32)
    fitted = LogisticRegression(max_iter=1000).fit(with_head(model, 0)(images), train.labels)
    head = model.get_layer("head").conv
    head.set_weights([fitted.coef_.T[None, None], fitted.intercept_])
    return model


@pytest.mark.slow
def test_int8_keeps_the_classes_of_digits(tmp_path):
    train, test = bit_keras.data.digits(10)
    model = digits_reader(train)
    bit_keras.export(
        model, tmp_path / "m.tflite", format="litert", precision="int8", images=train, size=32
    )
    answer, kept = litert(tmp_path / "m.tflite"), []
    for images, _ in bit_keras.data.test_batches(test, batch=256, size=32):
        expected = np.argmax(model(images), axis=1)
        kept += [
            answer(images[i : i + 1].numpy()).argmax() == expected[i] for i in range(len(images))
        ]
    assert len(kept) == 1697
    assert np.mean(kept) >= 0.98
    weights = 4 * model.count_params()
    assert (tmp_path / "m.tflite").stat().st_size < 0.35 * weights


@pytest.mark.slow
def test_int8_takes_bytes_and_answers_in_integers(tmp_path):
    train, test = bit_keras.data.digits(10)
    test = test.subset(np.arange(300))
    model, path = digits_reader(train), tmp_path / "m.tflite"
    options = {"precision": "int8", "images": train, "size": 32}
    bit_keras.export(model, path, "litert", integer_io=True, **options)
    serve = Interpreter(str(path)).get_signature_runner()
    [taken], [given] = (
        list(details.values())
        for details in (serve.get_input_details(), serve.get_output_details())
    )
    assert (taken["dtype"], given["dtype"]) == (np.uint8, np.int8)
    assert taken["quantization"] == (pytest.approx(1 / 255, rel=1e-6), 0)
    assert taken["shape"].tolist() == [1, 32, 32, 3]
    scale, zero_point = given["quantization"]
    [(images, _)] = bit_keras.data.test_batches(test, batch=300, size=32)
    expected = np.array(model(images))
    pixels = np.rint(images.numpy() * 255).astype(np.uint8)
    found = np.concatenate([serve(images=one[None])["logits"] for one in pixels])
    found = (found.astype(int) - zero_point) * scale
    assert np.mean(found.argmax(1) == expected.argmax(1)) >= 0.98
    assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()
    # What opens it here quantizes by what the file says.
    compute, scaled = open_artifact(path).compute, pixels / np.float32(255)
    np.testing.assert_allclose(compute(scaled), found, atol=1e-4)
    logits = bit_keras.evaluate(path, test).logits
    np.testing.assert_allclose(logits, compute(images.numpy()), atol=1e-4)
    bit_keras.export(model, tmp_path / "floats.tflite", "litert", **options)
    floats = open_artifact(tmp_path / "floats.tflite").compute(scaled)
    # Between the ends are the same convolutions, of which some round to a neighboring level.
    np.testing.assert_allclose(floats, found, atol=5 * scale)
    assert np.mean(np.abs(floats - found)) < scale


def test_int8_that_loses_classes_is_refused(tmp_path):
    # Classes that differ by less than eight bits tell.
    model = named_weights(bit_keras.ResNetV2((1, 1), 0.25, 5))
    kernel = model.get_layer("head").conv.kernel
    kernel.assign(tf.ones_like(kernel) + 1e-4 * kernel)
    images = np.random.default_rng(0).uniform(size=(24, 40, 40, 3))
    with pytest.raises(ExportError, match=r"of 12 images keep their class, and 98% must"):
        bit_keras.export(
            model, tmp_path / "m.tflite", format="litert", precision="int8", images=images, size=40
        )
    assert list(tmp_path.iterdir()) == []
