import json

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from conftest import named_weights

import bit_keras
from bit_keras import HyperRule, data
from bit_keras.classification.fine_tuning import default_rule
from bit_keras.metrics.classification import score
from bit_keras.training.reading_runs import may_have_been_trained_on

QUICK = HyperRule(20, 16, 0.003, 2, (16,), 36, 32, 0.0)


@pytest.fixture(scope="module")
def few():
    train, test = data.digits(5, seed=1)
    return train, test.subset(range(300))


def test_a_run_learns_and_leaves_its_whole_folder(tmp_path):
    train, test = data.digits(5, seed=1)
    chosen_by, test = test.subset(range(200)), test.subset(range(200, 500))
    result = bit_keras.fine_tune(
        *("BiT-XS-R26x0.25", train, test),
        validation=chosen_by,
        workdir=tmp_path / "run",
        rule=QUICK,
        evaluate_every=10,
    )
    assert result.metrics["accuracy"] > 0.5  # chance is 0.1
    assert result.metrics["num_test"] == len(test) == 300
    folder = result.workdir
    assert json.loads((folder / "metrics.json").read_text()) == result.metrics
    scores = {"accuracy", "top5_accuracy", "mean_per_class_accuracy", "loss", "calibration_error"}
    about = {"num_test", "steps", "seconds", "validation_accuracy", "kept_step"}
    assert set(result.metrics) == {*scores, *about}
    config = json.loads((folder / "config.json").read_text())
    assert config["rule"]["steps"] == 20
    assert config["train"]["num_images"] == 50
    assert config["augmentations"] == ["crop"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    chosen = {x["step"]: x["validation_accuracy"] for x in lines if "validation_accuracy" in x}
    assert [*chosen] == [10, 20]
    assert lines[-1]["test_accuracy"] == result.metrics["accuracy"]
    assert set(lines[-1]) == {"step", *(f"test_{name}" for name in scores)}
    assert (folder / "per_class.csv").read_text().splitlines()[1].startswith("0,")
    assert "BiT-XS-R26x0.25 on digits" in (folder / "report.html").read_text()
    assert list(folder.glob("events.out.tfevents.*"))
    assert list(folder.glob("checkpoints/ckpt-20*"))
    assert not may_have_been_trained_on(folder, test)
    assert may_have_been_trained_on(folder, data.evaluation_images("digits"))
    assert not may_have_been_trained_on("BiT-XS-R26x0.25", test)
    # The best on the validation images is kept, also as a file of its own.
    kept = bit_keras.load(folder / "checkpoints/best.keras")
    found = bit_keras.evaluate(kept, chosen_by, size=32).metrics["accuracy"]
    assert found == pytest.approx(max(chosen.values()), abs=1e-3)
    assert chosen[result.metrics["kept_step"]] == result.metrics["validation_accuracy"]
    for a, b in zip(kept.get_weights(), result.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert picture(folder).shape == (4 * 32, 4 * 32, 3)  # 16 of the images it was trained on
    # The module answers as the metrics say.
    module = tf.saved_model.load(str(folder / "model"))
    answers = [
        (np.argmax(module(x), 1) == np.argmax(y, 1))
        for x, y in data.test_batches(test, batch=500, size=32)
    ]
    assert np.mean(np.concatenate(answers)) == pytest.approx(result.metrics["accuracy"], abs=1e-3)


def picture(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    (found,) = events.Tensors("training images")
    _, _, encoded = found.tensor_proto.string_val
    return tf.io.decode_png(encoded)


def test_images_of_several_classes_are_learned_by_sigmoids(tmp_path):
    """Two lights, each of which may be on: multi-hot labels, a picture may have none."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (64, 2))
    images = rng.integers(0, 60, (64, 40, 40, 3), dtype=np.uint8)
    for image, lights in zip(images, labels, strict=True):
        image[:, :20] += np.uint8(180 * lights[0])
        image[:, 20:] += np.uint8(180 * lights[1])
    train, test = data.from_arrays(images, labels, class_names=("left", "right"))
    rule = QUICK.replace(base_lr=0.02, steps=30, decay_steps=(20,))
    result = bit_keras.fine_tune(
        *("BiT-XS-R26x0.25", train, test),
        workdir=tmp_path,
        rule=rule,
        augmentations=["crop"],
        export=False,
    )
    assert result.metrics["mean_average_precision"] > 0.95
    assert json.loads((tmp_path / "config.json").read_text())["loss"] == "sigmoid"


def test_a_run_cut_off_in_its_last_acts_goes_on_and_another_is_refused(few, tmp_path, monkeypatch):
    train, test = few
    named_weights(bit_keras.ResNetV2((1,), 0.25, 10)).save(tmp_path / "small.keras")
    arguments = {"workdir": tmp_path / "run", "rule": QUICK.with_steps(4)}

    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(bit_keras.classification.task, "write_run_report", die)
    with pytest.raises(KeyboardInterrupt):
        bit_keras.fine_tune(tmp_path / "small.keras", train, test, **arguments)
    monkeypatch.undo()
    other = data.digits(5, seed=2)  # as many of each class, but not the same
    with pytest.raises(ValueError, match=r"holds another run, which differs in (test|train)"):
        bit_keras.fine_tune(tmp_path / "small.keras", *other, **arguments)
    result = bit_keras.fine_tune(tmp_path / "small.keras", train, test, **arguments)
    lines = (tmp_path / "run/metrics.jsonl").read_text()
    assert lines.count("test_accuracy") == 1
    assert result.metrics["steps"] == 4


def test_scores_against_hand_counts():
    logits = np.log(
        [[0.7, 0.1, 0.1, 0.04, 0.03, 0.02, 0.01], [0.01, 0.02, 0.03, 0.04, 0.1, 0.1, 0.7]]
    )
    scores = score(logits.astype("float32"), np.array([0, 1]))
    assert scores["accuracy"] == 0.5
    assert scores["top5_accuracy"] == 0.5  # class 1 of the second is its sixth answer
    assert scores["loss"] == pytest.approx(-np.log([0.7, 0.02]).mean(), rel=1e-5)

    # The first class is found at ranks 1 and 3, no image has the second.
    truth = scipy.sparse.csr_array(np.array([[1, 0], [0, 0], [1, 0]], bool))
    scores = score(np.log(np.array([[3.0, 1], [2, 1], [1, 1]], "float32")), truth)
    assert scores["mean_average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    expected = -np.log([3 / 4, 1 / 3, 1 / 2, 1 / 2, 1 / 2, 1 / 2]).sum() / 3
    assert scores["loss"] == pytest.approx(expected)


def test_a_given_model_is_trained_in_place_in_pieces_that_fit(few, tmp_path, monkeypatch, capfd):
    """And without test images."""
    monkeypatch.setattr(bit_keras.training.memory, "machine_memory", lambda: 4 * 2**20)
    model = named_weights(bit_keras.ResNetV2((1, 1), 0.25, 10))
    before = model.get_weights()
    result = bit_keras.fine_tune(
        *(model, few[0]), workdir=tmp_path / "run", rule=QUICK.with_steps(2), export=False
    )
    assert set(result.metrics) == {"steps", "seconds"}
    assert result.model.get_layer("block1") is model.get_layer("block1")
    assert any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["batch_split"] > 1
    said = f"Batch split: {config['batch_split']} of {16 // config['batch_split']} images"
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("trainable", ["head", "from:block3/unit02"])
def test_only_what_was_asked_for_is_trained(few, tmp_path, trainable):
    train, test = few
    before = {v.path: v.numpy() for v in bit_keras.load("BiT-XS-R26x0.25").variables}
    result = bit_keras.fine_tune(
        "BiT-XS-R26x0.25",
        train,
        test,
        workdir=tmp_path / "run",
        rule=QUICK.replace(base_lr=0.03),
        trainable=trainable,
        export=False,
    )
    changed = {
        v.path
        for v in result.model.variables
        if v.path not in before or not np.array_equal(v, before[v.path])
    }
    start = {
        "head": ("head/",),
        "from:block3/unit02": ("block3/unit02/", "block4/", "group_norm/", "head/"),
    }[trainable]
    assert changed == {v.path for v in result.model.variables if v.path.startswith(start)}
    assert result.metrics["accuracy"] > 0.5


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_and_leaves_a_float32_model(few, tmp_path, precision):
    train, test = few
    result = bit_keras.fine_tune(
        "BiT-XS-R26x0.25",
        train,
        test,
        workdir=tmp_path / "run",
        rule=QUICK.with_steps(6),
        precision=precision,
        trainable="from:block4",
        export=False,
        validation=test,
        evaluate_every=3,
    )
    assert result.metrics["accuracy"] > 0.5
    best = bit_keras.load(tmp_path / "run/checkpoints/best.keras")
    for model in (result.model, best):
        assert model.get_layer("block1").compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_the_rule_of_the_embedded_model_is_at_its_scale(few):
    train, _ = few
    assert default_rule("BiT-M-R50x1", train) == HyperRule.release(50, (8, 8))
    small = default_rule("BiT-XS-R26x0.25", train)
    assert (small.batch, small.base_lr, small.steps) == (128, 0.1, 500)
    assert (small.resize, small.crop) == (36, 32)
    named = default_rule("R26x0.5", train)
    assert (named.batch, named.base_lr, named.crop) == (128, 0.1, 128)
    assert default_rule("R50x1", train) == HyperRule.release(50, (8, 8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "BiT-M-R50x"}, "did you mean"),
        ({"examples_per_class": 6}, "has 5 images, fewer than the 6"),
        ({"batch_split": 3}, "must divide the batch of 16 images, got 3"),
        ({"trainable": "block4"}, 'got .block4.; did you mean "from:block4"'),
        ({"trainable": "from:block9"}, "has no layer 'block9' to train from; it has block1"),
        ({"trainable": "from:block2/unit09"}, "in block2 unit01 to unit02"),
        ({"precision": "int8"}, "precision must be one of float32"),
        ({"augmentations": ["zoom"]}, r"augmentations must be of .* got \['zoom'\]"),
        ({"init": "zeros"}, 'init must be "pretrained" or "random"'),
        ({"evaluate_every": 0}, "evaluate_every must be 1 or more"),
    ],
)
def test_mistakes_are_answered_before_anything_is_written(few, tmp_path, changes, message):
    train, test = few
    arguments = {"model": "BiT-XS-R26x0.25", "rule": QUICK, **changes}
    with pytest.raises(ValueError, match=message):
        bit_keras.fine_tune(train=train, test=test, workdir=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_workdir_of_another_run_and_other_classes_are_refused(few, tmp_path):
    train, test = few
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.json").write_text("{}")
    with pytest.raises(ValueError, match="belong to no run"):
        bit_keras.fine_tune("BiT-XS-R26x0.25", train, test, workdir=tmp_path / "run", rule=QUICK)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.json"]
    images = np.zeros((4, 32, 32, 3), "uint8")
    other, _ = data.from_arrays(images, np.array([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="test must have the 10 classes of train"):
        bit_keras.fine_tune("BiT-XS-R26x0.25", train, other, workdir=tmp_path / "b", rule=QUICK)
