"""The commands as a user types them: their output and their files."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest


def finetune(*arguments, cwd, **variables):
    command = [sys.executable, "-m", "bit_keras.cli.finetune", *arguments]
    return typed(command, cwd, **variables)


def typed(command, cwd, **variables):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= variables
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def typed_in_one_process(module, lines, cwd):
    """Runs a command once for each line of arguments; returns (exit code, stderr) of each.

    One process costs seconds, as it imports TensorFlow.
    """
    done = typed([sys.executable, "-c", SEVERAL, module, json.dumps(lines)], cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SEVERAL = """
import contextlib, importlib, io, json, sys
from absl import flags
from absl.testing import flagsaver
_, name, lines = sys.argv
command = importlib.import_module(name)
answers = []
for line in json.loads(lines):
    sys.argv = [name, *line.split()]
    flags.FLAGS.unparse_flags()
    with flagsaver.flagsaver(), contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            command.run()
        except SystemExit as stop:
            answers.append([stop.code, errors.getvalue()])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Has photos/, twelve small photos of two classes, red and blue."""
    root = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    for name, color in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.normal(color, 20, size=(40 + i, 50, 3)).clip(0, 255).astype("uint8")
            PIL.Image.fromarray(pixels).save(root / f"photos/{name}/{i}.jpg")
    return root


@pytest.fixture(scope="module")
def trained(folder):
    """(the folder, what the command said that trained out/first in it).

    The folder also has home/ and tmp/, which were the user's.
    """
    for place in ("home", "tmp"):
        (folder / place).mkdir()
    caches = dict.fromkeys(("BIT_KERAS_CACHE", "MPLCONFIGDIR", "XDG_CACHE_HOME"), "")
    done = finetune(
        *("--dataset=photos", "--steps=10", "--batch=8", "--batch_split=2", "--eval_every=5"),
        *("--examples_per_class=3", "--base_lr=0.01", "--resize=40", "--crop=32", "--seed=1"),
        *("--augmentation=flip", "--logdir=out", "--name=first"),
        cwd=folder,
        **{**caches, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")},
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_only_the_run_and_caches_are_written(trained):
    """Where `~` is another folder, and that of temporary files, whose files must be gone."""
    folder, _ = trained
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    expected = r"(photos|out|home/\.cache/(bit_keras|matplotlib))/.*|home/\.keras/keras\.json"
    assert [path for path in files if not re.fullmatch(expected, path)] == []


def test_a_folder_of_photos(trained):
    folder, output = trained
    run = folder / "out/first"
    assert "6 images of 2 classes, tested on 2" in output
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["accuracy"] == 1.0
    assert "Accuracy 100.00%" in output
    config = json.loads((run / "config.json").read_text())
    assert config["class_names"] == ["blue", "red"]
    assert "--logdir=out --name=first" in (run / "report.html").read_text()
    assert (config["rule"]["crop"], config["batch_split"], config["seed"]) == (32, 2, 1)
    assert (run / "model/saved_model.pb").exists()
    assert (run / "labels.txt").read_text() == "blue\nred\n"


@pytest.mark.slow
def test_broken_images_are_left_out_and_validation_images_choose(trained):
    """On patient0_0.jpg, ... of either class, one of which is broken and one copied."""
    folder, _ = trained
    for label, color in (("red", 220), ("blue", 30)):
        (folder / "patients" / label).mkdir(parents=True)
        for i in range(12):
            pixels = np.full((40, 40, 3), (color, 30, 250 - color), np.uint8)
            pixels[i : i + 9, 20 - i : 30] //= 2
            path = folder / f"patients/{label}/patient{i // 2}_{i % 2}.png"
            PIL.Image.fromarray(pixels).save(path)
    (folder / "patients/red/patient1_0.png").write_bytes(b"no image")
    (folder / "patients/notes.txt").write_text("no image either")
    done = finetune(
        *("--dataset=patients", "--bad_images=skip", r"--group_by=patient(\d)", "--mix=cutmix"),
        *("--validation=0.3", "--patience=1", "--eval_every=2", "--steps=8", "--batch=8"),
        *("--sampling=balanced", "--train=from:block4", "--logdir=out", "--name=second"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+ images of 2 classes, tested on \d+, chosen by \d+", done.stdout)
    assert "cutmix 1." in done.stdout
    assert "Left out: 1 image of 24 cannot be read: " in done.stderr
    assert (
        "patients: files left out, as they are no images or in no class folder: 1, of"
        in done.stderr
    )
    run = folder / "out/second"
    assert (run / "skipped_images.txt").read_text().endswith("red/patient1_0.png\n")
    report = (run / "report.html").read_text()
    assert "Images left out" in report
    assert "Step kept" in report
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["kept_step"] < metrics["steps"] <= 8
    config = json.loads((run / "config.json").read_text())
    assert (config["keep"], config["patience"], config["sampling"]) == ("best", 1, "balanced")
    counts = [config[part]["num_images"] for part in ("train", "validation", "test")]
    assert sum(counts) == 23


def test_the_installed_command_helps(tmp_path):
    script = pathlib.Path(sys.executable).with_name("bit-finetune")
    done = typed([script, "-h"], tmp_path)
    assert done.returncode == 0
    assert "fine-tunes a BiT on labeled images" in done.stdout
    for flag in ("--model", "--dataset", "--examples_per_class_seed", "--batch_split", "--logdir"):
        assert flag in done.stdout


MISTAKES = {
    "--model=BiT-M-R50": "no model named 'BiT-M-R50'",
    "--model=BiT-L-R152x4": "never released",
    "--dataset=./nowhere": "nowhere is not a folder",
    "--dataset=cifr10": "there is no folder 'cifr10', and TensorFlow Datasets has no",
    "--dataset=photos --examples_per_class=9": "fewer than the 9 examples",
    "--crop=16": "crop must be 32 or more, got 16",
    "--bit_pretrained_dir=nowhere": "no file nowhere",
    "digits": "unexpected argument 'digits'",
    "--dataset=photos --logdir=out --name=first": "holds a finished run already",
    "--lr=0.1": "there is no --lr; it is --base_lr here",
    "--batch_size 8": "there is no --batch_size; it is --batch here",
    "--epochs=3": "there is no --epochs; it is --steps here",
    "--model=R26x0.5": "an architecture without weights",
    "--batch_split=many": 'must be "auto", or a number of 1 or more',
    # What is wrong whatever the images is told before they are looked for.
    "--dataset=./nowhere --logdir=out --name=first": "holds a finished run already",
    "--dataset=./nowhere --logdir=. --name=photos": "files that belong to no run",
    "--keep=best": "keep='best' needs images to choose by, and test images never choose",
    "--validation=2": "validation must be a part of the images, in (0, 1), or images, got 2",
    "--dataset=photos --group_by=patient": "finds nothing in blue/0.jpg",
    "--group_by=x": "group_by finds groups in paths, and digits is no folder or CSV file",
    "--dataset=./nowhere --train=block4": 'did you mean "from:block4"?',
    "--dataset=./nowhere --resize=40 --crop=64": "resize must be at least the crop",
    "--dataset=./nowhere --batch_split=3": "must divide the batch of 128 images",
}
SHORT_NAME = "--model=BiT-XS --dataset=./nowhere"
MISSPELT = "--batch_splt=2"


@pytest.fixture(scope="module")
def answers(trained):
    """{line of arguments: (exit code, stderr)}, of what is typed after the run."""
    folder, _ = trained
    lines = [*MISTAKES, MISSPELT, SHORT_NAME]
    found = typed_in_one_process("bit_keras.cli.finetune", lines, folder)
    return dict(zip(lines, found, strict=True))


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.items())
def test_mistakes_get_one_sentence(answers, folder, arguments, message):
    code, errors = answers[arguments]
    assert code == 2
    *_, last = errors.splitlines()  # what comes before are TensorFlow's messages
    assert last.startswith("error: ")
    assert message in last
    assert errors.count("error: ") == 1
    assert "Traceback" not in errors
    assert not (folder / "runs").exists()


def test_the_nearest_flag_is_suggested(answers):
    assert "did you mean --batch_split" in answers[MISSPELT][1]


def test_the_beginning_of_a_name_is_enough(answers):
    code, errors = answers[SHORT_NAME]
    assert code == 2
    assert "The model BiT-XS is BiT-XS-R26x0.25." in errors
    assert "nowhere is not a folder" in errors
