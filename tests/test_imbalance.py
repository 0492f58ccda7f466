"""Classes of unequal size: weights in the loss, balanced sampling, and the warning without them."""

import itertools
import json
import logging
import pathlib
import re

import numpy as np
import pytest
import sklearn.utils.class_weight
import tensorflow as tf
from pictures import multi_hot, numbered, write_table
from test_cli import typed_in_one_process

import bit_keras
from bit_keras import HyperRule, data
from bit_keras.data.class_balance import class_weights
from bit_keras.training import LOSSES, RunFolderError, weighted_by_class

COUNTS = (12, 3, 1)
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], COUNTS))
RULE = HyperRule(4, 6, 0.01, 0, (), 32, 32, 0.0)
SMALL = pathlib.Path(__file__).with_name("golden") / "small.npz"  # two units


def uneven():
    """Images of one level each, whose number is 10 times their index."""
    pixels = np.tile(10 * np.arange(16, dtype=np.uint8)[:, None, None, None], (1, 32, 32, 3))
    names = ("common", "rare", "single")
    return data.from_arrays(pixels, LABELS, test=(pixels, LABELS), class_names=names)


def drawn(images, steps, **settings):
    """The index of the image in every row of so many batches, [steps, batch]."""
    settings = {"batch": 6, "resize": 32, "crop": 32, "seed": 1, **settings}
    batches = data.training_batches(images, sampling="balanced", **settings)
    return np.array([np.rint(x[:, 0, 0, 0] * 25.5) for x, _ in itertools.islice(batches, steps)])


