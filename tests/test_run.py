"""A run of a task that is no classification: points, and labels in a dictionary."""

import dataclasses
import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from bit_keras.choices import PRECISIONS
from bit_keras.training import (
    Interrupted,
    Objective,
    RunFolderError,
    RunOptions,
    Task,
    TrainingError,
    devices,
    predict,
    run_task,
)


class Points:
    """Examples read by index: six numbers, and their mean and largest."""

    name = "points"

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def subset(self, indices):
        return Points(self.values[indices])

    def batches(self, batch, drop_remainder=False):
        labels = {"mean": self.values.mean(1), "largest": self.values.max(1)}
        dataset = tf.data.Dataset.from_tensor_slices(({"values": self.values}, labels))
        return dataset.batch(batch, drop_remainder)


@dataclasses.dataclass(frozen=True)
class Errors:
    metrics: dict


class PointsTask(Task):
    steps, batch, best_by, has_test = 40, 8, "closeness", True

    def __init__(self, rate=0.05, validated=False):
        values = np.random.default_rng(0).uniform(size=(80, 6)).astype("float32")
        self.train, self.held_out, self.rate = Points(values[:64]), Points(values[64:72]), rate
        self.chosen_by, self.has_validation = Points(values[72:]), validated
        self.reported = None

    def build(self):
        values = keras.Input((6,), name="values")
        hidden = keras.layers.Dense(16, "relu")(values)
        outputs = {name: keras.layers.Dense(1, dtype="float32")(hidden)[:, 0] for name in NAMES}
        return keras.Model({"values": values}, outputs)

    def schedule(self):
        return keras.optimizers.schedules.ExponentialDecay(self.rate, 20, 0.5)

    def objective(self, model, seed):
        def batches(step, part):
            k, n = part

            def mine(*both):
                return tf.nest.map_structure(lambda x: x[k * 8 // n : (k + 1) * 8 // n], both)

            dataset = self.train.batches(8, drop_remainder=True).repeat()
            return dataset.skip(step % 8).map(mine)

        def loss(labels, outputs):
            return {name: tf.square(labels[name] - outputs[name]) for name in NAMES}

        spec = ({"values": tf.TensorSpec((None, 6))}, dict.fromkeys(NAMES, tf.TensorSpec((None,))))
        return Objective(
            model=model, batches=batches, batch=self.batch, loss=loss, parts=NAMES, spec=spec
        )

    def settings(self):
        return {"rate": self.rate}

    def test(self, model, strategy):
        return self.errors(self.held_out, model, strategy)

    def validate(self, model, strategy):
        return self.errors(self.chosen_by, model, strategy)

    def errors(self, points, model, strategy):
        def prepare(points, batch):
            return points.batches(batch)

        answers = predict(model, points, prepare, batch=5, strategy=strategy)
        ((_, labels),) = points.batches(16)
        errors = [np.abs(answers[name] - labels[name].numpy()).mean() for name in NAMES]
        return Errors({"closeness": float(-np.mean(errors))})

    def export(self, model, run):
        model.save(run.path / "model.keras")

    def report(self, model, run, tested, **page):
        self.reported = {**page, "tested": tested}


NAMES = ("mean", "largest")


def test_a_task_with_nested_labels_is_trained_tested_exported_and_reported(tmp_path):
    task = PointsTask()
    result = run_task(task, RunOptions(tmp_path / "run", evaluate_every=20, command="points"))
    assert result.metrics["closeness"] > -0.15
    assert result.metrics["steps"] == 40
    assert task.reported["tested"].metrics == {"closeness": result.metrics["closeness"]}
    assert task.reported["command"] == "points"
    settings = json.loads((tmp_path / "run/config.json").read_text())
    assert settings == {
        "rate": 0.05,
        "precision": "float32",
        "batch_split": 1,
        "evaluate_every": 20,
        "seed": 0,
    }
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert {"mean", "largest", "loss"} <= lines[0].keys()
    assert [line["step"] for line in lines if "test_closeness" in line] == [20, 40]
    assert not (tmp_path / "run/checkpoints/best.keras").exists()  # test images never choose
    with pytest.raises(RunFolderError, match="finished run already"):
        run_task(PointsTask(), RunOptions(tmp_path / "run", evaluate_every=20))


class Overfitting(PointsTask):
    """Becomes worse from step 12 on, as the rate is negative."""

    def schedule(self):
        return keras.optimizers.schedules.PiecewiseConstantDecay([12], [0.05, -0.01])


def test_validation_images_choose_the_model_and_end_the_training(tmp_path):
    def trained(folder, **options):
        options = RunOptions(tmp_path / folder, evaluate_every=4, **options)
        return run_task(Overfitting(validated=True), options)

    def scores(folder):
        lines = [json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").open()]
        return {x["step"]: x["validation_closeness"] for x in lines if "validation_closeness" in x}

    best = trained("best")
    of_best = scores("best")
    step = max(of_best, key=of_best.get)
    assert list(of_best) == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
    assert step == best.metrics["kept_step"] == 12
    assert best.metrics["steps"] == 40
    assert best.metrics["validation_closeness"] == of_best[step]
    kept = keras.saving.load_model(tmp_path / "best/checkpoints/best.keras")
    exported = keras.saving.load_model(tmp_path / "best/model.keras")
    for a, b, c in zip(*(m.get_weights() for m in (best.model, kept, exported)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    settings = json.loads((tmp_path / "best/config.json").read_text())
    assert (settings["keep"], settings["patience"]) == ("best", None)

    last = trained("last", keep="last")
    assert scores("last") == of_best
    assert last.metrics["kept_step"] == 40
    assert last.metrics["closeness"] < best.metrics["closeness"]

    patient = trained("patient", patience=3)
    assert list(scores("patient")) == [4, 8, 12, 16, 20, 24]
    assert (patient.metrics["steps"], patient.metrics["kept_step"]) == (24, 12)
    assert list((tmp_path / "patient/checkpoints").glob("ckpt-24*"))
    # Killed after its last step, the run ends where it had ended.
    (tmp_path / "patient/metrics.json").unlink()
    again = trained("patient", patience=3)
    assert (again.metrics["steps"], again.metrics["kept_step"]) == (24, 12)
    for a, b in zip(again.model.get_weights(), best.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_choice_needs_images_to_choose_by(tmp_path):
    for options in ({"keep": "best"}, {"patience": 2}):
        with pytest.raises(ValueError, match="needs images to choose by, and test images never"):
            run_task(PointsTask(), RunOptions(tmp_path / "run", **options))
    for options, message in (
        ({"keep": "worst"}, 'keep must be "best" or "last", got \'worst\''),
        ({"patience": 0}, "patience must be 1 or more, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            RunOptions(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_the_options_of_a_run_change_nothing_but_rounding(tmp_path):
    plain = run_task(PointsTask(), RunOptions(tmp_path / "plain", export=False))
    assert not (tmp_path / "plain/model.keras").exists()
    pieces = run_task(PointsTask(), RunOptions(tmp_path / "pieces", batch_split=4, export=False))
    for a, b in zip(plain.model.get_weights(), pieces.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    mixed = run_task(
        PointsTask(), RunOptions(tmp_path / "mixed", precision="mixed_bfloat16", export=False)
    )
    assert mixed.model.dtype_policy.name == "float32"
    assert mixed.metrics["closeness"] == pytest.approx(plain.metrics["closeness"], abs=0.02)


def test_a_task_goes_on_after_an_interruption(tmp_path, monkeypatch):
    whole = run_task(PointsTask(), RunOptions(tmp_path / "whole", export=False))
    task = PointsTask()

    def cut_off(*_):
        raise Interrupted("stopped")

    options = RunOptions(tmp_path / "run", evaluate_every=15, export=False)
    with monkeypatch.context() as patch:
        patch.setattr(task, "test", cut_off)
        with pytest.raises(Interrupted):
            run_task(task, options)
    assert any(name.startswith("ckpt-12") for name in os.listdir(tmp_path / "run/checkpoints"))
    resumed = run_task(PointsTask(), options)
    for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_mistakes_in_options_are_found_before_anything_is_written(tmp_path):
    for options, message in (
        ({"precision": "int8"}, "precision must be one of"),
        ({"evaluate_every": 0}, "evaluate_every must be 1 or more"),
        ({"batch_split": 3}, "must divide the batch of 8"),
        ({"batch_split": "few"}, 'batch_split must be "auto"'),
    ):
        with pytest.raises(ValueError, match=message):
            run_task(PointsTask(), RunOptions(tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_a_test_that_is_not_finite_ends_the_run(tmp_path, monkeypatch):
    task = PointsTask()
    monkeypatch.setattr(task, "test", lambda *_: Errors({"closeness": float("nan")}))
    with pytest.raises(TrainingError, match="not finite"):
        run_task(task, RunOptions(tmp_path / "run", export=False))
    assert not (tmp_path / "run/metrics.json").exists()


@pytest.mark.parametrize(
    ("flags", "warned"),
    [({"avx512f"}, 2), ({"avx512f", "amx_bf16"}, 1), ({"bf16", "asimdhp"}, 0), (set(), 0)],
)
def test_a_precision_without_instructions_is_warned_of(monkeypatch, caplog, flags, warned):
    monkeypatch.setattr(devices, "_processor_flags", lambda: flags)
    for precision in PRECISIONS:
        devices.Devices("single", precision).warn_of_slow_precision()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == warned
    assert all("saves memory here, and is slower than float32" in text for text in said)
