"""The programs of those who use exported detectors, where bit_keras cannot be imported."""

import os
import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from conftest import made_once
from corpus.encoding import tiff
from corpus.images import pictures
from detectors import NAMES, export, lively_detector
from pictures import picture

import bit_keras

pytestmark = pytest.mark.slow
CONSUMERS = pathlib.Path(__file__).parents[1] / "export" / "consumers"
FILES = ("noise.png", "turned.jpg", "turned.webp", "clear.png", "large.png")
MODELS = {"detector_saved_model": "served", "detector_onnx": "cells.onnx"}
LEAST = 0.1  # score of the objects that are compared


@pytest.fixture(scope="module")
def detector():
    return lively_detector()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds exports of the detector and of a classifier, pictures, and `without/bit_keras.py`.

    The latter is found before the installed one and cannot be imported.
    """
    folder = tmp_path_factory.mktemp("consumers")
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(folder / "noise.png")
    image = picture(40, 56, seed=1)
    # Of blocks of one color, which all decoders of JPEG read alike.
    blocks = picture(5, 7, seed=1).resize((56, 40), PIL.Image.Resampling.NEAREST)
    blocks.save(folder / "turned.jpg", exif=tiff(6), quality=100, subsampling=0)
    image.save(folder / "turned.webp", exif=tiff(3, big=True), lossless=True)
    (folder / "clear.png").write_bytes(pictures()["clear.png"].content)
    picture(150, 230, seed=2).save(folder / "large.png")
    exports = made_once(tmp_path_factory, "detector", export) / "exports"
    small = bit_keras.ResNetV2((1,), 0.25, 2)
    for name, format in (("served", "saved_model"), ("cells.onnx", "onnx")):
        (folder / name).symlink_to(exports / name)
        bit_keras.export(small, folder / f"classes-{name}", format, images=noise[None])
    (folder / "notes.txt").write_text("no picture")
    (folder / "without").mkdir()
    (folder / "without" / "bit_keras.py").write_text("raise ImportError('not for consumers')")
    return folder


@pytest.fixture(scope="module")
def expected(detector, folder):
    """What the package itself finds in each file."""
    files = [folder / name for name in FILES]
    found = bit_keras.detect_objects(detector, files, threshold=0)
    return {pathlib.Path(one["image"]).name: one["objects"] for one in found}


def objects_in(printed):
    """By file, what a program printed: (name, score, box)."""
    found = {}
    for line in printed.splitlines():
        if not line.startswith("  "):
            found[line] = []
            continue
        score, name, box = re.fullmatch(r"  (\d\.\d{4})  (.+)  ([\d. ]+)", line).groups()
        found[[*found][-1]].append((name, float(score), [float(side) for side in box.split()]))
    return found


def assert_found_alike(found, expected, file):
    """Each finds what the other does, but for rounding, and scores near the lowest."""
    near, pixels = 2e-4, 0.1  # of numbers of four digits and of one
    expected = [(each["class"], each["score"], each["box"]) for each in expected]
    assert len([score for _, score, _ in expected if score > LEAST]) > 3
    for these, those in ((found, expected), (expected, found)):
        for name, score, box in these:
            if score > LEAST + near:
                assert any(
                    name == other_name
                    and abs(score - other_score) < near
                    and np.abs(np.subtract(box, other_box)).max() < pixels
                    for other_name, other_score, other_box in those
                ), (file, name, score, box)


def assert_answers_of_the_package(printed, expected):
    found = objects_in(printed)
    assert [*found] == [*FILES]
    for file, objects in found.items():
        assert_found_alike(objects, expected[file], file)
        scores = [score for _, score, _ in objects]
        assert scores == sorted(scores, reverse=True)
        assert min(scores) >= LEAST
    assert {name for objects in found.values() for name, *_ in objects} <= {*NAMES}


@pytest.mark.parametrize("consumer", MODELS)
def test_a_consumer_prints_the_objects_that_the_package_finds(consumer, folder, expected):
    search = [str(folder / "without"), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {"PYTHONPATH": os.pathsep.join(search), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [
            *(sys.executable, CONSUMERS / f"{consumer}.py"),
            *(f"--model={MODELS[consumer]}", f"--threshold={LEAST}", *FILES),
        ],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert_answers_of_the_package(done.stdout, expected)


def in_this_process(monkeypatch, consumer, *arguments):
    """Runs a consumer where TensorFlow is imported already."""
    monkeypatch.setattr(sys, "argv", [consumer, *arguments])
    runpy.run_path(str(CONSUMERS / f"{consumer}.py"), run_name="__main__")


@pytest.mark.parametrize("consumer", MODELS)
def test_only_objects_of_the_threshold_are_printed(consumer, folder, expected, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    printed = []
    for threshold in ([], ["--threshold=0.3"], ["--threshold=1"]):
        in_this_process(monkeypatch, consumer, f"--model={MODELS[consumer]}", *threshold, FILES[0])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    scores = [score for _, score, _ in objects_in(printed[0])[FILES[0]]]
    assert len(scores) == sum(each["score"] >= 0.3 for each in expected[FILES[0]])
    assert printed[2] == f"{FILES[0]}\n"


@pytest.mark.parametrize("consumer", MODELS)
def test_mistakes_are_answered_in_a_sentence(consumer, folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    model = MODELS[consumer]
    for arguments, sentence in (
        (["--model=modle", "noise.png"], ".*modle"),
        (["--model=notes.txt", "noise.png"], "notes.txt (cannot be read|is not a folder)"),
        ([f"--model=classes-{model}", "noise.png"], f"classes-{model} is no detector; expected "),
        ([f"--model={model}", "nose.png"], "nose.png cannot be read; expected "),
        ([f"--model={model}", "notes.txt"], "notes.txt cannot be read; expected "),
        ([f"--model={model}", "--threshold=30", "noise.png"], "--threshold must be a score in"),
    ):
        with pytest.raises(SystemExit) as stopped:
            in_this_process(monkeypatch, consumer, *arguments)
        assert stopped.value.code == 2
        *_, last = capfd.readouterr().err.splitlines()
        assert re.match(f"error: {sentence}", last), last