def test_balanced_sampling_shows_all_classes_equally_often_and_all_of_their_images():
    indices = drawn(uneven()[0], 12).astype(int).ravel()  # 12 times 2 of each class
    classes = LABELS[indices].reshape(-1, 3)
    np.testing.assert_array_equal(np.sort(classes), [[0, 1, 2]] * 24)
    assert len({*map(tuple, classes)}) == 6  # in every order
    for label, count in enumerate(COUNTS):
        epochs = indices[LABELS[indices] == label].reshape(-1, count)
        members = np.flatnonzero(np.equal(LABELS, label))
        np.testing.assert_array_equal(np.sort(epochs), [members] * (24 // count))
        assert count == 1 or len({*map(tuple, epochs)}) > 1  # each epoch is shuffled anew
    assert not np.array_equal(indices, drawn(uneven()[0], 12, seed=2).ravel())


def test_classes_of_one_size_have_orders_of_their_own():
    labels = np.arange(40) % 2
    images = numbered(labels, "ab")
    features = np.arange(40, dtype="float32")[:, None]
    batches = data.feature_batches(features, images, batch=40, seed=0, sampling="balanced")
    x, y = next(iter(batches))
    a, b = (np.ravel(x)[y[:, c] == 1] // 2 for c in (0, 1))
    np.testing.assert_array_equal(np.sort(a), np.sort(b))
    assert np.sum(a == b) < 8


def test_balanced_batches_are_the_same_from_any_step_for_workers_and_for_features():
    images = uneven()[0]
    whole = drawn(images, 8)
    np.testing.assert_array_equal(drawn(images, 3, start_step=5), whole[5:])
    parts = [drawn(images, 3, start_step=5, part=(k, 3)) for k in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[5:])
    features = np.arange(16, dtype="float32")[:, None]
    settings = {"batch": 6, "seed": 1, "start_step": 5, "sampling": "balanced"}
    batches = data.feature_batches(features, images, **settings)
    x, y = (np.stack(part) for part in zip(*itertools.islice(batches, 3), strict=True))
    np.testing.assert_array_equal(x[..., 0], whole[5:])
    np.testing.assert_array_equal(y.argmax(-1), LABELS[whole[5:].astype(int)])


def test_balanced_weights_are_scikit_learns():
    found = class_weights(uneven()[0], "balanced")
    expected = sklearn.utils.class_weight.compute_class_weight(
        "balanced", classes=np.arange(3), y=LABELS
    )
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found, [16 / 36, 16 / 9, 16 / 3])


@pytest.mark.parametrize("scale", [1, 1e-300, 1e307])
def test_given_weights_have_a_mean_of_1_over_the_images(scale):
    given = {" rare": 5 * scale, "single": 2 * scale, "common": scale}
    found = class_weights(uneven()[0], given)
    np.testing.assert_allclose(found, np.array([1, 5, 2]) * 16 / 29)
    assert found[LABELS].mean() == pytest.approx(1)


def test_weights_multiply_the_loss_and_are_mixed_with_the_labels():
    weights = np.array([0.5, 2.0, 3.0])
    loss = weighted_by_class(LOSSES["softmax"], weights)
    logits = np.random.default_rng(0).standard_normal((3, 3)).astype("float32")
    labels = np.array([[0, 1, 0], [0, 0, 1], [0.25, 0, 0.75]], "float32")
    plain = -np.sum(labels * tf.nn.log_softmax(logits), axis=1)
    np.testing.assert_allclose(loss(labels, logits), plain * [2, 3, 0.25 * 0.5 + 2.25], rtol=1e-5)


def test_a_file_has_a_weight_for_each_class(tmp_path):
    path = write_table(tmp_path, "class,weight", "single, 2", "rare,5e-1", '"a,b",1')
    assert data.read_class_weights(path) == {"single": 2, "rare": 0.5, "a,b": 1}
    for lines, message in {
        ("class,weight", "a,1", "a,2"): "line 3 of .* names the class 'a' again; give each class",
        ("class,weight", "a,-1"): "line 2 of .* must have a positive number .* got '-1'",
        ("class,weight", "a,inf"): "positive number as its weight, got 'inf'",
        ("class,weight", "a,"): "positive number as its weight, got ''",
        ("class,label", "a,1"): "must name the columns class and weight",
    }.items():
        with pytest.raises(data.DataError, match=message):
            data.read_class_weights(write_table(tmp_path, *lines))
    with pytest.raises(data.DataError, match="nowhere is not a file"):
        data.read_class_weights(tmp_path / "nowhere")


MISTAKES = (
    ({"class_weights": "balance"}, 'must be "balanced", "none" or a weight .* got \'balance\''),
    ({"class_weights": {"common": 1, "rare": 1}}, "the 3 classes of .* lacks 'single'"),
    (
        {"class_weights": {"common": 1, "rare": 1, "single": 1, "x": 1}},
        "for no other; it has 'x', which is none of them",
    ),
    (
        {"class_weights": {"common": 1, "rare": 0, "single": 1}},
        "class 'rare' must have a positive number as its weight, got 0",
    ),
    ({"class_weights": {"common": 1, "common ": 2, "rare": 1, "single": 1}}, "differ only in spac"),
    ({"class_weights": "balanced", "sampling": "balanced"}, "leave one of the two out"),
    ({"class_weights": "balanced", "teacher": "any"}, "a teacher's answers take their place"),
    ({"sampling": "fair"}, 'sampling must be "uniform" or "balanced", got \'fair\''),
    (
        {"trainable": "head", "rule": RULE.with_mix("cutmix")},
        "CutMix cuts images, and a head alone is trained on their features",
    ),
)


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_are_answered_before_anything_is_written(tmp_path, arguments, message):
    arguments = {"rule": RULE, **arguments}
    with pytest.raises(ValueError, match=message):
        bit_keras.fine_tune(SMALL, uneven()[0], workdir=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["class_weights", "sampling"])
def test_sets_that_cannot_be_balanced_are_refused(tmp_path, option):
    several = numbered(multi_hot(8), "abcd")
    lacking = numbered([0, 1, 1], "abc")
    for images, message in (
        (several, "whose images may have several"),
        (lacking, "no images of 1"),
    ):
        with pytest.raises(data.DataError, match=message):
            bit_keras.fine_tune(
                SMALL, images, workdir=tmp_path / "run", rule=RULE, **{option: "balanced"}
            )
    with pytest.raises(data.DataError, match="whose images may have several"):
        data.training_batches(several, batch=2, resize=32, crop=32, seed=0, sampling="balanced")


def logs(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tune(folder, test=None, **arguments):
    settings = {"rule": RULE, "export": False, "batch_split": 1, **arguments}
    return bit_keras.fine_tune(SMALL, uneven()[0], test, workdir=folder, **settings)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_a_run_learns_by_weights_and_is_tested_without(tmp_path, trainable):
    rule = RULE.replace(steps=1, batch=16)  # one epoch, in which the mean weight is 1
    weights = {"common": 1, "rare": 4, "single": 2}
    weighted = tune(tmp_path, uneven()[1], rule=rule, trainable=trainable, class_weights=weights)
    # The head is zero at first, so the loss of every image is log 3.
    assert logs(tmp_path)[0]["loss"] == pytest.approx(np.log(3), rel=1e-5)
    # The gradient of its bias: how often each class is guessed, less how much it counts.
    expected = 0.01 * (np.array([12, 12, 2]) / 26 - 1 / 3)
    np.testing.assert_allclose(weighted.model.get_layer("head").weights[-1], expected, atol=1e-7)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["class_weights"] == pytest.approx([16 / 26, 64 / 26, 32 / 26])
    assert "sampling" not in config
    answers = bit_keras.evaluate(weighted.model, uneven()[1], size=32).metrics
    assert weighted.metrics["loss"] == pytest.approx(answers["loss"], rel=1e-4)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_a_run_draws_all_classes_equally_often(tmp_path, trainable):
    rule = RULE.replace(steps=1)  # 2 images of each class, which are guessed equally often
    even = tune(tmp_path, rule=rule, trainable=trainable, sampling="balanced")
    np.testing.assert_allclose(even.model.get_layer("head").weights[-1], 0, atol=1e-7)
    assert json.loads((tmp_path / "config.json").read_text())["sampling"] == "balanced"


@pytest.mark.parametrize(
    "options",
    [
        {"sampling": "balanced", "rule": RULE.with_mix("both")},
        {"class_weights": "balanced", "trainable": "head"},
    ],
)
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(tmp_path, monkeypatch, options):
    whole = tune(tmp_path / "whole", **options).model.get_weights()
    save = bit_keras.training.RunFolder.save

    def die(run, model, optimizer, step):
        save(run, model, optimizer, step)
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(bit_keras.training.RunFolder, "save", die)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "cut", **options)
    monkeypatch.undo()
    others = {**options, "sampling": None, "class_weights": None}
    with pytest.raises(RunFolderError, match=r"differs in (class_weights|sampling) "):
        tune(tmp_path / "cut", **others)
    resumed = tune(tmp_path / "cut", **options).model.get_weights()
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)  # threads add up in any order


def test_a_run_of_an_older_version_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(bit_keras.classification.task, "write_run_report", None)
    with pytest.raises(TypeError):
        tune(tmp_path / "run")
    monkeypatch.undo()
    config = json.loads((tmp_path / "run/config.json").read_text())
    rule = {"steps", "batch", "base_lr", "warmup_steps", "decay_steps", "resize", "crop"}
    assert {*config["rule"]} == rule | {"mixup_alpha"}
    assert not {"class_weights", "sampling"} & {*config}
    assert tune(tmp_path / "run", sampling="uniform", class_weights="none").metrics["steps"] == 4


def warnings_of(caplog, images, **arguments):
    """What is logged before the model is found to be none."""
    caplog.clear()
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="no model named"):
        bit_keras.fine_tune("none", images, workdir="never", rule=RULE, **arguments)
    return [record.getMessage() for record in caplog.records if "fine_tuning" in record.name]


