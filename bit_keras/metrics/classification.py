"""How right answers are: the numbers in `metrics.json`."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse

CALIBRATION_BINS = 15  # of equal width, as Guo et al. 2017 (arXiv:1706.04599) have them
BLOCK = 256  # images at once, so that what is made of their logits stays small beside these


def score(
    logits: np.ndarray, labels: np.ndarray, accepted: np.ndarray | None = None
) -> dict[str, float | int]:
    """Scores logits `[N, K]` against labels as `LabeledImages` has them.

    The labels alone decide how: one label an image is scored by the softmax, also of a model that
    was trained by a sigmoid. If its classes are independent, and the image is known to have just
    one, then the softmax of its logits is what it says of which one that is.

    Args:
        accepted: As in `Evaluation`; for one label an image only.

    Returns:
        For one label an image, all over the model's own classes: `accuracy`, `top5_accuracy` (top-K
        where there are fewer than 5 classes) and `mean_per_class_accuracy` (over the classes that
        have images) in [0, 1]; `loss`, the mean softmax cross-entropy in nats; and
        `calibration_error`, the expected one: the mean distance in [0, 1] of `confidence` and
        accuracy over bins of confidence. Among equal logits the lower class counts as the higher
        answer. For several labels, what `several_label_score` returns. For both `num_test`, the
        number of images.
    """
    if labels.ndim == 2:
        return several_label_score(logits, labels, average_precisions(logits, labels))
    ranked, losses = [], []
    for rows in blocks(logits):
        ranked.append(ranks(logits[rows], labels[rows], accepted))
        losses.append(-log_likelihood(log_softmax(logits[rows]), labels[rows], accepted))
    rank = np.concatenate(ranked)
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
    """Scores answers to images of several labels, given their `average_precisions`.

    Returns:
        `mean_average_precision` in [0, 1], over the classes that some image has; `loss`, the mean
        over images of the sum of the classes' sigmoid cross-entropies in nats; and `num_test`.
    """
    losses = []
    for rows in blocks(logits):
        truth = labels[rows].toarray()
        losses.append((np.logaddexp(0, logits[rows]) - truth * logits[rows]).sum(axis=1))
    return {
        "mean_average_precision": float(np.mean([a for a in averages if a is not None])),
        "loss": float(np.concatenate(losses).mean()),
        "num_test": len(logits),
    }


def confidence(logits: np.ndarray) -> np.ndarray:
    """Returns `[N]`: the likeliest class's probability, if the image has one class: a softmax."""
    return np.concatenate([np.exp(log_softmax(logits[r]).max(axis=1)) for r in blocks(logits)])


def blocks(logits):
    return [slice(start, start + BLOCK) for start in range(0, len(logits), BLOCK)]


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def ranks(logits, labels, accepted=None):
    """How many answers stand before the best that is right, int64 `[N]`."""
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


def log_likelihood(log_probabilities, labels, accepted):
    if accepted is None:
        return log_probabilities[np.arange(len(labels)), labels]
    found = np.empty(len(labels), log_probabilities.dtype)
    for label in np.unique(labels):  # the probability that it is any of the accepted classes
        rows = labels == label
        found[rows] = np.logaddexp.reduce(log_probabilities[rows][:, accepted[label]], axis=1)
    return found


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Returns the expected calibration error, in [0, 1], of so confident answers."""
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, correct, CALIBRATION_BINS) - np.bincount(
        bins, confidence, CALIBRATION_BINS
    )
    return float(np.abs(gaps).sum() / len(confidence))


def average_precisions(logits: np.ndarray, labels: scipy.sparse.csr_array) -> list[float | None]:
    """Returns one a class, in [0, 1], or None for a class that no image has."""
    from sklearn.metrics import average_precision_score

    truth = labels.tocsc()
    return [
        float(average_precision_score(truth[:, [k]].toarray().ravel(), logits[:, k]))
        if truth.indptr[k] < truth.indptr[k + 1]
        else None
        for k in range(truth.shape[1])
    ]


def headline(scores: dict[str, float | int]) -> str:
    """Returns the name of the score by which two models are compared."""
    return "accuracy" if "accuracy" in scores else "mean_average_precision"


def sentence(scores: dict[str, float | int]) -> str:
    """Returns scores as one reads them: "Accuracy 97.41%, ... on 1,697 test images"."""
    if "num_test" not in scores:
        return "Not tested"
    shown = [
        f"{name.replace('_', ' ').replace('top5', 'top-5')} {scores[name]:.2%}"
        for name in ("accuracy", "top5_accuracy", "mean_average_precision")
        if name in scores
    ]
    text = f"{', '.join(shown)}, loss {scores['loss']:.4f} on {scores['num_test']:,} test images"
    return text[0].upper() + text[1:]
