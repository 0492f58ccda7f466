"""Files in, names out, whatever holds the model."""

import json
import os
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from conftest import named_weights

import bit_keras
from bit_keras.classification import predict_images, read_labels
from bit_keras.models.published import PUBLISHED
from bit_keras.models.resnet_v2 import with_head

NAMES = ["ant", "bee", "cat", "dog", "eel"]
SIDE = 48
FORMATS = {  # test_spec.py asks those of all others
    "trainable": ("saved_model", {}),
    "m.npz": ("npz", {}),
    "any.tflite": ("litert", {"size": None}),
    "quarter.tflite": ("litert", {"precision": "int8"}),
}


@pytest.fixture(scope="module")
def small():
    """One unit; quick to export."""
    return named_weights(bit_keras.ResNetV2((1,), 0.25, 5, name="small"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four PNGs of the side that models are asked at."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    for i, pixels in enumerate(coarse.repeat(8, axis=1).repeat(8, axis=2)):
        PIL.Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def pixels(folder):
    return np.stack([np.array(PIL.Image.open(folder / f"{i}.png")) for i in range(4)])


def softmax(logits):
    powers = np.exp(np.array(logits, np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def probabilities(predictions, names):
    """One row an image, in the order of the classes."""
    rows = [
        {one["class"]: one["probability"] for one in image["predictions"]} for image in predictions
    ]
    return np.array([[row[name] for name in names] for row in rows])


@pytest.fixture(scope="module")
def artifacts(small, pixels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    for name, (format, options) in FORMATS.items():
        options = {"size": SIDE, "labels": NAMES, "images": pixels, **options}
        bit_keras.export(small, folder / name, format, **options)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_every_artifact_answers_as_its_model(small, artifacts, folder, pixels, name):
    expected = softmax(small(pixels / np.float32(255)))
    size = SIDE if name == "any.tflite" else None  # of others it is in the file
    got = predict_images(artifacts / name, folder, size=size, batch=3)
    assert [one["image"] for one in got] == [str(folder / f"{i}.png") for i in range(4)]
    for image in got:
        ranked = [one["probability"] for one in image["predictions"]]
        assert ranked == sorted(ranked, reverse=True)
    atol = 0.05 if name == "quarter.tflite" else 2e-5
    np.testing.assert_allclose(probabilities(got, NAMES), expected, atol=atol)


def test_images_are_turned_upright_and_resized_as_test_images_are(small, folder, pixels, tmp_path):
    large = pixels[0].repeat(2, axis=0).repeat(2, axis=1)  # which leaves the same, bilinearly
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    PIL.Image.fromarray(np.rot90(large)).save(tmp_path / "lying.png", exif=exif)
    [lying] = predict_images(small, tmp_path / "lying.png", size=SIDE)
    [upright] = predict_images(small, folder / "0.png", size=SIDE)
    np.testing.assert_allclose(
        probabilities([lying], "01234"), probabilities([upright], "01234"), atol=1e-6
    )


def test_pictures_in_memory_are_taken_too(small, folder, pixels):
    files = predict_images(small, folder, size=SIDE)
    opened = [PIL.Image.open(folder / f"{i}.png") for i in range(4)]
    see_through = opened[0].convert("RGBA")
    see_through.putalpha(255)
    for given in (pixels, pixels / np.float32(255), list(pixels), opened, [see_through]):
        got = predict_images(small, given, size=SIDE)
        assert [one["image"] for one in got] == [*range(len(given))]
        expected = probabilities(files[: len(given)], "01234")
        np.testing.assert_allclose(probabilities(got, "01234"), expected, atol=1e-6)
    assert len(predict_images(small, pixels[0], size=SIDE)) == 1
    with pytest.raises(ValueError, match=r"must be floats in \[0, 1\] or uint8 in 0 .. 255"):
        predict_images(small, pixels.astype(float), size=SIDE)


def test_top_k_are_the_likeliest(small, folder, pixels):
    order = np.argsort(-np.asarray(small(pixels / np.float32(255))), axis=1)
    for top_k, number in ((2, 2), (9, 5)):
        got = predict_images(small, folder, size=SIDE, top_k=top_k)
        classes = [[int(one["class"]) for one in image["predictions"]] for image in got]
        assert classes == order[:, :number].tolist()


def test_a_threshold_leaves_out_what_is_below(small, folder):
    everything = predict_images(small, folder, size=SIDE, multi_label=True)
    values = sorted(p["probability"] for one in everything for p in one["predictions"])
    for threshold in (0, values[7], values[-1], 1):
        for top_k in (1, 5):
            got = predict_images(
                *(small, folder), size=SIDE, multi_label=True, threshold=threshold, top_k=top_k
            )
            for one, whole in zip(got, everything, strict=True):
                best = whole["predictions"][:top_k]
                assert one["image"] == whole["image"]
                assert one["predictions"] == [p for p in best if p["probability"] >= threshold]
    assert [one["predictions"] for one in got] == [[]] * 4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on images that may show red, green and blue, each or none, trained at 40 pixels."""
    labels = np.array([[r, g, b] for r in (0, 1) for g in (0, 1) for b in (0, 1)] * 2)
    images = np.broadcast_to(labels[:, None, None] * np.float32(1), (16, 40, 40, 3))
    train, test = bit_keras.data.from_arrays(
        images, labels, class_names=["red", "green", "blue"], test_fraction=0.25
    )
    workdir = tmp_path_factory.mktemp("runs") / "colors"
    model = named_weights(bit_keras.ResNetV2((1,), 0.25, 3))
    rule = bit_keras.HyperRule.release(12, (40, 40)).with_steps(2)
    rule = rule.replace(batch=4, resize=44, crop=40)
    bit_keras.fine_tune(model, train, test, workdir=workdir, rule=rule, validation=test)
    return workdir


@pytest.mark.parametrize("part", ["", "model", "checkpoints/best.keras"])
def test_a_run_knows_its_names_its_size_and_its_loss(run, folder, pixels, part):
    size_of_run = tf.image.resize(pixels / np.float32(255), (40, 40))
    logits = bit_keras.load(run / "model")(size_of_run)
    got = predict_images(run / part, folder)
    expected = 1 / (1 + np.exp(-np.array(logits)))
    np.testing.assert_allclose(probabilities(got, ["red", "green", "blue"]), expected, atol=1e-5)
    told = predict_images(run / part, folder, labels="abc", multi_label=False)
    np.testing.assert_allclose(probabilities(told, "abc"), softmax(logits), atol=1e-5)


def test_the_model_of_a_pretraining_sees_the_middle_of_images(small, folder, pixels, tmp_path):
    """In a file without facts of its own, as older versions wrote them."""
    recipe = {"crop": 32, "test_resize": SIDE}
    settings = {"loss": "softmax", "class_names": NAMES, "recipe": recipe}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    small.save(tmp_path / "m.keras")
    got = predict_images(tmp_path / "m.keras", folder)
    logits = bit_keras.load(tmp_path / "m.keras")(pixels[:, 8:40, 8:40] / np.float32(255))
    np.testing.assert_allclose(probabilities(got, NAMES), softmax(logits), atol=1e-5)


@pytest.mark.parametrize("size", [None, SIDE])
@pytest.mark.parametrize(
    ("name", "classes", "sigmoids"),
    [
        ("BiT-M-R50x1", 21_843, True),
        ("BiT-M-R50x1", 5, False),  # fine-tuned, in the same session
        ("BiT-S-R50x1", 1000, False),
        ("BiT-M-R50x1-ILSVRC2012", 1000, False),
    ],
)
def test_published_models_of_imagenet_21k_have_sigmoids(folder, name, classes, sigmoids, size):
    model = named_weights(bit_keras.ResNetV2((1,), 0.25, PUBLISHED[name].num_classes))
    model.spec = PUBLISHED[name]
    if classes != PUBLISHED[name].num_classes:
        model = with_head(model, classes)
        model.get_layer("head").conv.bias.assign(np.arange(classes))
    names = [str(k) for k in range(classes)]
    given = {"labels": names, "size": size, "top_k": classes}
    [got] = predict_images(model, folder / "0.png", **given)
    [expected] = predict_images(model, folder / "0.png", **given, multi_label=sigmoids)
    assert got == expected
    total = sum(one["probability"] for one in got["predictions"])
    assert (abs(total - 1) > 0.1) == sigmoids


def test_the_names_of_a_run_are_preferred_to_its_text_file(artifacts, folder, tmp_path):
    names = ["caf\udce9", "two\u2028lines", "three\x85", "four\nlines", ""]
    (tmp_path / "config.json").write_text(json.dumps({"loss": "softmax", "class_names": names}))
    lines = "".join(f"{name}\n" for name in names)
    (tmp_path / "labels.txt").write_text(lines, encoding="utf-8", errors="replace")
    os.link(artifacts / "m.npz", tmp_path / "m.npz")
    [got] = predict_images(tmp_path / "m.npz", folder / "0.png", size=SIDE)
    assert {one["class"] for one in got["predictions"]} == set(names)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("ant\nbee\n", ["ant", "bee"]),
        ("\ufeffant\r\nbee", ["ant", "bee"]),
        ("a\u2028b\x85c\x0cd\x1ee\rf\nbee\n", ["a\u2028b\x85c\x0cd\x1ee\rf", "bee"]),
        ("ant\n\nbee\n\n", ["ant", "", "bee", ""]),
        ("", []),
    ],
)
def test_a_file_of_names_has_one_a_line(tmp_path, content, names):
    (tmp_path / "names").write_bytes(content.encode())
    assert read_labels(tmp_path / "names") == names


def test_names_beside_a_model_are_taken_and_checked(artifacts, folder, tmp_path):
    os.link(artifacts / "m.npz", tmp_path / "m.npz")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES), encoding="utf-8-sig")
    (tmp_path / "config.json").write_text('["of something else"]')
    [got] = predict_images(tmp_path / "m.npz", folder / "0.png", size=SIDE)
    assert {one["class"] for one in got["predictions"]} == set(NAMES)
    (tmp_path / "labels.txt").write_text("ant\nbee\n")
    with pytest.raises(
        ValueError, match=r"the 5 classes of .*m\.npz, got 2 names from config\.json or labels"
    ):
        predict_images(tmp_path / "m.npz", folder / "0.png", size=SIDE)


def test_the_one_size_of_a_file_is_the_default(artifacts, folder):
    small, large = (
        predict_images(artifacts / "quarter.tflite", folder, size=size) for size in (None, SIDE)
    )
    assert small == large
    with pytest.raises(ValueError, match=r"size must be 48, the only one of .*tflite, got 64"):
        predict_images(artifacts / "quarter.tflite", folder, size=64)


@pytest.mark.parametrize(
    ("name", "format"),
    [("saved", "saved_model"), ("m.onnx", "onnx"), ("vino", "openvino"), ("m.tflite", "litert")],
)
def test_a_model_without_a_head_is_refused(folder, tmp_path, name, format):
    model = bit_keras.ResNetV2((1,), 0.25, 0)
    few = np.zeros((1, 32, 32, 3))
    bit_keras.export(model, tmp_path / name, format, images=few, size=32)
    with pytest.raises(ValueError, match=f"{name} has no head, so it gives features and no"):
        predict_images(tmp_path / name, folder)


def test_keras_saved_models_are_read_for_their_weights(small, folder, tmp_path):
    small.export(tmp_path / "theirs", verbose=False)
    theirs, ours = (predict_images(m, folder, size=SIDE) for m in (tmp_path / "theirs", small))
    np.testing.assert_allclose(
        probabilities(theirs, "01234"), probabilities(ours, "01234"), atol=1e-6
    )


@pytest.mark.parametrize(
    ("model", "images", "options", "message"),
    [
        ("m.npz", [], {}, r"no images were given"),
        ("m.npz", ["none*.png"], {}, r"no image none\*\.png; give files, folders or globs"),
        ("m.npz", ["empty"], {}, r"folder empty holds no images; .* give 'empty/\*\*'"),
        ("m.npz", ["broken.png"], {}, r"broken.png \(cannot identify"),
        ("m.npz", ["photo.heic"], {}, r"photo.heic \(the format .heic is not"),
        ("m.npz", ["0.png"], {"top_k": 0}, "top_k must be 1 or more, got 0"),
        ("m.npz", ["0.png"], {"threshold": 1.5}, r"a probability in \[0, 1\], got 1.5"),
        ("m.npz", ["0.png"], {"size": 16}, "size=16; use 32 or more"),
        ("m.npz", ["0.png"], {"batch": 0}, "batch must be 1 or more"),
        ("m.npz", ["0.png"], {"labels": NAMES[1:]}, "the 5 classes of m.npz, got 4 names"),
        ("nan.npz", ["0.png"], {}, "nan.npz holds numbers that are not finite"),
        ("nowhere.onnx", ["0.png"], {}, "there is no file nowhere.onnx"),
        ("nowhere", ["0.png"], {}, "no model named 'nowhere' and no such file"),
        ("broken.onnx", ["0.png"], {}, r"cannot read broken\.onnx \("),
        ("broken.tflite", ["0.png"], {}, r"cannot read broken\.tflite \("),
        ("unfinished", ["0.png"], {}, "the run unfinished has no model yet"),
    ],
)
def test_mistakes_get_one_sentence(
    artifacts, folder, tmp_path, monkeypatch, model, images, options, message
):
    monkeypatch.chdir(tmp_path)
    for name in ("m.npz", "m.npz.spec.json"):
        os.link(artifacts / name, name)
    os.link(artifacts / "m.npz.spec.json", "nan.npz.spec.json")
    os.link(folder / "0.png", "0.png")
    for name in ("broken.png", "photo.heic", "broken.onnx", "broken.tflite"):
        (tmp_path / name).write_bytes(b"not what it is called")
    arrays = dict(np.load("m.npz"))
    arrays["resnet/head/conv2d/bias"][0] = np.nan
    np.savez("nan.npz", **arrays)
    for name in ("empty", "unfinished"):
        (tmp_path / name).mkdir()
    (tmp_path / "unfinished/config.json").write_text('{"loss": "softmax", "class_names": []}')
    with pytest.raises(ValueError, match=message) as caught:
        predict_images(model, images, **options)
    assert "\n" not in str(caught.value)


def typed(*arguments, cwd):
    command = [sys.executable, "-m", "bit_keras.cli.predict", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command(run, folder, tmp_path):
    flags = (f"--model={run}", "--top_k=2", "--format=json", f"--contact_sheet={tmp_path}/s.png")
    done = typed("0.png", *flags, "[12]*", cwd=folder)
    assert done.returncode == 0, done.stderr
    written, expected = json.loads(done.stdout), predict_images(run, folder, top_k=2)[:3]
    assert [one["image"] for one in written] == ["0.png", "1.png", "2.png"]
    for one, other in zip(written, expected, strict=True):
        for got, wanted in zip(one["predictions"], other["predictions"], strict=True):
            assert got == {**wanted, "probability": pytest.approx(wanted["probability"], abs=1e-6)}
    assert PIL.Image.open(tmp_path / "s.png").size == (24 + 3 * 200, 24 + 252)


def test_a_mistake_leaves_nothing(artifacts, folder, tmp_path):
    (tmp_path / "labels.txt").write_text("ant\nbee\n")
    done = typed(
        *(f"--model={artifacts / 'm.npz'}", "--labels=labels.txt", str(folder)),
        *("--output=p.txt", "--contact_sheet=sheet.png"),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: labels must name the 5 classes")
    assert os.listdir(tmp_path) == ["labels.txt"]