def test_unequal_classes_are_told(caplog):
    images = uneven()[0]
    (said,) = warnings_of(caplog, images)
    assert "class 'common' of arrays/train has 12 images and 'single' has 1;" in said
    assert "--class_weights=balanced or --sampling=balanced" in said
    silent = (
        *({"sampling": "uniform"}, {"sampling": "balanced"}, {"class_weights": "none"}),
        *({"class_weights": "balanced"}, {"examples_per_class": 1}),
    )
    for arguments in silent:
        assert not warnings_of(caplog, images, **arguments)
    assert not warnings_of(caplog, numbered([0] * 5 + [1]))  # fivefold, and class c has none
    assert warnings_of(caplog, numbered([0] * 6 + [1]))
    assert not warnings_of(caplog, numbered(multi_hot(30), "abcd"))


def test_the_command_takes_a_file_and_answers_mistakes(tmp_path):
    write_table(tmp_path, "class,weight", "0,1", "1,2", name="two.csv")
    lines = {
        "--class_weights=two.csv": "10 classes of digits.* it lacks '2'",
        "--class_weights=balance": "balance is not a file",
        "--class_weights=balanced --sampling=balanced": "leave one of the two out",
        "--mix=cutmix --train=head": "--mix=cutmix mixes images, and --train=head",
        "--mix=mix": "flag --mix=mix: value should be one of <mixup|cutmix|both|none>",
    }
    answers = typed_in_one_process("bit_keras.cli.finetune", [*lines], tmp_path)
    for (code, errors), message in zip(answers, lines.values(), strict=True):
        assert code in (1, 2)
        assert re.search(message, errors), errors
    assert not (tmp_path / "runs").exists()
