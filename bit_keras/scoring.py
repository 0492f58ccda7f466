"""How right answers are: the numbers in `metrics.json`."""

import numpy as np

CALIBRATION_BINS = 15  # of equal width, as Guo et al. 2017 (arXiv:1706.04599) have them


def score(
    logits: np.ndarray, labels: np.ndarray, accepted: np.ndarray | None = None
) -> dict[str, float | int]:
    """Scores logits `[N, K]` against labels as `LabeledImages` has them.

    Args:
        accepted: As in `Evaluation`; for one label an image only.

    Returns:
        For one label an image, all over the model's own classes: `accuracy`, `top5_accuracy` (top-K
        where there are fewer than 5 classes) and `mean_per_class_accuracy` (over the classes that
        have images) in [0, 1]; `loss`, the mean softmax cross-entropy in nats; and
        `calibration_error`, the expected one: the mean distance in [0, 1] of confidence and
        accuracy over bins of confidence. Among equal logits the lower class counts as the higher
        answer. For several labels, `mean_average_precision` in [0, 1], over the classes that some
        image has, and `loss`, the mean over images of the sum of the classes' sigmoid
        cross-entropies. For both `num_test`, the number of images.
    """
    if labels.ndim == 2:
        truth = labels.toarray()
        cross_entropy = np.logaddexp(0, logits) - truth * logits
        averages = [a for a in average_precisions(logits, truth) if a is not None]
        return {
            "mean_average_precision": float(np.mean(averages)),
            "loss": float(cross_entropy.sum(axis=1).mean()),
            "num_test": len(logits),
        }
    rank = ranks(logits, labels, accepted)
    correct = rank == 0
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    right, images = np.bincount(labels, correct), np.bincount(labels)
    return {
        "accuracy": float(correct.mean()),
        "top5_accuracy": float((rank < 5).mean()),
        "mean_per_class_accuracy": float((right[images > 0] / images[images > 0]).mean()),
        "loss": float(-log_likelihood(log_probabilities, labels, accepted).mean()),
        "calibration_error": calibration_error(np.exp(log_probabilities.max(axis=1)), correct),
        "num_test": len(labels),
    }


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


def average_precisions(logits, truth):
    """One a class, None for a class that no image has."""
    from sklearn.metrics import average_precision_score

    return [
        float(average_precision_score(truth[:, k], logits[:, k])) if truth[:, k].any() else None
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
