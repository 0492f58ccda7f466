"""Evaluating a model: batches, every strategy, matched classes, published sizes; the command."""

import csv
import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import sklearn.metrics
import tensorflow as tf
from conftest import named_weights

import bit_keras
from bit_keras.checkpoints import DownloadError
from bit_keras.data import LabeledImages
from bit_keras.models.published import PUBLISHED
from bit_keras.recipes.upstream import UpstreamRecipe

NAMES = [f"class {k}" for k in range(7)]


def some_images(labels, class_names=NAMES):
    return LabeledImages(
        "some", labels, class_names, (8, 8), lambda i: tf.zeros([8, 8, 3], "uint8")
    )


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits.astype("float64")))


@pytest.fixture(scope="module")
def model():
    return named_weights(bit_keras.ResNetV2((1,), 0.25, 10, name="ten"))


@pytest.fixture(scope="module")
def digits():
    _, test = bit_keras.data.digits()
    return test.subset(range(101))


@pytest.fixture(scope="module")
def found(model, digits):
    return bit_keras.evaluate(model, digits, size=32)


@pytest.mark.parametrize("batch", [1, 7])
def test_the_batch_changes_no_count(model, digits, found, batch):
    other = bit_keras.evaluate(model, digits, size=32, batch=batch)
    assert (other.confusion_matrix == found.confusion_matrix).all()
    assert other.metrics.keys() == found.metrics.keys()
    for name, value in found.metrics.items():
        if "accuracy" in name or name == "num_test":
            assert other.metrics[name] == value
        else:
            assert other.metrics[name] == pytest.approx(value, rel=1e-4)


PROGRAM = """
import sys
import tensorflow as tf
import numpy as np
import bit_keras
strategy_name, file, out = sys.argv[1:]
if strategy_name == "mirrored":
    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = bit_keras.make_strategy(strategy_name)
_, test = bit_keras.data.digits()
found = bit_keras.evaluate(file, test.subset(range(101)), size=32, batch=14, strategy=strategy)
np.save(out, found.logits)
"""


@pytest.mark.slow
def test_two_replicas_and_two_workers_answer_as_one_device(model, found, tmp_path):
    model.save(tmp_path / "m.keras")
    ports = free_ports(2)
    runs = [("mirrored", tmp_path / "mirrored.npy", {})]
    for index in range(2):
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        runs.append(
            ("multiworker", tmp_path / f"worker{index}.npy", {"TF_CONFIG": json.dumps(config)})
        )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, name, tmp_path / "m.keras", out],
            env=os.environ | extra,
            stdout=subprocess.DEVNULL,
        )
        for name, out, extra in runs
    ]
    try:
        assert [process.wait(300) for process in started] == [0, 0, 0]
    finally:
        for process in started:
            process.kill()
    for _, out, _ in runs:
        logits = np.load(out)
        assert logits.shape == (101, 10)
        np.testing.assert_allclose(logits, found.logits, atol=1e-4)


def free_ports(number):
    import contextlib
    import socket

    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def test_classes_are_matched_by_name(model, digits, found):
    shuffled = ["nine", *"876543210"]  # the model's class 9 is the data's 0, and 0 is called nine
    spoken = dataclasses.replace(digits, class_names=["nine", *"123456789"])
    relabeled = bit_keras.evaluate(
        model, dataclasses.replace(digits, class_names=shuffled), size=32, labels=shuffled
    )
    assert relabeled.metrics == found.metrics
    with pytest.raises(ValueError, match="class map"):
        bit_keras.evaluate(model, spoken, size=32, labels=[f"n{k}" for k in range(10)])
    reversed_names = [*reversed(digits.class_names)]
    other = bit_keras.evaluate(model, digits, size=32, labels=reversed_names)
    np.testing.assert_allclose(other.logits, found.logits[:, ::-1])


def test_images_of_classes_that_the_map_lacks_are_left_out(model, digits, found):
    class_map = {"3": ("3",), "8": ("8", "0")}
    some = bit_keras.evaluate(model, digits, size=32, class_map=class_map)
    kept = np.isin(digits.labels, [3, 8])
    assert some.metrics["num_test"] == kept.sum()
    assert some.images.class_names == ("3", "8")
    assert some.left_out == tuple("01245679")
    said = found.logits[kept].argmax(1)
    right = [
        s in ((3,), (8, 0))[int(t == 8)] for s, t in zip(said, digits.labels[kept], strict=True)
    ]
    assert some.metrics["accuracy"] == np.mean(right)


