"""A model's answers to many examples, batch by batch."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm


class NotFiniteError(ValueError):
    """A model answers with NaN or infinite numbers."""


class Examples(Protocol):
    """Examples that are read by index, such as `data.LabeledImages`."""

    name: str

    def __len__(self) -> int: ...

    def subset(self, indices: Sequence[int]) -> "Examples": ...


def inference_function(model: keras.Model) -> tf.types.experimental.PolymorphicFunction:
    """Returns a model's forward pass as a function, traced once for batches of all shapes.

    It is kept with the model, for its tests and its exports: tracing takes seconds.
    """
    kept = vars(model)  # an attribute would become a part of its checkpoints
    if "_inference_function" not in kept:
        inputs = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), model.input)

        @tf.function(input_signature=[inputs], autograph=False)
        def forward(inputs):
            return model(inputs, training=False)

        kept["_inference_function"] = forward
    return kept["_inference_function"]


def predict(
    model: keras.Model,
    examples: Examples,
    prepare: Callable[..., tf.data.Dataset],
    *,
    batch: int = 64,
    strategy: tf.distribute.Strategy | None = None,
) -> Any:
    """Returns the model's answers to every example, in the examples' order.

    Args:
        model: Made in the scope of `strategy`.
        examples: Read one batch at a time.
        prepare: From examples and a keyword `batch`, one pass over them as `(inputs, labels)`, as
            `data.test_batches` makes it.
        batch: Examples at once, over all replicas and workers; does not change the answers.
        strategy: Shares each batch out; every worker gets all answers. None by default.

    Returns:
        Arrays `[N, ...]` in the structure that the model answers in, float32 for a classifier.

    Raises:
        NotFiniteError: If an answer is not finite.
    """
    strategy = strategy or tf.distribute.get_strategy()
    of = f"{model.name} on {examples.name}"
    if strategy.num_replicas_in_sync == 1:
        batches = prepare(examples, batch=batch)
        return collect(inference_function(model), batches, len(examples), of=of)
    return collect(*_shared_out(model, examples, prepare, batch, strategy), len(examples), of=of)


def _shared_out(model, examples, prepare, batch, strategy):
    """The forward pass on all replicas, and batches for it that are cut into equal shares."""
    replicas = strategy.num_replicas_in_sync
    share = -(-batch // replicas)
    whole = -(-len(examples) // (share * replicas)) * share * replicas
    # Replicas must have as many examples each: the last one fills up, and is cut off again.
    places = np.minimum(np.arange(whole), len(examples) - 1).reshape(-1, replicas, share)

    def own_batches(context):
        mine = np.split(places, context.num_input_pipelines, axis=1)[context.input_pipeline_id]
        return prepare(examples.subset(mine.ravel()), batch=share)

    @tf.function(reduce_retracing=True)
    def forward(inputs):
        # Not `model.predict`, which does not work under strategies of several workers.
        answers = strategy.run(lambda x: model(x, training=False), args=(inputs,))
        return tf.nest.map_structure(lambda x: strategy.gather(x, axis=0), answers)

    return forward, strategy.distribute_datasets_from_function(own_batches)


def collect(
    forward: Callable[[Any], Any], batches: Iterable[tuple[Any, Any]], count: int, *, of: str
) -> Any:
    """Returns `forward` of the inputs of every batch, as arrays `[count, ...]`.

    Args:
        forward: Inputs of a batch to answers, in any structure of tensors or arrays.
        batches: `(inputs, labels)`; what they hold beyond `count` examples is cut off.
        of: What answers what, for messages.

    Raises:
        NotFiniteError: If an answer is not finite.
    """
    found, done = None, 0
    # Drawn over the bar of a training that it interrupts.
    shown = tqdm(batches, "test", unit=" batches", leave=False, delay=1, position=0)
    for inputs, _ in shown:
        answers = tf.nest.map_structure(np.asarray, forward(inputs))
        rows = min(len(tf.nest.flatten(answers)[0]), count - done)
        for part in tf.nest.flatten(answers):
            finite = np.isfinite(part[:rows]).reshape(rows, -1).all(axis=1)
            if not finite.all():
                raise NotFiniteError(
                    f"{of} answers with NaN or infinite numbers, first for image "
                    f"{done + int(finite.argmin()):,}; give a model with sound weights."
                )
        if found is None:
            found = tf.nest.map_structure(
                lambda part: np.empty((count, *part.shape[1:]), part.dtype), answers
            )
        for whole, part in zip(tf.nest.flatten(found), tf.nest.flatten(answers), strict=True):
            whole[done : done + rows] = part[:rows]
        done += rows
    return found
