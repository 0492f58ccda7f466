"""How much memory a training step takes, read off its graph before anything runs."""

import math
import pathlib
from collections import Counter

import keras
import psutil
import tensorflow as tf

from .objective import Objective
from .tf_workarounds import gpu_memory

# Of a GPU nearly all is TensorFlow's own; of a machine's memory, which also holds the input
# pipeline, other programs and what the allocator has not given back, less than half.
USABLE = {"GPU": 0.8, "CPU": 0.4}
_TRIES = 4  # estimates, each of which takes seconds
_FINE = 32  # pieces; more are not taken unasked where a quarter of them would do
BATCHES_HELD = 4  # one in training, one prefetched, one being batched, one being mixed

# Their output is their input, under another shape or name.
VIEWS = {"ExpandDims", "Identity", "PreventGradient", "Reshape", "Squeeze", "StopGradient"}


def fitting_split(
    objective: Objective, strategy: tf.distribute.Strategy, pieces: int | None = None
) -> tuple[int, int]:
    """Finds the fewest pieces that a replica's batch must be cut into to fit into its memory.

    It depends on the machine, not on what else runs on it, so a resumed run finds the same. If even
    single examples do not fit, they are tried anyway. TPUs do not tell their memory: for them it is
    one piece.

    Returns:
        (pieces, estimate of the bytes that a replica needs with them); with `pieces`, only that
        estimate.

    Raises:
        ValueError: If the images of a batch alone do not fit; or pieces must be much smaller than
            memory allows, because the batch has few divisors.
    """
    share = objective.batch // strategy.num_replicas_in_sync
    limit = usable_memory(strategy)
    inputs, _ = objective.element_spec(share)
    images = _bytes_of(tf.nest.flatten(inputs))
    fixed = 3 * _bytes_of(objective.model.variables)  # with momentum and summed gradients
    fixed += BATCHES_HELD * images
    if pieces:
        return pieces, fixed + _gradient_memory(objective, share // pieces)
    if 2 * images > limit / _share_usable():
        raise ValueError(
            f"a batch of {share:,} images takes {images / 2**30:,.1f} GiB before any split, and "
            "two are held at a time; take a smaller batch, or smaller images."
        )
    pieces, before = 1, None
    for _ in range(_TRIES):
        need = _gradient_memory(objective, share // pieces)
        if fixed + need <= limit or pieces == share:
            return pieces, fixed + need
        least = max(pieces + 1, _pieces_wanted(pieces, need, before, limit - fixed))
        before = (pieces, need)
        pieces = next((n for n in range(pieces + 1, share) if share % n == 0 and n >= least), share)
        if pieces > max(_FINE, 4 * least):
            _raise_indivisible(share, math.ceil(least), pieces)
    return share, fixed + _gradient_memory(objective, 1)


def _pieces_wanted(pieces, need, before, room):
    """The pieces whose need is the room there is, by what one or two numbers of pieces need.

    A need is a part for each example and a constant part, such as the gradients of weights, which
    is taken for nothing until there are two estimates.
    """
    constant = 0
    if before:
        of_all = (before[1] - need) / (1 / before[0] - 1 / pieces)
        constant = max(0, need - of_all / pieces)
    return pieces * (need - constant) / (room - constant) if room > constant else math.inf


def _raise_indivisible(batch, least, pieces):
    raise ValueError(
        f"a batch of {batch:,} images must be split into {least:,} pieces or more to fit into "
        f"memory, and the next that divide it are {pieces:,}; take a batch with more divisors, "
        f"such as {least * (batch // least):,}, or batch_split={pieces} (--batch_split={pieces})."
    )


def rematerialize(model: keras.Model) -> None:
    """Makes a model's blocks keep only what enters their units, in training from now on."""
    for layer in model.layers:
        if hasattr(layer, "remat"):
            layer.remat = True


def _gradient_memory(objective: Objective, examples: int) -> int:
    """Returns an upper estimate of the bytes that the gradient of so many examples takes.

    Targets are made by a graph of their own, whose memory is added with all weights it uses, for
    TensorFlow may compute both at once.
    """
    inputs, labels = objective.element_spec(examples)
    extra = 0
    if objective.targets:
        graph = tf.function(objective.targets).get_concrete_function(inputs, labels).graph
        extra = _bytes_of(graph.variables) + peak_memory(graph)
        labels = tf.nest.map_structure(tf.TensorSpec.from_tensor, graph.structured_outputs)
    graph = objective.gradients.get_concrete_function(inputs, labels, tf.TensorSpec(())).graph
    return extra + peak_memory(graph)


def _bytes_of(tensors):
    """Of variables, tensors or their specifications."""
    return sum(tensor.shape.num_elements() * tf.as_dtype(tensor.dtype).size for tensor in tensors)


def peak_memory(graph: tf.Graph) -> int:
    """Returns the largest number of bytes alive at once in a graph run in its own order."""
    operations = [
        op for op in graph.get_operations() if op.type not in ("Const", "Placeholder", *VIEWS)
    ]

    def origin(tensor):
        while tensor.op.type in VIEWS:
            tensor = tensor.op.inputs[0]
        return tensor.ref()

    last_use = {origin(tensor): i for i, op in enumerate(operations) for tensor in op.inputs}
    last_use |= {origin(tensor): len(operations) for tensor in graph.outputs}
    freed = Counter()
    alive = peak = 0
    for i, op in enumerate(operations):
        for tensor in op.outputs:
            if tensor.dtype != tf.resource:
                number = (tensor.shape.num_elements() or 0) * tensor.dtype.size
                alive += number
                freed[last_use.get(tensor.ref(), i)] += number
        peak = max(peak, alive)
        alive -= freed[i]
    return peak


def _share_usable():
    return USABLE["GPU" if tf.config.list_logical_devices("GPU") else "CPU"]


def usable_memory(strategy: tf.distribute.Strategy) -> float:
    """Returns the bytes that one replica of a strategy may use; infinite where that is unknown."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return float("inf")
    if tf.config.list_logical_devices("GPU"):
        return USABLE["GPU"] * gpu_memory()
    mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)  # over logical CPUs, all here
    return USABLE["CPU"] * machine_memory() / (strategy.num_replicas_in_sync if mirrored else 1)


def machine_memory() -> int:
    """Returns the bytes of memory of this machine, or of the container this runs in."""
    total = psutil.virtual_memory().total
    limit = pathlib.Path("/sys/fs/cgroup/memory.max")  # "max" where there is none
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(total, int(text)) if text.isdecimal() else total
