"""The programs of those who use exports, on real ones and where bit_keras cannot be imported."""

import os
import pathlib
import re
import runpy
import subprocess
import sys
import types

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf
from conftest import named_weights
from corpus.encoding import tiff
from corpus.images import pictures
from pictures import picture

import bit_keras

CONSUMERS = pathlib.Path(__file__).parents[1] / "export" / "consumers"
SIZE = 64
FILES = ("noise.png", "red.png")
ODD = ("turned.jpg", "turned.webp", "clear.png", "deep.png", "damaged.png")
PEERS_PYTHON = os.environ.get("PEERS_PYTHON")
MODELS = {  # consumer -> what it reads
    "hub_keras_layer": "model",
    "hub_load": "model",
    "keras3": "model",
    "saved_model": "model",
    "onnx_runtime": "model.onnx",
    "openvino_runtime": "openvino",
    "litert": "model.tflite",
}


@pytest.fixture(scope="session")
def model():
    return named_weights(bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 10, name="tiny10"))


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """Holds exports, those of a model without a head in features/, noise.png, red.png, labels.txt.

    Its `without/bit_keras.py` is found before the installed one and cannot be imported.
    """
    folder = tmp_path_factory.mktemp("consumers")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    names = [f"class {i}" for i in range(10)]
    features = bit_keras.ResNetV2((1,), 0.25, 0)
    for each, at in ((model, folder), (features, folder / "features")):
        for format, name in (
            ("saved_model", "model"),
            ("onnx", "model.onnx"),
            ("openvino", "openvino"),
            ("litert", "model.tflite"),
        ):
            labels = names if each is model else None
            options = {"images": pixels[None], "size": SIZE, "labels": labels}
            bit_keras.export(each, at / name, format, **options)
    PIL.Image.fromarray(pixels).save(folder / "noise.png")
    PIL.Image.fromarray(pixels * np.uint8([1, 0, 0])).save(folder / "red.png")
    image = picture(40, 56, seed=1)
    image.save(folder / "turned.jpg", exif=tiff(6), quality=100, subsampling=0)
    image.save(folder / "turned.webp", exif=tiff(3, big=True), lossless=True)
    image.save(folder / "damaged.png", exif=b"Exif\0\0MM")
    for name in ("clear.png", "deep.png"):
        (folder / name).write_bytes(pictures()[name].content)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names))
    (folder / "few.txt").write_text("only\n")
    (folder / "without").mkdir()
    (folder / "without" / "bit_keras.py").write_text("raise ImportError('not for consumers')")
    return folder


WITH_TENSORFLOW = ("hub_keras_layer", "hub_load", "keras3", "saved_model")
SEVERAL = """
import runpy, sys
for line in sys.argv[1:]:
    program, *sys.argv[1:] = line.split()
    print("PROGRAM", flush=True)
    runpy.run_path(program, run_name="__main__")
"""


