"""Trainings of detectors, however cut off or shared out: real processes, really killed."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from detectors import boxless, lively_detector, pictures

import bit_keras
from bit_keras import data
from bit_keras.checkpoints import save_npz
from bit_keras.data.masks import mask_code
from bit_keras.detection.detecting import all_detections
from bit_keras.detection.learning import BUILDERS
from bit_keras.metrics.coco_json import as_segmentation
from bit_keras.recipes import DetectionRecipe

# The detector with most parts: masks, and proposals that are drawn. What goes on, shares out and
# clips knows no task; test_strategies.py and test_run.py have it of others.
MODEL_TYPE = "mask_rcnn"
STEPS = 12  # with a checkpoint after every second, and a line in the log after each
KILLED_AFTER = 5


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """Holds a body, tiny.npz, and twelve scenes with their boxes in scenes.json."""
    folder = tmp_path_factory.mktemp("scenes")
    save_npz(folder / "tiny.npz", {v.path: v.numpy() for v in tiny.variables})
    images, annotations = [], []
    for i in range(12):
        scene = data.scene(i, size=64)
        PIL.Image.fromarray(scene.image).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png"})
        for (left, top, right, bottom), label, mask in zip(
            scene.boxes.tolist(), scene.classes.tolist(), scene.masks, strict=True
        ):
            box = [left, top, right - left, bottom - top]
            own = {"id": len(annotations), "image_id": i, "category_id": label, "bbox": box}
            annotations.append({**own, "segmentation": as_segmentation(mask_code(mask))})
    categories = [{"id": label, "name": f"class {label}"} for label in range(14)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "scenes.json").write_text(json.dumps(content))
    return folder


def start(folder, name):
    """`bit-detect train` in a process of its own; its run's folder is runs/NAME."""
    flags = {
        "model": "tiny.npz",
        "model_type": MODEL_TYPE,
        "dataset": "scenes.json",
        "steps": STEPS,
        "batch": 4,
        "size": 64,
        "channels": 8,
        "base_lr": 0.01,
        "name": name,
    }
    command = [sys.executable, "-m", "bit_keras.cli.detect", "train"]
    return subprocess.Popen(
        [*command, *(f"--{flag}={value}" for flag, value in flags.items())],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]


def logged(run):
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.slow
def test_a_killed_training_ends_bit_for_bit_like_an_undisturbed_one(folder):
    whole, killed = folder / "runs/undisturbed", folder / "runs/killed"
    undisturbed, process = start(folder, "undisturbed"), start(folder, "killed")
    while len(logged(killed)) < KILLED_AFTER and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    saved = [int(path.stem[5:]) for path in (killed / "checkpoints").glob("ckpt-*.index")]
    assert 2 <= max(saved) < STEPS
    assert not (killed / "metrics.json").exists()
    finish(undisturbed)
    finish(start(folder, "killed"))

    models = [bit_keras.load(run / "model.keras") for run in (whole, killed)]
    assert all(model.spec.detector == MODEL_TYPE for model in models)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(a, b)
    assert "mask_ap" in json.loads((killed / "metrics.json").read_text())
    expected, resumed = (logged(run) for run in (whole, killed))
    for one, other in zip(expected, resumed, strict=True):
        one, other = ({**line, "images_per_second": 0} for line in (one, other))
        assert one == other


def one_step(path):
    """Writes how far weights move in one step: on one replica, and clipped on two, in pieces.

    In a process of its own, for a CPU becomes two devices only before TensorFlow has started.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    scenes, _ = data.scenes(4, num_test=1, size=64)
    body = bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 0)
    model = BUILDERS[MODEL_TYPE](body, 14, size=64, channels=8)
    start = model.get_weights()
    recipe = DetectionRecipe(
        epochs=1, decay_epochs=(), batch=4, base_lr=1.0, warmup_steps=0, size=64, clip_norm=0
    )

    def moved_by(recipe, strategy, pieces):
        model.set_weights(start)
        options = {"recipe": recipe, "strategy": strategy, "batch_split": pieces, "export": False}
        result = bit_keras.fine_tune_detector(
            model, scenes, workdir=path.with_name(strategy), **options
        )
        weights = zip(start, result.model.get_weights(), strict=True)
        return np.concatenate([(after - before).ravel() for before, after in weights])

    whole = moved_by(recipe, "single", 1)
    recipe = recipe.replace(clip_norm=0.8 * float(np.linalg.norm(whole)))
    np.save(path, [whole, moved_by(recipe, "mirrored", 2)])


@pytest.mark.slow
def test_replicas_and_pieces_clip_the_gradient_of_the_whole_batch(tmp_path):
    """To 0.8 of its length: of parts that are clipped each, the sum would be longer."""
    code = "import pathlib, sys, test_detector_resume as t; t.one_step(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, tmp_path / "moved.npy"]
    subprocess.run(command, cwd=pathlib.Path(__file__).parent, check=True, timeout=600)
    whole, clipped = np.load(tmp_path / "moved.npy")
    assert np.linalg.norm(clipped) == pytest.approx(0.8 * np.linalg.norm(whole), rel=1e-4)
    np.testing.assert_allclose(clipped, 0.8 * whole, atol=1e-5 * np.abs(whole).max())


@pytest.mark.slow
def test_the_size_of_a_batch_changes_no_detection():
    model = lively_detector()
    sizes = [(64, 64), (200, 90), (40, 30), (97, 180), (33, 150)] * 2
    images = boxless(*pictures(*sizes))
    one, eight = (all_detections(model, images, batch=batch) for batch in (1, 8))
    assert sum(len(found["scores"]) for found in one) > 100
    for alone, together in zip(one, eight, strict=True):
        np.testing.assert_array_equal(alone["classes"], together["classes"])
        np.testing.assert_allclose(alone["scores"], together["scores"], atol=1e-5)
        np.testing.assert_allclose(alone["boxes"], together["boxes"], atol=1e-2)
