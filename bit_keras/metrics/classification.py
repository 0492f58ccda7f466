"""Metrics of a classifier: scores, confusions, per-class numbers, calibration."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse
from scipy.special import log_softmax

CALIBRATION_BINS = 15  # of equal width, as in Guo et al. 2017 (arXiv:1706.04599)
BLOCK = 256  # images at a time, so that temporary arrays stay small beside the logits


def score(
    logits: np.ndarray, labels: np.ndarray, accepted: np.ndarray | None = None
) -> dict[str, float | int]:
    """Scores logits `[N, K]` against labels as `LabeledImages` has them.

    One label per image is scored by the softmax, also for a model trained with a sigmoid: given
    that an image has exactly one of independent classes, it is the probability of each.

    Args:
        accepted: As in `Evaluation`; for one label per image only.

    Returns:
        For one label per image, all over the model's own classes: `accuracy`, `top5_accuracy`
        (top-K where there are fewer than 5 classes), `mean_per_class_accuracy` (over the classes
        that have images) and `calibration_error` in [0, 1]; `loss`, the mean softmax cross-entropy
        in nats; and `num_test`, the number of images. Of equal logits the lower class ranks first.
        For several labels, what `several_label_score` returns.
    """
    if labels.ndim == 2:
        return several_label_score(logits, labels, average_precisions(logits, labels))
    ranks, losses = [], []
    for rows in _blocks(logits):
        ranks.append(_ranks(logits[rows], labels[rows], accepted))
        losses.append(-_log_likelihood(log_softmax(logits[rows], axis=1), labels[rows], accepted))
    rank = np.concatenate(ranks)
    correct = rank == 0
    right, images = np.bincount(labels, correct), np.bincount(labels)
    return {
        "accuracy": float(correct.mean()),
        "top5_accuracy": float((rank < 5).mean()),
        "mean_per_class_accuracy": float((right[images > 0] / images[images > 0]).mean()),
        "loss": float(np.concatenate(losses).mean()),
        "calibration_error": calibration_error(confidence(logits), correct),
        "num_test": len(labels),
    }


def several_label_score(
    logits: np.ndarray, labels: scipy.sparse.csr_array, averages: Sequence[float | None]
) -> dict[str, float | int]:
    """Scores logits of images with several labels, given their `average_precisions`.

    Returns:
        `mean_average_precision` in [0, 1], over the classes that have images; `loss`, the sum of
        the classes' sigmoid cross-entropies in nats, mean over images; and `num_test`.
    """
    losses = []
    for rows in _blocks(logits):
        truth = labels[rows].toarray()
        losses.append((np.logaddexp(0, logits[rows]) - truth * logits[rows]).sum(axis=1))
    return {
        "mean_average_precision": float(np.mean([a for a in averages if a is not None])),
        "loss": float(np.concatenate(losses).mean()),
        "num_test": len(logits),
    }


def average_precisions(logits: np.ndarray, labels: scipy.sparse.csr_array) -> list[float | None]:
    """Returns one per class, in [0, 1]; None for a class without images."""
    from sklearn.metrics import average_precision_score

    truth = labels.tocsc()
    return [
        float(average_precision_score(truth[:, [k]].toarray().ravel(), logits[:, k]))
        if truth.indptr[k] < truth.indptr[k + 1]
        else None
        for k in range(truth.shape[1])
    ]


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns int64 `[K, K + 1]`: images by true class (row) and predicted class (column).

    The last column is for predictions of -1.
    """
    counts = np.zeros((num_classes, num_classes + 1), np.int64)
    np.add.at(counts, (labels, predictions), 1)  # -1 is the last
    return counts


def confused_pairs(
    labels: np.ndarray, predictions: np.ndarray, number: int
) -> list[tuple[tuple[int, int], int]]:
    """Returns the most frequent mistakes: ((true class, predicted class), images).

    It needs no confusion matrix, which would be large for thousands of classes.
    """
    wrong = labels != predictions
    pairs = zip(labels[wrong].tolist(), predictions[wrong].tolist(), strict=True)
    return Counter(pairs).most_common(number)


