import json
import os
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import graphs_of_training

import bit_keras
from bit_keras import HyperRule
from bit_keras.models.standardizing import standardized_once
from bit_keras.training import (
    LOSSES,
    Interrupted,
    Intervals,
    NotFiniteError,
    Objective,
    RunFolder,
    Tests,
    TrainingError,
    collect,
    train,
)


def small_model():
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(8, "tanh")
    return keras.Sequential([keras.Input((6,)), hidden, keras.layers.Dense(3)])


def batches(start_step, part=(0, 1)):
    """Eight examples a step, each a function of the step."""

    def make(step):
        x = tf.random.stateless_normal([8, 6], [step, 0])
        labels = tf.cast(x[:, 0] > 0, tf.int32) + tf.cast(x[:, 1] > 0, tf.int32)
        k, n = part
        rows = slice(k * 8 // n, (k + 1) * 8 // n)
        return x[rows], tf.one_hot(labels, 3)[rows]

    return tf.data.Dataset.counter(start_step, dtype=tf.int64).map(make)


def interrupt():
    raise KeyboardInterrupt


def run(path, steps=12, *, optimizer=None, pieces=1, evaluate=None, every=None, **changes):
    model = small_model()
    objective = Objective(
        **{
            "model": model,
            "batches": batches,
            "batch": 8,
            "loss": LOSSES["softmax"],
            **changes,
        }
    )
    with RunFolder(path, {"steps": steps}) as folder:
        train(
            objective,
            optimizer or keras.optimizers.SGD(0.1, momentum=0.9),
            folder,
            steps=steps,
            pieces=pieces,
            every=Intervals(**{"log": 5, "checkpoint": 4, **(every or {})}),
            tests=evaluate and Tests(lambda step: evaluate()),
        )
    return model


def test_the_graphs_of_a_training_are_freed_with_it(tmp_path):
    before, during = graphs_of_training(), []
    run(
        tmp_path / "run",
        every={"evaluate": 6},
        evaluate=lambda: during.append(graphs_of_training()) or {},
    )
    assert during == [before + 2]
    assert graphs_of_training() == before


def test_the_loop_is_keras_fit(tmp_path):
    ours = run(tmp_path / "run")
    theirs = small_model()
    theirs.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    theirs.fit(batches(0).take(12), verbose=0)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("micro_batches", [2, 8])
def test_micro_batches_have_the_gradient_of_the_whole(tmp_path, monkeypatch, micro_batches):
    whole = run(tmp_path / "whole", weight_decay=0.01)
    seen = []
    call = keras.layers.Dense.call
    monkeypatch.setattr(
        keras.layers.Dense,
        "call",
        lambda self, x, **kwargs: seen.append(x.shape[0]) or call(self, x, **kwargs),
    )
    cut = run(tmp_path / "cut", weight_decay=0.01, pieces=micro_batches)
    assert {n for n in seen if n} == {8 // micro_batches}  # it was cut indeed
    for a, b in zip(whole.get_weights(), cut.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_micro_batches_train_a_bit_as_the_whole_batch_does(tmp_path):
    """Of the published width: only graphs with large kernels are optimized in all their ways."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 36, 36, 3), dtype=np.uint8)
    labels = np.arange(16) % 4
    images, _ = bit_keras.data.from_arrays(pixels, labels, test=(pixels, labels))

    def trained(pieces):
        keras.utils.set_random_seed(1)
        model = bit_keras.ResNetV2((1, 1, 1, 1), 1, 4)
        with RunFolder(tmp_path / str(pieces), {}) as folder:
            objective = Objective(
                model=model,
                batches=lambda step, part: bit_keras.data.training_batches(
                    images,
                    batch=16,
                    resize=36,
                    crop=32,
                    seed=0,
                    start_step=step,
                    mixup_alpha=0.3,
                    part=part,
                ),
                batch=16,
                loss=LOSSES["softmax"],
                once=standardized_once,
            )
            optimizer = keras.optimizers.SGD(0.001, momentum=0.9)
            train(objective, optimizer, folder, steps=10, pieces=pieces)
        return model.get_weights()

    whole = trained(1)
    assert np.abs(whole[-2]).max() > 1e-3  # the head, which was zero
    for a, b in zip(whole, trained(8), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def boxes(start_step, part=(0, 1)):
    """Eight points a step, their sums and signs, in nested dictionaries."""

    def nested(x, _):
        total = tf.reduce_sum(x, axis=1)
        labels = {"sum": total, "signs": (tf.cast(total > 0, tf.float32), tf.sign(x))}
        return {"points": x, "scale": tf.ones([tf.shape(x)[0], 1])}, labels

    return batches(start_step, part).map(nested)


def nested_objective():
    """A toy task whose labels, outputs and losses are dictionaries."""
    keras.utils.set_random_seed(0)
    points, scale = keras.Input((6,), name="points"), keras.Input((1,), name="scale")
    hidden = keras.layers.Dense(8, "tanh")(points) * scale
    outputs = {"sum": keras.layers.Dense(1)(hidden), "sign": keras.layers.Dense(1)(hidden)}

    def loss(labels, outputs):
        sign, _ = labels["signs"]
        return {
            "square": tf.square(labels["sum"] - outputs["sum"][:, 0]),
            "cross_entropy": tf.nn.sigmoid_cross_entropy_with_logits(sign, outputs["sign"][:, 0]),
        }

    return Objective(
        model=keras.Model({"points": points, "scale": scale}, outputs),
        batches=boxes,
        batch=8,
        loss=loss,
        parts=("square", "cross_entropy"),
    )


def test_inputs_labels_outputs_and_losses_may_be_nested(tmp_path):
    """With the same weights after micro-batches of one, and a line for each loss in the log."""
    weights = []
    for pieces in (1, 8):
        objective = nested_objective()
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        with RunFolder(tmp_path / str(pieces), {}) as folder:
            train(objective, optimizer, folder, steps=30, pieces=pieces, every=Intervals(log=10))
        weights.append(objective.model.get_weights())
        first, *_, last = lines(tmp_path / str(pieces))
        for line in (first, last):
            assert line["loss"] == pytest.approx(line["square"] + line["cross_entropy"], rel=1e-5)
        assert last["square"] < first["square"] / 2
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_nested_answers_are_collected_in_order():
    objective = nested_objective()
    points = np.random.default_rng(0).normal(size=(10, 6)).astype("float32")
    inputs = {"points": points, "scale": np.ones([10, 1], "float32")}
    dataset = tf.data.Dataset.from_tensor_slices((inputs, np.zeros(10))).batch(4)
    found = collect(lambda x: objective.model(x, training=False), dataset, 10, of="the model")
    whole = objective.model(inputs, training=False)
    assert found.keys() == whole.keys()
    for name, answers in found.items():
        np.testing.assert_allclose(answers, whole[name], rtol=1e-5)
    inputs["points"][7] = np.nan
    dataset = tf.data.Dataset.from_tensor_slices((inputs, np.zeros(10))).batch(4)
    with pytest.raises(NotFiniteError, match=r"the model answers with NaN .* for image 7"):
        collect(lambda x: objective.model(x, training=False), dataset, 10, of="the model")


def test_weight_decay_is_an_l2_penalty_on_kernels(tmp_path):
    ours = run(tmp_path / "run", weight_decay=0.02)
    theirs = small_model()
    for layer in theirs.layers:
        layer.kernel.regularizer = keras.regularizers.L2(0.01)  # its gradient is 2 * 0.01 * w
    theirs.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    theirs.fit(batches(0).take(12), verbose=0)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_an_interrupted_run_ends_like_an_undisturbed_one(tmp_path):
    undisturbed = run(tmp_path / "undisturbed")

    with pytest.raises(KeyboardInterrupt):  # at step 6: the last checkpoint is of step 4
        run(tmp_path / "run", evaluate=interrupt, every={"evaluate": 6})
    resumed = run(tmp_path / "run")
    for a, b in zip(undisturbed.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert [line["step"] for line in lines(tmp_path / "run")] == [5, 10, 12]


def signalled_run(path):
    def signalled(images, labels):
        os.kill(os.getpid(), signal.SIGTERM)  # while the step is traced, and only then
        return labels

    with pytest.raises(Interrupted, match="step 1 of 1, which is saved"):
        run(path, steps=1, targets=signalled)


def test_a_signal_in_the_last_step_is_answered_too(tmp_path):
    """Or a suite of many runs would go on with its next."""
    # In a process of its own: pytest may run tests in a thread, which gets no signals.
    code = "import pathlib, sys, test_training as t; t.signalled_run(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, tmp_path / "run"]
    subprocess.run(command, cwd=pathlib.Path(__file__).parent, check=True, timeout=300)
    run(tmp_path / "run", steps=1)
    assert [line["step"] for line in lines(tmp_path / "run")] == [1]


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_mean_of_losses_leaves_no_step_out(tmp_path):
    run(tmp_path / "often", every={"log": 1})
    run(tmp_path / "run", evaluate=lambda: {"test_loss": 1.0}, every={"log": 6, "evaluate": 4})
    each = [line["loss"] for line in lines(tmp_path / "often")]
    means = [line["loss"] for line in lines(tmp_path / "run") if "loss" in line]
    np.testing.assert_allclose(means, [np.mean(each[:6]), np.mean(each[6:])], rtol=1e-5)


def test_a_line_that_was_being_written_does_not_stop_a_resume(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", evaluate=interrupt, every={"evaluate": 6})
    with open(tmp_path / "run/metrics.jsonl", "a") as file:
        file.write('{"step": 6, "los')
    (tmp_path / "run/config.json.tmp").write_text("{")
    run(tmp_path / "run")
    assert [line["step"] for line in lines(tmp_path / "run")] == [5, 10, 12]


def test_the_learning_rate_follows_the_schedule(tmp_path):
    rule = HyperRule.release(10, (32, 32)).with_steps(50)
    run(
        tmp_path / "run",
        steps=50,
        optimizer=keras.optimizers.SGD(rule.schedule(), momentum=0.9),
    )
    # What is logged at step n is the rate of the step that comes next, n counted from 0.
    for line in lines(tmp_path / "run")[:-1]:
        assert line["learning_rate"] == pytest.approx(rule.learning_rate(line["step"]))
        assert line["loss"] > 0
        assert line["images_per_second"] > 0


def test_scalars_reach_tensorboard(tmp_path):
    run(tmp_path / "run", evaluate=lambda: {"test_accuracy": 0.5}, every={"evaluate": 6})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert {"loss", "learning_rate", "test_accuracy"} <= set(events.Tags()["tensors"])


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(TrainingError, match=r"not finite .* learning rate of 1e\+38.*lower rate"):
        run(tmp_path / "run", steps=200, optimizer=keras.optimizers.SGD(1e38))


def test_a_run_that_fails_leaves_tensorflow_as_it_was(tmp_path):
    before = tf.config.optimizer.get_experimental_options()
    with pytest.raises(TrainingError):
        run(tmp_path / "run", optimizer=keras.optimizers.SGD(1e38), pieces=2)
    after = tf.config.optimizer.get_experimental_options()
    assert after.get("arithmetic_optimization", True) == before.get("arithmetic_optimization", True)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    with pytest.raises(TrainingError, match="weights are not finite after step 1"):
        run(tmp_path / "run", steps=1, optimizer=keras.optimizers.SGD(float("inf")))
    assert not (tmp_path / "run/checkpoints").exists()