def test_a_model_that_nobody_named_has_the_datas_order():
    """Folders called 0 to 11 are sorted as text: 0, 1, 10, 11, 2."""
    model = named_weights(bit_keras.ResNetV2((1,), 0.25, 12, name="twelve"))
    images = some_images(np.arange(12), sorted(map(str, range(12))))
    found = bit_keras.evaluate(model, images, size=32)
    answers = model(np.zeros((1, 32, 32, 3)))
    np.testing.assert_allclose(found.logits, np.repeat(answers, 12, axis=0), atol=1e-4)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("BIT_KERAS_BASE_URL", "http://127.0.0.1:9/")  # where nobody listens
    monkeypatch.setenv("BIT_KERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize(
    ("name", "classes", "error"),
    [
        ("BiT-M-R50x1-ILSVRC2012", 1000, "are not among the 1000 of the model .* give a class map"),
        ("BiT-M-R50x1", 21_843, "cannot download .* check the network"),
    ],
)
def test_a_published_model_is_not_taken_for_one_that_nobody_named(offline, name, classes, error):
    """Folders called by their nouns are as many as the classes, and sorted otherwise."""
    model = named_weights(bit_keras.ResNetV2((1,), 0.25, classes, name=name))
    model.spec = PUBLISHED[name]
    images = some_images(np.arange(3), sorted(f"thing {k}" for k in range(classes)))
    with pytest.raises((ValueError, DownloadError), match=error) as caught:
        bit_keras.evaluate(model, images, size=32)
    assert "\n" not in str(caught.value)
    by_number = {"thing 0": ("2",), "thing 1": ("0",), "thing 10": ("1",)}  # the first three
    found = bit_keras.evaluate(model, images, size=32, class_map=by_number)
    own = model(np.zeros((1, 32, 32, 3)))[0, :].numpy()
    assert found.metrics["num_test"] == 3
    assert found.metrics["accuracy"] == (1 / 3 if own.argmax() < 3 else 0)


def test_a_users_own_thousand_classes_have_the_datas_order(offline):
    model = named_weights(bit_keras.ResNetV2((1,), 0.25, 1000, name="mine"))
    images = some_images(np.arange(3), sorted(f"thing {k}" for k in range(1000)))
    found = bit_keras.evaluate(model, images, size=32)
    answers = model(np.zeros((1, 32, 32, 3)))
    np.testing.assert_allclose(found.logits, np.repeat(answers, 3, axis=0), atol=1e-4)
    assert found.accepted is None


@pytest.mark.parametrize(
    ("name", "size", "middle"),
    [
        ("BiT-M-R50x1-ILSVRC2012", 480, 1),
        ("vtab/BiT-M-R50x1-run0-cifar100", 128, 1),
        ("distill/R50x1_160", 160, 1),
        ("BiT-M-R50x1", 224, 224 / 256),  # by its upstream recipe
    ],
)
def test_published_models_are_shown_images_as_by_their_authors(name, size, middle):
    """Of an image whose every column has another color, the middle part is seen."""
    row = np.linspace(0, 255, 512).astype(np.uint8)
    prepared = PUBLISHED[name].prepared(np.tile(row[None, :, None], (512, 1, 3)))
    assert prepared.shape == (size, size, 3)
    seen = np.ptp(prepared.numpy())
    assert seen == pytest.approx(middle, abs=0.01)


def test_a_model_that_tells_no_size_is_asked_for_it(model, digits):
    with pytest.raises(ValueError, match=r"nothing tells the size .* that ten was trained on"):
        bit_keras.evaluate(model, digits)


def test_a_sigmoid_on_images_of_one_label_is_scored_alike_after_training_and_later(
    model, digits, tmp_path
):
    bit_keras.export(model, tmp_path / "m.npz", format="npz")
    recipe = UpstreamRecipe(1, (), "sigmoid", batch=50, warmup_steps=0, crop=32, test_resize=32)
    few, run = digits.subset(range(50)), tmp_path / "run"
    trained = bit_keras.pretrain(
        *(tmp_path / "m.npz", few, few),
        validation=few,
        workdir=run,
        recipe=recipe,
        export=False,
    )
    best = run / "checkpoints/best.keras"
    found = bit_keras.evaluate(best, few, workdir=tmp_path / "test")
    assert {"accuracy", "calibration_error"} < found.metrics.keys()
    for name, value in found.metrics.items():
        assert trained.metrics[name] == pytest.approx(value, rel=1e-4), name
    logits = np.array(found.logits, "float64")
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss_of_labels = sklearn.metrics.log_loss(few.labels, softmax, labels=range(10))
    assert found.metrics["loss"] == pytest.approx(loss_of_labels, rel=1e-5)
    np.testing.assert_allclose(found.probabilities, sigmoid(logits), rtol=1e-5)
    surest = found.probabilities.max(1)[found.predictions != few.labels].max()
    report = (tmp_path / "test/report.html").read_text()
    assert f"</b>, {100 * surest:.0f}\N{NO-BREAK SPACE}%</figcaption>" in report
    mapped = bit_keras.evaluate(best, few, class_map={"3": ("3",), "8": ("8", "0")})
    assert mapped.metrics["num_test"] == np.isin(few.labels, [3, 8]).sum()


