"""What a model costs, in memory and in arithmetic, read off its graph before anything runs."""

import math
import pathlib
from collections import Counter
from collections.abc import Callable

import keras
import psutil
import tensorflow as tf

# Of a GPU nearly all is TensorFlow's own; of a machine's memory, which also holds the input
# pipeline, other programs and what the allocator has not given back, less than half.
USABLE = {"GPU": 0.8, "CPU": 0.4}
BATCHES_HELD = 4  # one in training, one ready, one in the making, one being mixed

# Their output is their input, under another shape or name.
VIEWS = {"ExpandDims", "Identity", "PreventGradient", "Reshape", "Squeeze", "StopGradient"}


def fitting_split(
    model: keras.Model,
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    *,
    image_shape: tuple[int, ...],
    num_classes: int,
    batch: int,
    strategy: tf.distribute.Strategy,
    targets: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    pieces: int | None = None,
) -> tuple[int, int]:
    """Finds the fewest pieces a replica's batch must be cut into to fit into its device's memory.

    It depends on the machine, not on what else runs on it, so a resumed run finds the same.

    Args:
        model, loss, batch, strategy, targets: As in `train`.
        image_shape: Of one image, as the model takes it.
        num_classes: Length of one image's labels.
        pieces: Only estimate the memory with so many.

    Returns:
        (pieces, estimate of the bytes a replica needs with them). Where even single images do not
        fit, they are tried anyway. TPUs do not tell their memory: for them it is one piece.
    """
    share = batch // strategy.num_replicas_in_sync
    limit = usable_memory(strategy)
    weights = sum(4 * variable.shape.num_elements() for variable in model.variables)
    pixels = 4 * share * math.prod(image_shape)
    fixed = 3 * weights + BATCHES_HELD * pixels  # with momentum and the pieces' summed gradients
    last = pieces or share
    pieces = pieces or 1
    while True:
        images_shape = (share // pieces, *image_shape)
        need = gradient_memory(model, loss, images_shape, num_classes)
        if targets:
            need += targets_memory(targets, images_shape, num_classes)
        if fixed + need <= limit or pieces == last:
            return pieces, fixed + need
        # What is left for a piece must hold it; a little more where that estimate was too low.
        least = pieces * need / max(limit - fixed, 1)
        divisors = [n for n in range(pieces + 1, share + 1) if share % n == 0]
        pieces = next((n for n in divisors if n >= least), share)


def gradient_memory(model, loss, images_shape, num_classes) -> int:
    """Returns the bytes that the gradient of one piece takes, by an estimate on the high side."""
    variables = model.trainable_variables

    @tf.function
    def gradients(images, labels):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(loss(labels, model(images, training=True)))
        return tape.gradient(total, [variable.value for variable in variables])

    return peak_memory(graph_of(gradients, images_shape, num_classes))


def targets_memory(targets, images_shape, num_classes) -> int:
    """Returns the bytes that the targets of one piece take, with all weights they are made by.

    They are added to the gradient's, for nothing keeps TensorFlow from computing both at once.
    """
    graph = graph_of(tf.function(targets), images_shape, num_classes)
    weights = sum(4 * variable.shape.num_elements() for variable in graph.variables)
    return weights + peak_memory(graph)


def graph_of(function, images_shape, num_classes):
    images, labels = tf.TensorSpec(images_shape), tf.TensorSpec((images_shape[0], num_classes))
    return function.get_concrete_function(images, labels).graph


def peak_memory(graph) -> int:
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


def forward_flops(model: keras.Model, image_shape: tuple[int, ...]) -> int:
    """Returns the floating-point operations of one image's way through the model.

    Multiplications and additions of convolutions and dense layers, two for each weight used, which
    is how hardware counts; papers often print half of it, multiply-adds.
    """
    forward = tf.function(lambda images: model(images, training=False))
    graph = forward.get_concrete_function(tf.TensorSpec((1, *image_shape))).graph
    # Each output is a sum over all of the kernel but its last axis.
    return sum(
        2 * op.outputs[0].shape.num_elements() * op.inputs[1].shape[:-1].num_elements()
        for op in graph.get_operations()
        if op.type in ("Conv2D", "MatMul")
    )


def usable_memory(strategy: tf.distribute.Strategy) -> float:
    """Returns the bytes that one replica of a strategy may use; infinite where nobody tells."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return float("inf")
    if tf.config.list_logical_devices("GPU"):
        from tensorflow.python.client import device_lib  # TensorFlow's only way to ask

        found = [d.memory_limit for d in device_lib.list_local_devices() if d.device_type == "GPU"]
        return USABLE["GPU"] * min(found)
    mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)  # over logical CPUs, all here
    return USABLE["CPU"] * machine_memory() / (strategy.num_replicas_in_sync if mirrored else 1)


def machine_memory() -> int:
    """Returns the bytes of memory of this machine, or of the container this runs in."""
    total = psutil.virtual_memory().total
    limit = pathlib.Path("/sys/fs/cgroup/memory.max")  # "max" where there is none
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(total, int(text)) if text.isdecimal() else total
