"""A detector from its training to its answers: the run, its folder, the command."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

import bit_keras
from bit_keras import data
from bit_keras.detection.detecting import all_detections
from bit_keras.detection.evaluation import held_out
from bit_keras.recipes import DetectionRecipe
from bit_keras.training.reading_runs import may_have_been_trained_on

RECIPE = DetectionRecipe(
    epochs=1, decay_epochs=(0.8,), batch=4, base_lr=0.002, warmup_steps=1, size=64
)


@pytest.fixture(scope="module")
def whole():
    """A set without a test part."""
    return data.scenes(20, seed=1)[0].subset(range(20))


@pytest.fixture(scope="module")
def sets(whole):
    return whole.split()


@pytest.fixture(scope="module")
def run(sets, tmp_path_factory):
    """Chosen by validation images, of a set in which an image was broken."""
    train, test = sets
    train = dataclasses.replace(train, skipped=("broken.jpg",))
    workdir = tmp_path_factory.mktemp("runs") / "scenes"
    body = bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 0)
    options = {"workdir": workdir, "recipe": RECIPE, "channels": 8, "evaluate_every": 2}
    return bit_keras.fine_tune_detector(body, train, test, validation=0.25, **options)


def test_a_run_leaves_its_whole_folder(run, sets):
    folder = run.workdir
    assert {"ap", "ap50", "ap75", "ar", "num_test", "steps"} <= run.metrics.keys()
    assert (run.metrics["steps"], run.metrics["num_test"]) == (3, len(sets[1]))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert {"loss", "class_loss", "box_loss"} <= {name for line in lines for name in line}
    for name in ("report.html", "per_class.csv", "detections.json", "config.json"):
        assert (folder / name).is_file()
    settings = json.loads((folder / "config.json").read_text())
    assert settings["recipe"]["size"] == 64
    assert settings["class_names"] == list(sets[0].class_names)


@pytest.mark.slow
def test_the_detector_that_is_kept_answers_as_the_trained_one(run, sets):
    _, test = sets
    one = all_detections(run.model, test, batch=1)
    for found in (
        all_detections(run.model, test, batch=6),
        bit_keras.evaluate_detector(run.workdir, test).detections,
    ):
        for a, b in zip(one, found, strict=True):
            np.testing.assert_allclose(a["scores"], b["scores"], atol=1e-5)
            np.testing.assert_allclose(a["boxes"], b["boxes"], atol=0.05)
            np.testing.assert_array_equal(a["classes"], b["classes"])
    limits = test.image_sizes[0, ::-1]
    assert all(np.all((f["boxes"] >= 0) & (f["boxes"] <= [*limits, *limits])) for f in one)


@pytest.mark.slow
def test_the_command_finds_objects_on_files(run, sets, tmp_path):
    _, test = sets
    for i in range(2):
        PIL.Image.fromarray(np.asarray(test.read(np.int64(i)))).save(tmp_path / f"{i}.png")
    command = [sys.executable, "-m", "bit_keras.cli.detect", "predict", f"--model={run.workdir}"]
    flags = ["--threshold=0", "--format=json", "--output=found.json", "--pictures=drawn", "."]
    done = subprocess.run(
        [*command, *flags], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert [pathlib.Path(one["image"]).name for one in found] == ["0.png", "1.png"]
    expected = bit_keras.detect_objects(run.workdir, sorted(tmp_path.glob("*.png")), threshold=0)
    assert [one["objects"] for one in found] == [one["objects"] for one in expected]
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"1-0.jpg", "2-1.jpg"}


def test_validation_images_choose_the_detector(run, sets):
    lines = [json.loads(line) for line in (run.workdir / "metrics.jsonl").open()]
    scores = {x["step"]: x["validation_ap"] for x in lines if "validation_ap" in x}
    assert [*scores] == [2, 3]
    assert run.metrics["validation_ap"] == max(scores.values())
    assert scores[run.metrics["kept_step"]] == max(scores.values())
    settings = json.loads((run.workdir / "config.json").read_text())
    counts = [settings[part]["num_images"] for part in ("train", "validation")]
    assert counts == [12, 4]
    assert sum(counts) == len(sets[0])


@pytest.mark.slow
def test_classes_are_those_of_the_same_names(run, sets):
    _, test = sets
    expected = bit_keras.evaluate_detector(run.workdir, test)
    known = np.unique(test.classes)[::-1]  # another order, and without those of no box here
    number = {label: i for i, label in enumerate(known)}
    fewer = dataclasses.replace(
        test,
        class_names=tuple(test.class_names[label] for label in known),
        classes=np.array([number[label] for label in test.classes]),
        category_ids=100 + known,
    )
    found = bit_keras.evaluate_detector(run.workdir, fewer)
    assert found.metrics == expected.metrics
    np.testing.assert_array_equal(found.images.classes, test.classes)
    np.testing.assert_array_equal(found.images.category_ids[known], 100 + known)
    other = dataclasses.replace(fewer, class_names=("yak", *fewer.class_names[1:]))
    with pytest.raises(ValueError, match=r"does not know 1 of the \d+ classes of .* \(yak\)"):
        bit_keras.evaluate_detector(run.workdir, other)


def test_a_set_without_a_test_part_is_tested_as_it_was_split(run, whole, sets):
    folder, (first, second) = str(run.workdir), sets
    assert (run.workdir / "skipped_images.txt").read_text() == "broken.jpg\n"
    assert "1 images cannot be read" in (run.workdir / "report.html").read_text()
    assert held_out(folder, whole).description() == second.description()
    assert not may_have_been_trained_on(folder, held_out(folder, whole))
    assert may_have_been_trained_on(folder, first)
    others = whole.subset(range(8))
    assert held_out(folder, others) is others
    assert held_out(folder, whole.subset([0])).image_ids == whole.image_ids[:1]


def test_mistakes_get_one_sentence(run, sets, tmp_path):
    train, test = sets
    with pytest.raises(ValueError, match="there is no detector"):
        bit_keras.detect_objects(tmp_path / "nowhere", ["x.jpg"])
    with pytest.raises(ValueError, match="threshold must be a score in"):
        bit_keras.detect_objects(run.workdir, ["x.jpg"], threshold=2)
    with pytest.raises(ValueError, match="is no detector"):
        bit_keras.evaluate_detector(bit_keras.ResNetV2((1,), 0.25, 2), test)
    with pytest.raises(ValueError, match=r"expected|did you mean"):
        bit_keras.fine_tune_detector("BiT-XSX", train, test, workdir=tmp_path / "run")
    two = dataclasses.replace(train, class_names="ab", classes=train.classes % 2, category_ids=None)
    with pytest.raises(ValueError, match=r"finds \d+ classes, and .* has 2; give a body"):
        bit_keras.fine_tune_detector(run.model, two, workdir=tmp_path / "run")
    with pytest.raises(ValueError, match="is the run of a detector and holds no classifier"):
        bit_keras.load(run.workdir)
    with pytest.raises(ValueError, match="validation must be boxed images, or the part"):
        bit_keras.fine_tune_detector(
            "BiT-XS", train, test, workdir=tmp_path / "run", validation="more"
        )
    options = {"workdir": tmp_path / "run", "model_type": "mask_rcnn"}
    without = dataclasses.replace(train, masks=None)
    with pytest.raises(ValueError, match="has no masks; give a COCO file"):
        bit_keras.fine_tune_detector("BiT-XS", without, test, **options)
    partly = dataclasses.replace(test, masks=[None, *test.masks[1:]])
    with pytest.raises(
        ValueError, match=r"1 of .* have no mask, the first being object 0 of image"
    ):
        bit_keras.fine_tune_detector("BiT-XS", train, partly, **options)
    with pytest.raises(ValueError, match="model_type must be retinanet or mask_rcnn or faster"):
        bit_keras.fine_tune_detector("BiT-XS", train, test, **{**options, "model_type": "yolo"})
    assert not (tmp_path / "run").exists()
