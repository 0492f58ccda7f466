"""The consumer programs, on a real export and where bit_keras cannot be imported."""

import os
import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from conftest import named_weights

import bit_keras

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
CLASSIFIERS = ("consume_hub_load.py", "consume_saved_model.py", "consume_keras3.py")


@pytest.fixture(scope="session")
def model():
    return named_weights(bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 10, name="tiny10"))


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """Holds model/, features/ (without a head), noise.png, red.png, names.txt."""
    folder = tmp_path_factory.mktemp("examples")
    bit_keras.export(model, folder / "model")
    headless = bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 0, name="tiny0")
    bit_keras.export(headless, folder / "features")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(folder / "noise.png")
    PIL.Image.fromarray(pixels * np.uint8([1, 0, 0])).save(folder / "red.png")
    (folder / "names.txt").write_text("".join(f"class {i}\n" for i in range(10)))
    # Found before the installed one.
    (folder / "without").mkdir()
    (folder / "without" / "bit_keras.py").write_text("raise ImportError('not for consumers')")
    return folder


def run(folder, program, *arguments):
    search = [str(folder / "without"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(search),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, EXAMPLES / program, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", CLASSIFIERS)
def test_a_classifier_prints_the_models_own_answers(program, model, folder):
    labels = ["--labels=names.txt"] if program == "consume_hub_load.py" else []
    files = ["noise.png", "red.png"]
    printed = run(folder, program, "--model=model", "--size=64", "--top=3", *labels, *files)

    pixels = np.stack([np.asarray(PIL.Image.open(folder / file)) for file in files])
    probabilities = tf.nn.softmax(model(tf.image.resize(pixels, [64, 64]) / 255)).numpy()
    best = np.argsort(-probabilities)[:, :3]
    assert abs(np.diff(probabilities[:, best[0, 0]])) > 0.01  # the two images can be told apart
    answers = re.findall(r"^  (0\.\d{4})  (.+)$", printed, re.MULTILINE)
    names = [f"class {i}" if labels else f"{i}" for i in best.flat]
    assert [name for _, name in answers] == names
    expected = np.take_along_axis(probabilities, best, axis=1).flatten()
    np.testing.assert_allclose([float(p) for p, _ in answers], expected, atol=2e-4)
    assert re.findall(r"^\w+\.png$", printed, re.MULTILINE) == files
    if program == "consume_saved_model.py":
        assert f"model: {len(model.variables)} variables\n" in printed


def test_hub_keras_layer_trains_the_module_and_its_head(model, folder):
    printed = run(folder, "consume_hub_keras_layer.py", "--model=model", "--learning_rate=0.03")
    count = len(model.trainable_variables)
    assert f"trains {count} variables of the module and 2 of the new head\n" in printed
    assert f"changed {count} variables of the module\n" in printed
    before, after = re.search(r"accuracy (\S+) before, (\S+) after", printed).groups()
    assert float(before) == pytest.approx(0.1, abs=0.02)  # of a head of zeros
    assert float(after) > 0.3


def refusal(monkeypatch, capsys, program, *arguments):
    """What the program says as it exits with 2; in this process, which is quicker."""
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(EXAMPLES / program), run_name="__main__")
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("program", [*CLASSIFIERS, "consume_hub_keras_layer.py"])
def test_a_mistyped_model_is_answered_in_a_sentence(program, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    images = ["noise.png"] if program in CLASSIFIERS else []
    error = refusal(monkeypatch, capsys, program, "--model=modle", *images)
    assert error == "error: modle is not a folder with a saved_model.pb.\n"


@pytest.mark.parametrize("program", CLASSIFIERS)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model=model", "nose.png"], "nose.png cannot be read"),
        (["--model=model", "noise.png", "names.txt"], "names.txt cannot be read"),
        (["--model=features", "noise.png"], "features answers with features"),
    ],
)
def test_images_and_models_that_cannot_be_used(
    program, arguments, sentence, folder, monkeypatch, capsys
):
    monkeypatch.chdir(folder)
    error = refusal(monkeypatch, capsys, program, *arguments)
    assert error.startswith(f"error: {sentence}; expected ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("labels", "sentence"), [("nmaes.txt", "no file nmaes.txt"), ("few.txt", "1 names for 10")]
)
def test_labels_that_do_not_fit(labels, sentence, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    pathlib.Path("few.txt").write_text("only\n")
    arguments = ["--model=model", f"--labels={labels}", "noise.png"]
    assert sentence in refusal(monkeypatch, capsys, "consume_hub_load.py", *arguments)
