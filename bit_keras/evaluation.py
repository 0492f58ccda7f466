"""What a classifier gets right on labelled images."""

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from .data import LabeledImages, test_batches


def predict(model: keras.Model, batches: tf.data.Dataset) -> np.ndarray:
    """Returns the model's answers to every image, float32 `[N, ...]`, in the images' order.

    Args:
        model: Takes float32 RGB in [0, 1].
        batches: One pass of `(images, labels)`, as `data.test_batches` makes it.
    """
    progress = tqdm(batches, desc="test", unit="batch", leave=False, mininterval=1)
    # Not `model.predict`, which strategies of several workers do not let do its work.
    forward = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    return np.concatenate([forward(images).numpy() for images, _ in progress])


def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
    """Scores logits `[N, K]` against labels as `LabeledImages` has them.

    Returns:
        For one label an image, `accuracy` and `top5_accuracy` in [0, 1] (top-K where there are
        fewer than 5 classes) and `loss`, the mean softmax cross-entropy in nats; among equal logits
        the lower class counts as the higher answer. For several labels, `mean_average_precision` in
        [0, 1], over the classes that some image has, and `loss`, the mean over images of the sum of
        the classes' sigmoid cross-entropies. For both `num_test`, the number of images.
    """
    if labels.ndim == 2:
        from sklearn.metrics import average_precision_score

        truth = labels.toarray()
        present = truth.any(axis=0)
        cross_entropy = np.logaddexp(0, logits) - truth * logits
        return {
            "mean_average_precision": float(
                average_precision_score(truth[:, present], logits[:, present])
            ),
            "loss": float(cross_entropy.sum(axis=1).mean()),
            "num_test": len(logits),
        }
    order = np.argsort(-logits, axis=1, kind="stable")
    hits = order[:, :5] == labels[:, None]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return {
        "accuracy": float(hits[:, 0].mean()),
        "top5_accuracy": float(hits.any(axis=1).mean()),
        "loss": float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        "num_test": len(labels),
    }


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


def evaluate(
    model: keras.Model, images: LabeledImages, *, size: int, batch: int = 64
) -> dict[str, float | int]:
    """Returns the `score` of a model's answers on labelled images.

    Args:
        model: Takes float32 RGB in [0, 1] and returns logits.
        images: Read one batch at a time.
        size: Side of the square every image is resized to, in pixels.
        batch: Images at once; does not change the answers.
    """
    return score(predict(model, test_batches(images, batch=batch, size=size)), images.labels)