def test_images_of_several_labels_are_tested_by_average_precision(digits, model):
    few = digits.subset(range(20))
    labels = np.eye(10, dtype=bool)[few.labels]
    labels[::2, 3] = True
    several = dataclasses.replace(few, labels=labels)
    found = bit_keras.evaluate(model, several, size=32)
    own = bit_keras.evaluate(model, few, size=32).logits
    shown = labels.any(axis=0)
    expected = sklearn.metrics.average_precision_score(labels[:, shown], own[:, shown])
    assert found.metrics["mean_average_precision"] == pytest.approx(expected)
    nobody = dataclasses.replace(few, labels=np.zeros((20, 10), bool))
    with pytest.raises(ValueError, match="has a class"):
        bit_keras.evaluate(model, nobody, size=32)
    class_map = dict.fromkeys(few.class_names, ("0",))
    with pytest.raises(ValueError, match="map each to one"):
        bit_keras.evaluate(model, several, size=32, class_map=class_map)


def test_nan_logits_are_an_error(digits):
    broken = named_weights(bit_keras.ResNetV2((1,), 0.25, 10, name="broken"))
    broken.get_layer("head").conv.bias.assign(np.full(10, np.nan))
    with pytest.raises(ValueError, match=r"broken on .* answers with NaN"):
        bit_keras.evaluate(broken, digits, size=32)


def typed(*arguments, cwd):
    command = [sys.executable, "-m", "bit_keras.cli.evaluate", *arguments]
    console = os.environ | {"PYTHONIOENCODING": "cp1252"}
    return subprocess.run(
        command, cwd=cwd, env=console, capture_output=True, text=True, check=False
    )


def test_the_command_leaves_a_run(model, tmp_path):
    model.save(tmp_path / "m.keras")
    for name in ("3", "8", "zebra \N{CJK UNIFIED IDEOGRAPH-99AC}"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            picture = PIL.Image.new("RGB", (32, 32), (40 * i, 90, 200))
            picture.save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "map.csv").write_text("class,model_class\n3,3\n8,8|0\n")
    done = typed(
        *("--model=m.keras", "--dataset=photos", "--class_map=map.csv", "--size=32"),
        *("--logdir=out", "--name=first"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "3 images of 1 classes that the model does not know are left out: zebra ?." in done.stdout
    )
    metrics = json.loads((tmp_path / "out/first/metrics.json").read_text())
    assert metrics["num_test"] == 6
    with open(tmp_path / "out/first/per_class.csv", newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["3", "8"]
    assert "--class_map=map.csv" in (tmp_path / "out/first/report.html").read_text()


MISTAKES = {
    "": "name a model with a head",
    "--model=BiT-XS-R26x0.25": "has no head",
    "--shots=5 --suite=vtab-1k": "--shots and --suite are answered one at a time",
    "--compare": "needs two run folders or more, got 0",
    "nowhere": "unexpected argument 'nowhere'",
    "--shots=5,many": 'shots must be numbers from 1, or "full"',
    "--shots=5,9999": "shots must be at most 139",
    "--suite=vtab-1k --tasks=cifar": "did you mean cifar100?",
    "--model=BiT-M-R50x1 --dataset=cifar11": "did you mean cifar10",
    "--model=BiT-M-R50x1 --class_map=nowhere.csv": "is not a file; give a CSV file",
}
SEVERAL = """
import contextlib, io, json, sys
from absl import flags
from absl.testing import flagsaver
from bit_keras.cli import evaluate
answers = []
for line in json.loads(sys.argv[1]):
    sys.argv = ["bit-evaluate", *line.split()]
    flags.FLAGS.unparse_flags()
    with flagsaver.flagsaver(), contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            evaluate.run()
        except SystemExit as stop:
            answers.append([stop.code, errors.getvalue()])
print(json.dumps(answers))
"""


def test_mistakes_are_answered_in_one_sentence(tmp_path):
    command = [sys.executable, "-c", SEVERAL, json.dumps([*MISTAKES])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout.splitlines()[-1])
    for line, (code, errors) in zip(MISTAKES, answers, strict=True):
        assert code == 2, line
        [error] = [e for e in errors.splitlines() if e.startswith("error: ")]
        assert MISTAKES[line] in error
    assert not (tmp_path / "runs").exists()
