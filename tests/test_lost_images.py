"""An image that vanishes or is cut short in training: one sentence, with the last checkpoint."""

import json
import pathlib
import threading
import time

import PIL.Image
import pytest

import bit_keras
from bit_keras import data
from bit_keras.recipes import DetectionRecipe
from bit_keras.recipes.upstream import RECIPES


def vanishes(file):
    file.unlink()


def is_cut_short(file):
    file.write_bytes(file.read_bytes()[:100])


@pytest.fixture(params=[vanishes, is_cut_short])
def after_the_first_checkpoint(request, tmp_path):
    """Starts to watch the run in `run`, and then to damage a file."""

    def damage(file):
        while not (tmp_path / "run/checkpoints/checkpoint").exists():
            time.sleep(0.01)
        request.param(file)

    def start(file):
        thread = threading.Thread(target=damage, args=(pathlib.Path(file),), daemon=True)
        thread.start()

    return start


def says_it(file):
    return (
        rf"since the start, 1 image of .*{file}.*; then start the run again: it goes on from "
        r".*run/checkpoints/ckpt-\d+$"
    )


def test_in_fine_tuning(folder, tmp_path, after_the_first_checkpoint):
    train, test = data.from_directory(folder)
    rule = bit_keras.HyperRule.release(16, (12, 20)).with_steps(500)
    rule = rule.replace(batch=8, resize=32, crop=32)
    after_the_first_checkpoint(train.files[0])
    with pytest.raises(data.DataError, match=says_it(pathlib.Path(train.files[0]).name)):
        bit_keras.fine_tune(
            *(bit_keras.ResNetV2((1,), 0.25, 0), train, test), workdir=tmp_path / "run", rule=rule
        )


def test_in_pretraining(folder, tmp_path, after_the_first_checkpoint):
    train, test = data.from_directory(folder)
    recipe = RECIPES["BiT-S"].with_epochs(250)
    recipe = recipe.replace(batch=8, base_lr=0.01, warmup_steps=4, crop=32, test_resize=36)
    after_the_first_checkpoint(train.files[0])
    with pytest.raises(data.DataError, match=says_it(pathlib.Path(train.files[0]).name)):
        bit_keras.pretrain(
            *("BiT-XS-R26x0.25", train, test), recipe=recipe, workdir=tmp_path / "run"
        )


@pytest.mark.slow
def test_in_detection(tmp_path, after_the_first_checkpoint):
    images, annotations = [], []
    for i in range(8):
        scene = data.scene(i, size=64)
        PIL.Image.fromarray(scene.image).save(tmp_path / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png"})
        for left, top, right, bottom in scene.boxes.tolist():
            box = [left, top, right - left, bottom - top]
            own = {"id": len(annotations), "image_id": i, "category_id": 1, "bbox": box}
            annotations.append(own)
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "thing"}]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    train, _ = data.boxes_from_name(str(tmp_path / "boxes.json"))
    recipe = DetectionRecipe(
        epochs=200, decay_epochs=(190,), batch=4, base_lr=0.001, warmup_steps=1, size=64
    )
    after_the_first_checkpoint(train.files[0])
    with pytest.raises(data.DataError, match=says_it(pathlib.Path(train.files[0]).name)):
        bit_keras.fine_tune_detector(
            bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 0),
            train,
            workdir=tmp_path / "run",
            recipe=recipe,
            channels=8,
        )
