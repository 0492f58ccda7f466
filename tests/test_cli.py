"""The commands, typed for real: subprocesses, their output and what they leave."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest


def finetune(*arguments, cwd):
    command = [sys.executable, "-m", "bit_keras.cli.finetune", *arguments]
    return typed(command, cwd)


def typed(command, cwd):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def photos(tmp_path):
    """Twelve small photos of two classes, red and blue."""
    rng = np.random.default_rng(0)
    for name, color in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.normal(color, 20, size=(40 + i, 50, 3)).clip(0, 255).astype("uint8")
            PIL.Image.fromarray(pixels).save(tmp_path / f"photos/{name}/{i}.jpg")
    return tmp_path / "photos"


def test_a_folder_of_photos(photos, tmp_path):
    done = finetune(
        *("--dataset=photos", "--steps=10", "--batch=8", "--batch_split=2", "--eval_every=5"),
        *("--examples_per_class=3", "--base_lr=0.01", "--resize=40", "--crop=32", "--seed=1"),
        *("--augmentation=flip", "--logdir=out", "--name=first"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "6 images of 2 classes, tested on 2" in done.stdout
    metrics = json.loads((tmp_path / "out/first/metrics.json").read_text())
    assert metrics["accuracy"] == 1.0
    assert "Accuracy 100.00%" in done.stdout
    config = json.loads((tmp_path / "out/first/config.json").read_text())
    assert config["class_names"] == ["blue", "red"]
    assert "--logdir=out --name=first" in (tmp_path / "out/first/report.html").read_text()
    assert (config["rule"]["crop"], config["batch_split"], config["seed"]) == (32, 2, 1)
    assert (tmp_path / "out/first/model/saved_model.pb").exists()
    assert (tmp_path / "out/first/labels.txt").read_text() == "blue\nred\n"
    again = finetune("--dataset=photos", "--logdir=out", "--name=first", cwd=tmp_path)
    assert again.returncode == 2
    assert "holds a finished run already" in again.stderr


def test_the_installed_command_helps(tmp_path):
    script = pathlib.Path(sys.executable).with_name("bit-finetune")
    done = typed([script, "--help"], tmp_path)
    assert "fine-tunes a BiT on labeled images" in done.stdout
    for flag in ("--model", "--dataset", "--examples_per_class_seed", "--batch_split", "--logdir"):
        assert flag in done.stdout
    assert "Did you mean: batch_split" in typed([script, "--batch_splt=2"], tmp_path).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=BiT-M-R50"], "no model named 'BiT-M-R50'"),
        (["--model=BiT-L-R152x4"], "never released"),
        (["--dataset=./nowhere"], "nowhere is not a folder"),
        (["--dataset=cifr10"], "there is no folder 'cifr10', and TensorFlow Datasets has no"),
        (["--dataset=photos", "--examples_per_class=9"], "fewer than the 9 examples"),
        (["--crop=16"], "crop must be 32 or more, got 16"),
        (["--bit_pretrained_dir=nowhere"], "no file nowhere"),
        (["digits"], "unexpected argument 'digits'"),
    ],
)
def test_mistakes_get_one_sentence(photos, tmp_path, arguments, message):
    done = finetune(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()  # what comes before is TensorFlow's greeting
    assert last.startswith("error: ")
    assert message in last
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
