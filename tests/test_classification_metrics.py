"""A classifier's scores, confusions and per-class numbers against scikit-learn and hand counts."""

import csv
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
import scipy.special
import sklearn.metrics
import tensorflow as tf
from reports import images_of

from bit_keras.classification.answers import Evaluation, worst_classes
from bit_keras.classification.report import write_run_report
from bit_keras.metrics.classification import calibration_error, score, sentence
from bit_keras.training import RunFolder

NAMES = [f"class {k}" for k in range(7)]


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def answers(random):
    """Logits that are right more often than not; class 6 has no image, some logits are equal."""
    labels = random.integers(0, 6, 600)
    logits = random.normal(size=(600, 7)).astype("float32")
    logits[np.arange(600), labels] += 1
    return logits.round(1), labels


def test_scores_are_scikit_learns(answers):
    logits, labels = answers
    untied = logits - np.arange(7) * 1e-4  # of equal logits the lower class comes first
    found = score(logits, labels)
    probabilities = tf.nn.softmax(logits.astype("float64")).numpy()
    assert found["accuracy"] == sklearn.metrics.accuracy_score(labels, untied.argmax(1))
    assert found["top5_accuracy"] == sklearn.metrics.top_k_accuracy_score(
        labels, untied, k=5, labels=range(7)
    )
    balanced = sklearn.metrics.recall_score(
        labels, untied.argmax(1), labels=range(6), average="macro"
    )
    assert found["mean_per_class_accuracy"] == pytest.approx(balanced, rel=1e-12)
    loss = sklearn.metrics.log_loss(labels, probabilities, labels=range(7))
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert found["num_test"] == 600


@pytest.mark.parametrize("several", [False, True])
def test_scores_need_little_memory_beside_the_logits(random, several):
    logits = random.normal(size=(20_000, 100)).astype("float32")
    labels = random.integers(0, 100, 20_000)
    if several:
        labels = scipy.sparse.csr_array((np.ones(20_000, bool), (np.arange(20_000), labels)))
    score(logits[:300], labels[:300])  # imports what it needs
    tracemalloc.start()
    score(logits, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < logits.nbytes / 2


def test_calibration_error_of_hand_counted_answers():
    # Two bins: 4 answers of confidence 0.9, half of them right; 1 of 0.5, right.
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.5])
    correct = np.array([True, True, False, False, True])
    assert calibration_error(confidence, correct) == pytest.approx((4 * 0.4 + 0.5) / 5)
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0


def test_confusions_and_classes_are_scikit_learns(answers):
    logits, labels = answers
    found = Evaluation(images_of(labels, NAMES), logits)
    expected = sklearn.metrics.confusion_matrix(labels, logits.argmax(1), labels=range(7))
    assert (found.confusion_matrix == np.pad(expected, [(0, 0), (0, 1)])).all()
    precision, recall, _, images = sklearn.metrics.precision_recall_fscore_support(
        labels, logits.argmax(1), labels=range(7), zero_division=np.nan
    )
    for row, name, p, r, n in zip(found.per_class, NAMES, precision, recall, images, strict=True):
        assert row["class"] == name
        assert row["images"] == n
        assert row["recall"] == (None if np.isnan(r) else pytest.approx(r))
        assert row["precision"] == (None if np.isnan(p) else pytest.approx(p))
    assert found.per_class[6]["recall"] is None
    assert "class 6" not in worst_classes(found, 7)
    worst = min(recall[:6])
    assert f"({worst:.1%} of" in worst_classes(found, 1)


def test_a_class_map_counts_any_answer_that_is_accepted():
    # The data's chairs are the model's 1 and 4, its clocks 0; the model's 2, 3, 5 are other things.
    accepted = np.zeros((2, 6), bool)
    accepted[0, [1, 4]] = accepted[1, 0] = True
    logits = np.log(
        [
            [0.02, 0.30, 0.20, 0.10, 0.28, 0.10],  # a chair, by one of its names
            [0.50, 0.02, 0.10, 0.10, 0.08, 0.20],  # a chair, called a clock; fifth is a chair
            [0.05, 0.10, 0.50, 0.20, 0.05, 0.10],  # a clock, called what the data has not
            [0.01, 0.30, 0.20, 0.19, 0.20, 0.10],  # a clock, which is the sixth answer
        ]
    ).astype("float32")
    labels = np.array([0, 0, 1, 1])
    found = Evaluation(images_of(labels, ["chair", "clock"]), logits, accepted)
    assert found.metrics["accuracy"] == 0.25
    assert found.metrics["top5_accuracy"] == 0.75
    loss = -np.log([0.58, 0.10, 0.05, 0.01]).mean()
    assert found.metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert found.predictions.tolist() == [0, 1, -1, 0]
    assert found.confusion_matrix.tolist() == [[1, 1, 0], [1, 0, 1]]


def test_several_labels(random):
    truth = random.random((600, 7)) < 0.3
    truth[:, 3] = False  # no image has it
    logits = random.normal(size=truth.shape).astype("float32") + truth
    found = Evaluation(images_of(scipy.sparse.csr_array(truth), NAMES), logits)
    averages = sklearn.metrics.average_precision_score(
        np.delete(truth, 3, 1), np.delete(logits, 3, 1), average=None
    )
    assert found.metrics["mean_average_precision"] == pytest.approx(averages.mean())
    shown = [row["average_precision"] for row in found.per_class]
    assert shown[3] is None
    assert np.delete(np.array(shown, object), 3).tolist() == pytest.approx(averages.tolist())
    recall = sklearn.metrics.recall_score(truth[:, 0], logits[:, 0] > 0)
    assert found.per_class[0]["recall"] == pytest.approx(recall)
    assert sentence(found.metrics).startswith("Mean average precision")
    losses = [
        sklearn.metrics.log_loss(t, p, labels=[False, True])
        for t, p in zip(truth.T, scipy.special.expit(np.float64(logits)).T, strict=True)
    ]
    assert found.metrics["loss"] == pytest.approx(sum(losses), rel=1e-5)


def test_average_precisions_are_of_the_logits_and_computed_once(random, tmp_path, monkeypatch):
    truth = random.random((50, 7)) < 0.3
    logits = (30 + random.normal(size=truth.shape) + truth).astype(
        "float32"
    )  # all are 1 as float32
    calls, compute = [], sklearn.metrics.average_precision_score
    monkeypatch.setattr(
        sklearn.metrics, "average_precision_score", lambda *x: calls.append(x) or compute(*x)
    )
    found = Evaluation(images_of(scipy.sparse.csr_array(truth), NAMES), logits)
    with RunFolder(tmp_path / "run", {}) as run:
        write_run_report(run, found, title="", settings={}, metrics=found.metrics, command=None)
    assert len(calls) == 7
    report = (tmp_path / "run/report.html").read_text()
    with open(tmp_path / "run/per_class.csv", newline="") as file:
        for row, (true, answers) in zip(
            csv.DictReader(file), zip(truth.T, logits.T, strict=True), strict=True
        ):
            average = compute(true, answers)
            assert float(row["average_precision"]) == pytest.approx(average)
            assert f"{100 * average:.1f}\N{NO-BREAK SPACE}%</td>" in report


def test_a_name_that_is_no_text_can_be_printed():
    images = images_of(np.array([0, 1]), ["caf\udce9 au lait", "tea"])
    found = Evaluation(images, np.eye(2, dtype="float32"))
    assert worst_classes(found) == "caf? au lait (100.0% of 1), tea (100.0% of 1)"