def run(folder, *program, python=sys.executable):
    search = [str(folder / "without"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(search),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [python, *program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def resized(image):
    return tf.image.resize(np.asarray(image), [SIZE, SIZE]).numpy()


def assert_prints_answers_of(model, printed, folder, label="class {}", loss="softmax"):
    images = np.stack([resized(PIL.Image.open(folder / file)) for file in FILES]) / 255
    probabilities = (tf.sigmoid if loss == "sigmoid" else tf.nn.softmax)(model(images)).numpy()
    best = np.argsort(-probabilities)[:, :5]
    assert abs(np.diff(probabilities[:, best[0, 0]])) > 0.01  # the two images can be told apart
    answers = re.findall(r"^  (\d\.\d{4})  (.+)$", printed, re.MULTILINE)
    assert [name for _, name in answers] == [label.format(i) for i in best.flat]
    expected = np.take_along_axis(probabilities, best, axis=1).flatten()
    np.testing.assert_allclose([float(p) for p, _ in answers], expected, atol=2e-4)
    assert re.findall(r"^\w+\.png$", printed, re.MULTILINE) == list(FILES)


@pytest.fixture(scope="module")
def together(folder):
    """What consumers with TensorFlow print, in one process: importing it takes seconds."""
    files = " ".join(FILES)
    lines = [f"{CONSUMERS}/{name}.py --model={MODELS[name]} {files}" for name in WITH_TENSORFLOW]
    first, *printed = run(folder, "-c", SEVERAL, *lines).split("PROGRAM\n")
    assert first == ""
    return dict(zip(WITH_TENSORFLOW, printed, strict=True))


@pytest.mark.parametrize("consumer", MODELS)
def test_a_consumer_prints_the_models_own_answers(consumer, model, folder, request):
    if consumer in WITH_TENSORFLOW:
        printed = request.getfixturevalue("together")[consumer]
    else:
        printed = run(folder, CONSUMERS / f"{consumer}.py", f"--model={MODELS[consumer]}", *FILES)
    assert_prints_answers_of(model, printed, folder)


def pixels_of(path):
    """uint8 [height, width, 3] as every picture is meant: upright, over white, in 8 bits."""
    if path.name == "deep.png":
        return np.asarray(PIL.Image.open(path))[:, :, None].repeat(3, 2) // 256
    with PIL.Image.open(path) as image:
        if path.name != "damaged.png":
            image = PIL.ImageOps.exif_transpose(image)
        image = image.convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, "white")
    return np.asarray(PIL.Image.alpha_composite(white, image).convert("RGB"))


def assert_knows_odd_pictures(model, printed, folder):
    def probabilities_of(pictures):
        images = np.stack([resized(picture) for picture in pictures]) / 255
        return tf.nn.softmax(model(images)).numpy()

    expected = probabilities_of([pixels_of(folder / name) for name in ODD])
    lying = probabilities_of([PIL.Image.open(folder / name) for name in ODD[:2]])
    assert np.abs(lying - expected[:2]).max(axis=1).min() > 0.02  # the orientation matters
    answers = re.findall(r"^  (\d\.\d{4})  class (\d)$", printed, re.MULTILINE)
    assert len(answers) == 5 * len(ODD)
    for place, (probability, number) in enumerate(answers):
        # TensorFlow decodes JPEG by a faster DCT.
        assert abs(float(probability) - expected[place // 5, int(number)]) < 1e-2, ODD[place // 5]


@pytest.mark.parametrize("consumer", MODELS)
def test_pictures_are_upright_over_white_and_of_8_bits(
    consumer, model, folder, monkeypatch, capsys
):
    monkeypatch.chdir(folder)
    capsys.readouterr()
    in_this_process(monkeypatch, consumer, f"--model={MODELS[consumer]}", *ODD)
    assert_knows_odd_pictures(model, capsys.readouterr().out, folder)


def test_a_saved_model_says_why_it_refuses_a_picture(folder, monkeypatch, capfd):
    (folder / "key.png").write_bytes(pictures()["key.png"].content)
    monkeypatch.chdir(folder)
    said = refusal(monkeypatch, capfd, "saved_model", "--model=model", "key.png")
    assert said.startswith("error: key.png cannot be read; A PNG with a transparent color in place")


@pytest.mark.peers
@pytest.mark.skipif(not PEERS_PYTHON, reason="PEERS_PYTHON is not set; run make test-peers")
@pytest.mark.parametrize("peer", ["timm", "transformers"])
def test_peers_print_the_models_own_answers(peer, folder):
    model = named_weights(bit_keras.ResNetV2(50, 1, 10))
    names = [f"class {i}" for i in range(10)]
    options = {"images": np.zeros((1, 32, 32, 3)), "size": SIZE, "labels": names}
    bit_keras.export(model, folder / peer, peer, **options)
    program = CONSUMERS / f"{peer}_weights.py"
    printed = run(folder, program, f"--model={peer}", *FILES, python=PEERS_PYTHON)
    assert_prints_answers_of(model, printed, folder)


@pytest.mark.parametrize("peer", ["timm", "transformers"])
def test_pictures_for_peers_are_upright_over_white_and_of_8_bits(peer, folder, monkeypatch):
    for module in ("timm", "torch", "transformers"):  # what reads pictures needs none of them
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(pipeline=None))
    program = runpy.run_path(str(CONSUMERS / f"{peer}_weights.py"))
    for name in ODD:
        found = np.asarray(program["read_picture"](folder / name))
        np.testing.assert_array_equal(found, pixels_of(folder / name))


def in_this_process(monkeypatch, consumer, *arguments):
    """Runs a consumer where TensorFlow is imported already."""
    monkeypatch.setattr(sys, "argv", [consumer, *arguments])
    runpy.run_path(str(CONSUMERS / f"{consumer}.py"), run_name="__main__")


def test_a_litert_file_for_any_size_takes_pixels_of_one(model, folder, monkeypatch, capsys):
    images = np.zeros((1, SIZE, SIZE, 3))
    bit_keras.export(model, folder / "any.tflite", "litert", images=images)
    monkeypatch.chdir(folder)
    capsys.readouterr()
    in_this_process(monkeypatch, "litert", "--model=any.tflite", f"--size={SIZE}", *FILES)
    printed = capsys.readouterr().out
    assert_prints_answers_of(model, printed, folder, label="{}")


def test_a_litert_file_of_integers_is_read_by_its_scale(folder, monkeypatch, capsys):
    images = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    # Classes that are far apart, of which eight bits lose none.
    model = bit_keras.ResNetV2((1,), 0.25, 10)
    model.get_layer("head").conv.bias.assign(np.arange(10.0))
    options = {"precision": "int8", "integer_io": True, "images": images, "size": SIZE}
    bit_keras.export(model, folder / "integers.tflite", "litert", **options)
    monkeypatch.chdir(folder)
    capsys.readouterr()
    in_this_process(monkeypatch, "litert", "--model=integers.tflite", "noise.png")
    answers = re.findall(r"^  (\d\.\d{4})  (\d)$", capsys.readouterr().out, re.MULTILINE)
    expected = tf.nn.softmax(np.arange(10.0)).numpy()
    assert [name for _, name in answers] == [*"98765"]
    np.testing.assert_allclose([float(p) for p, _ in answers], expected[:4:-1], atol=0.02)


@pytest.mark.parametrize("consumer", MODELS)
def test_independent_classes_get_sigmoids_and_other_names_and_sizes_are_taken(
    consumer, model, folder, monkeypatch, capsys
):
    """Exported at 32 pixels, and shown the middle of pictures at another size than its own."""
    name = f"several-{MODELS[consumer]}"
    format = {"model": "saved_model", "openvino": "openvino", "model.onnx": "onnx"}
    format = format.get(MODELS[consumer], "litert")
    if not (folder / name).exists():
        options = {"multi_label": True, "images": np.zeros((1, SIZE, SIZE, 3))}
        size = None if format == "litert" else SIZE  # None is any
        bit_keras.export(model, folder / name, format, size=size, **options)
    monkeypatch.chdir(folder)
    size = [] if consumer == "saved_model" else [f"--size={SIZE}"]
    arguments = (f"--model={name}", "--labels=labels.txt", *size)
    capsys.readouterr()
    in_this_process(monkeypatch, consumer, *arguments, *FILES)
    assert_prints_answers_of(model, capsys.readouterr().out, folder, loss="sigmoid")


def test_hub_keras_layer_trains_the_module_and_a_new_head(model, folder, monkeypatch, capsys):
    rng = np.random.default_rng(1)
    for name, tint in (("blue", (0, 0, 1)), ("red", (1, 0, 0))):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8) * np.uint8(tint)
            PIL.Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.png")
    monkeypatch.chdir(folder)
    arguments = ("--model=model", "--photos=photos", "--size=32", "--steps=10")
    faster = "--learning_rate=0.03"
    in_this_process(monkeypatch, "hub_keras_layer", *arguments, faster, "red.png")
    printed = capsys.readouterr().out
    count = len(model.trainable_variables)
    assert f"trains {count} variables of the module and 2 of the new head\n" in printed
    assert re.findall(r"  (\w+)$", printed, re.MULTILINE) == ["red", "blue"]
    assert float(re.search(r"(\S+)  red", printed)[1]) > 0.8


def refusal(monkeypatch, capfd, consumer, *arguments):
    """What the program says as it exits with 2."""
    with pytest.raises(SystemExit) as stopped:
        in_this_process(monkeypatch, consumer, *arguments)
    assert stopped.value.code == 2
    *_, last = capfd.readouterr().err.splitlines()
    return last


@pytest.mark.parametrize("consumer", MODELS)
def test_mistakes_are_answered_in_a_sentence(consumer, folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    model = f"--model={MODELS[consumer]}"
    for arguments, sentence in (
        (["--model=modle", "noise.png"], ".*modle"),
        ([f"--model=features/{MODELS[consumer]}", "noise.png"], ".* answers with features; "),
        ([model, "nose.png"], "nose.png cannot be read; expected "),
        ([model, "few.txt"], "few.txt cannot be read; expected "),
        ([model, "--labels=lables.txt", "noise.png"], "lables.txt cannot be read; expected "),
        ([model, "--labels=few.txt", "noise.png"], "--labels has 1 names; expected 10"),
    ):
        said = refusal(monkeypatch, capfd, consumer, *arguments)
        assert re.match(f"error: {sentence}", said), said


def test_mistakes_of_one_consumer_alone(folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    for consumer, arguments, sentence in (
        ("litert", ["--model=model.tflite", "--size=96"], "model.tflite takes images of 64 pixels"),
        ("hub_keras_layer", ["--model=model", "--photos=phots"], "phots holds no images"),
    ):
        said = refusal(monkeypatch, capfd, consumer, *arguments, "noise.png")
        assert said.startswith(f"error: {sentence}")
