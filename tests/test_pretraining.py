import json
import pathlib
import sys

import numpy as np
import pytest
from test_cli import typed

import bit_keras
from bit_keras import data
from bit_keras.classification.pretraining import plan
from bit_keras.recipes.upstream import RECIPES
from bit_keras.training import forward_flops


@pytest.fixture(scope="module")
def shapes():
    """Bars that stand or lie, 40 of each: learned in seconds, even from scratch."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (80, 40, 40, 3), dtype=np.uint8)
    labels = np.arange(80) % 2
    for image, label in zip(images, labels, strict=True):
        at = rng.integers(12, 24)
        image[(slice(at, at + 5), slice(None)) if label else (slice(None), slice(at, at + 5))] = 250
    return data.from_arrays(images, labels, class_names=("standing", "lying"))


def quick(name):
    return (
        RECIPES[name]
        .with_epochs(12)
        .replace(batch=32, base_lr=0.05, warmup_steps=4, crop=32, test_resize=36)
    )


@pytest.mark.parametrize("name", ["BiT-S", "BiT-M"])
def test_pretraining_learns_from_scratch(shapes, tmp_path, name):
    train, test = shapes
    result = bit_keras.pretrain(
        *("BiT-XS-R26x0.25", train, test),
        workdir=tmp_path / "run",
        recipe=quick(name),
        export=False,
    )
    assert result.metrics["accuracy"] >= 0.9
    assert result.metrics["steps"] == 24
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    # Two classes at even odds: ln 2 for the softmax; at -10, 10 for the one that is there.
    expected = {"BiT-S": np.log(2), "BiT-M": 10.0}[name]
    assert lines[0]["loss"] == pytest.approx(expected, rel=0.05)


def test_pretraining_goes_on_from_a_checkpoint(shapes, tmp_path):
    train, _ = shapes
    slow = quick("BiT-S").with_epochs(2).replace(base_lr=1e-9, weight_decay=0.0, warmup_steps=0)
    result = bit_keras.pretrain(
        *("BiT-XS-R26x0.25", train),
        workdir=tmp_path / "run",
        recipe=slow,
        init="BiT-XS-R26x0.25",
        export=False,
    )
    start = {v.path: v for v in bit_keras.load("BiT-XS-R26x0.25").variables}
    for variable in result.model.variables:
        if variable.path in start:
            np.testing.assert_allclose(variable, start[variable.path], atol=1e-5)


def test_mistakes_are_answered_before_anything_is_written(shapes, tmp_path):
    train, test = shapes
    arguments = {"workdir": tmp_path / "run"}
    with pytest.raises(ValueError, match="64 images make 2 steps of 4096, fewer than the 5,000"):
        bit_keras.pretrain("BiT-S-R50x1", train, test, recipe=RECIPES["BiT-S"], **arguments)
    with pytest.raises(ValueError, match="BiT-S, BiT-M, BiT-L"):
        bit_keras.pretrain("BiT-S-R50x1", train, test, recipe="BiT-XL", **arguments)
    with pytest.raises(ValueError, match="must divide the batch of 32"):
        bit_keras.pretrain(
            "BiT-S-R50x1", train, test, recipe=quick("BiT-S"), batch_split=5, **arguments
        )
    assert not (tmp_path / "run").exists()


def test_several_labels_need_a_sigmoid(shapes, tmp_path):
    labels = np.eye(2, dtype=int)[np.arange(40) % 2]
    labels[0] = 1
    images = np.random.default_rng(0).integers(0, 256, (40, 40, 40, 3), dtype=np.uint8)
    train, test = data.from_arrays(images, labels)
    arguments = {"workdir": tmp_path / "run", "recipe": quick("BiT-S")}
    with pytest.raises(ValueError, match=r"several labels an image.*such as BiT-M"):
        bit_keras.pretrain("BiT-XS-R26x0.25", train, test, **arguments)
    arguments["recipe"] = quick("BiT-M").with_epochs(3).replace(warmup_steps=1)
    result = bit_keras.pretrain("BiT-XS-R26x0.25", train, test, **arguments, export=False)
    assert 0 < result.metrics["mean_average_precision"] <= 1


def test_a_plan_tells_what_training_does(shapes, tmp_path):
    train, _ = shapes
    found = plan("BiT-XS-R26x0.25", train, recipe=quick("BiT-S"), images_per_second=100)
    model = bit_keras.load("BiT-XS-R26x0.25", num_classes=2)
    assert found.parameters == model.count_params()
    assert found.flops == forward_flops(model, (32, 32, 3))
    assert (found.steps, found.batch, found.pieces) == (24, 32, 1)
    assert found.epoch_bytes == len(train) * 40 * 40 * 3
    assert found.seconds == pytest.approx(24 * 32 / 100)
    assert "8 s at 100 images/s" in str(found)


@pytest.mark.slow
def test_the_command(tmp_path):
    script = pathlib.Path(sys.executable).with_name("bit-pretrain")
    flags = ("--model=BiT-XS-R26x0.25", "--dataset=digits", "--epochs=1", "--batch=128")
    more = ("--warmup_steps=2", "--crop=32", "--logdir=out", "--name=first")
    done = typed([script, *flags, *more], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 epochs, 12 steps of 128 images of 32 pixels" in done.stdout
    assert (tmp_path / "out/first/model/saved_model.pb").exists()
    assert "Mean" not in done.stdout
    assert "Accuracy" in done.stdout
    done = typed([script, *flags, *more, "--dry_run", "--throughput=1000"], tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "FLOPs an image:" in done.stdout
    assert "at 1,000 images/s" in done.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first"]