def per_class(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> list[dict]:
    """Returns for each class `images`, `correct`, `recall` and `precision`.

    The last two are None where there is nothing to divide by; a prediction of -1 is no class.
    """
    correct, images, predicted = (
        np.bincount(classes, minlength=num_classes).tolist()
        for classes in (labels[labels == predictions], labels, predictions[predictions >= 0])
    )
    return [
        {"images": n, "correct": c, "recall": _ratio(c, n), "precision": _ratio(c, p)}
        for n, c, p in zip(images, correct, predicted, strict=True)
    ]


def several_label_per_class(
    logits: np.ndarray, labels: scipy.sparse.csr_array, averages: Sequence[float | None]
) -> list[dict]:
    """Returns for each class `images`, `average_precision`, `recall` and `precision`.

    The last two are those at a probability of 0.5, and None where there is nothing to divide by.
    """
    truth, predicted = labels.toarray(), logits > 0
    counts = (x.sum(axis=0).tolist() for x in (truth, truth & predicted, predicted))
    return [
        {"images": n, "average_precision": a, "recall": _ratio(c, n), "precision": _ratio(c, p)}
        for a, n, c, p in zip(averages, *counts, strict=True)
    ]


def _ratio(part, whole):
    return part / whole if whole else None


def confidence(logits: np.ndarray) -> np.ndarray:
    """Returns `[N]`: the highest softmax probability of each image."""
    highest = [log_softmax(logits[rows], axis=1).max(axis=1) for rows in _blocks(logits)]
    return np.exp(np.concatenate(highest))


def calibration_bins(
    confidence: np.ndarray, correct: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorts answers into `CALIBRATION_BINS` of confidence; a bin includes its upper edge.

    Returns:
        For each bin the number of images, the sum of their confidences, and how many are right.
    """
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    return tuple(np.bincount(bins, of, CALIBRATION_BINS) for of in (None, confidence, correct))


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Returns the expected calibration error: |accuracy - confidence| of bins, mean over images."""
    _, sure, right = calibration_bins(confidence, correct)
    return float(np.abs(right - sure).sum() / len(confidence))


def sentence(scores: dict[str, float | int]) -> str:
    """Returns scores as text: "Accuracy 97.41%, ... on 1,697 test images"."""
    if "num_test" not in scores:
        return "Not tested"
    shown = [
        f"{name.replace('_', ' ').replace('top5', 'top-5')} {scores[name]:.2%}"
        for name in ("accuracy", "top5_accuracy", "mean_average_precision")
        if name in scores
    ]
    text = f"{', '.join(shown)}, loss {scores['loss']:.4f} on {scores['num_test']:,} test images"
    return text[0].upper() + text[1:]


def _blocks(logits):
    return [slice(start, start + BLOCK) for start in range(0, len(logits), BLOCK)]


def _ranks(logits, labels, accepted):
    """How many classes rank before the best accepted one, int64 `[N]`."""
    if accepted is None:
        best = labels
    else:
        best = np.empty(len(labels), np.int64)
        for label in np.unique(labels):
            rows, right = labels == label, np.flatnonzero(accepted[label])
            best[rows] = right[logits[rows][:, right].argmax(axis=1)]
    reached = np.take_along_axis(logits, best[:, None], axis=1)
    before = np.arange(logits.shape[1]) < best[:, None]
    return ((logits > reached) | ((logits == reached) & before)).sum(axis=1)


def _log_likelihood(log_probabilities, labels, accepted):
    if accepted is None:
        return log_probabilities[np.arange(len(labels)), labels]
    found = np.empty(len(labels), log_probabilities.dtype)
    for label in np.unique(labels):  # the probability of any of the accepted classes
        rows = labels == label
        found[rows] = np.logaddexp.reduce(log_probabilities[rows][:, accepted[label]], axis=1)
    return found
