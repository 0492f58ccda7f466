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
    """Scores logits `[N, K]` against int labels `[N]`.

    Returns:
        `accuracy` and `top5_accuracy` in [0, 1] (top-K where there are fewer than 5 classes),
        `loss`, the mean softmax cross-entropy in nats, and `num_test`. Among equal logits the
        lower class counts as the higher answer.
    """
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
