"""What a classifier gets right on labelled images."""

import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from .data import LabeledImages, test_batches


def predict(
    model: keras.Model,
    images: LabeledImages,
    prepare: Callable[..., tf.data.Dataset],
    *,
    batch: int = 64,
    strategy: tf.distribute.Strategy | None = None,
) -> np.ndarray:
    """Returns the model's answers to every image, float32 `[N, ...]`, in the images' order.

    Args:
        model: Takes float32 RGB in [0, 1]; made in the scope of `strategy`.
        images: Read one batch at a time.
        prepare: From images and a keyword `batch`, one pass over them as `(images, labels)`, as
            `data.test_batches` makes it.
        batch: Images at once, over all replicas and workers; does not change the answers.
        strategy: Shares each batch out; every worker gets all answers. None by default.

    Raises:
        ValueError: If an answer is not finite.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    share = -(-batch // replicas)
    whole = -(-len(images) // (share * replicas)) * share * replicas
    # Replicas must have as many images each: the last one fills up, and is cut off again.
    places = np.minimum(np.arange(whole), len(images) - 1).reshape(-1, replicas, share)

    def own_batches(context):
        mine = np.split(places, context.num_input_pipelines, axis=1)[context.input_pipeline_id]
        return prepare(images.subset(mine.ravel()), batch=share)

    @tf.function(reduce_retracing=True)
    def forward(x):
        # Not `model.predict`, which strategies of several workers do not let do its work.
        answers = strategy.run(lambda x: model(x, training=False), args=(x,))
        return answers if replicas == 1 else strategy.gather(answers, axis=0)

    if replicas == 1:
        batches = prepare(images, batch=batch)
    else:
        batches = strategy.distribute_datasets_from_function(own_batches)
    progress = tqdm(batches, desc="test", unit="batch", leave=False, mininterval=1)
    answers = np.concatenate([forward(x).numpy() for x, _ in progress])[: len(images)]
    finite = np.isfinite(answers).reshape(len(answers), -1).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{model.name} answers {images.name} with NaN or infinite numbers, first image "
            f"{int(np.argmin(finite))}; give a model with sound weights."
        )
    return answers


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
    prepare = functools.partial(test_batches, size=size)
    return score(predict(model, images, prepare, batch=batch), images.labels)
