"""Normalizations and their gradients in few passes over memory, for training on a CPU.

TensorFlow reads and writes a map a dozen times for the plain formula of group normalization, and
twice as often for its automatic gradient. Here sums over places are products with a matrix of ones,
which run at the speed of memory, and XLA merges what lies between two sums into one pass;
convolutions stay with oneDNN. `benchmarks/training_step.py` compares a step with timm's.

Every gradient here is that of the plain formula, which is also what second derivatives are made of.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras

# Elements of a map. Compiling takes 0.2 s a shape, which smaller ones save in hundreds of steps.
_WORTH_COMPILING = 2**18


def usable(x: keras.KerasTensor) -> bool:
    """Whether a tensor is TensorFlow's, on a machine without accelerator, and of a known shape.

    Shapes must not vary, because every new one is traced, and maybe compiled.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.is_tensor(x) and x.shape.is_fully_defined() and _only_cpus()


@functools.cache
def _only_cpus():
    import tensorflow as tf

    return not any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))


def group_normalization(
    inputs: Any, gamma: Any, beta: Any, plain: Callable, *, groups: int, epsilon: float, relu: bool
) -> Any:
    """Returns what `plain(inputs, gamma, beta)` does, which is differentiated in few passes.

    Args:
        inputs: Maps `[batch, ..., channels]`.
        gamma, beta: float32 `[channels]`.
        plain: The plain formula.
        groups, epsilon: As of `GroupNormalization`.
        relu: Whether a ReLU follows.
    """
    import tensorflow as tf

    compiled = inputs.shape.num_elements() >= _WORTH_COMPILING
    shape = tuple(inputs.shape)
    forward, backward = _normalization(shape, inputs.dtype, groups, epsilon, relu, compiled)

    @tf.custom_gradient
    def normalized(x, gamma, beta):
        y, scale, mean, inverse = forward(x, gamma, beta)

        def gradient(dy):
            def fast(dy, x, gamma, beta):
                return backward(dy, x, y, gamma, scale, mean, inverse)

            return _with_gradient_of(fast, plain)(dy, x, gamma, beta)

        return y, gradient

    return normalized(inputs, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta))


def standardized(kernel: Any, plain: Callable, *, epsilon: float) -> Any:
    """Returns what `plain(kernel)` does, which is differentiated in few passes.

    Args:
        kernel: float32 `[height, width, in, out]`.
        plain: The plain formula.
        epsilon: Added to the variance.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def standardized(w):
        y, inverse = _standardize(w, epsilon)

        def gradient(dy):
            def fast(dy, w):
                return _standardization_gradient(dy, y, inverse)

            return _with_gradient_of(fast, plain)(dy, w)

        return y, gradient

    return standardized(tf.convert_to_tensor(kernel))


def traced_once(functions: list[Callable], x: keras.KerasTensor) -> list[Callable]:
    """Returns functions that do the same as these, and are traced only once in all.

    Deep networks repeat a layer with other weights. Where the copies share a function, it and its
    gradient are traced, optimized and prepared once, which takes less time than for each copy.

    Args:
        functions: Of tensors and variables, all alike, for arguments of the same shapes and dtypes.
        x: An argument. They are returned as they are if it is not `usable`, or nothing is traced.
    """
    if not (functions and usable(x)):
        return functions
    import tensorflow as tf

    if tf.executing_eagerly():
        return functions
    # Not inlined, or every copy would be optimized after all.
    options = {"_noinline": True}
    traced = tf.function(functions[0], autograph=False, experimental_attributes=options)

    def shared(*values):  # of variables, too
        return traced(*map(tf.convert_to_tensor, values))

    return [shared for _ in functions]


def _with_gradient_of(fast, plain):
    """`fast(dy, *inputs)`, the gradient of `plain`, that is differentiated as the plain one."""
    import tensorflow as tf

    @tf.custom_gradient
    def first(dy, *inputs):
        def second(*directions):
            with tf.GradientTape() as outer:
                outer.watch((dy, *inputs))
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    y = plain(*inputs)
                gradients = inner.gradient(y, inputs, dy)
            return outer.gradient(
                gradients, (dy, *inputs), directions, unconnected_gradients="zero"
            )

        return fast(dy, *inputs), second

    return first


def _sums(x):
    """Of `[..., n, c]` over n, as `[..., 1, c]`."""
    import tensorflow as tf

    return tf.matmul(tf.ones((*x.shape[:-2], 1, x.shape[-2])), x)


@functools.cache
def _normalization(shape, dtype, groups, epsilon, relu, compiled):
    """(forward, backward) for maps of a shape and dtype, traced and maybe compiled once."""
    import tensorflow as tf

    def places(x):  # [batch, places, channels]
        return tf.cast(tf.reshape(x, (x.shape[0], -1, x.shape[-1])), tf.float32)

    def of_groups(x):  # [batch, groups, channels of one]
        return tf.reshape(x, (-1, groups, x.shape[-1] // groups))

    def of_channels(x, channels):  # [batch, 1, channels]
        return tf.reshape(tf.broadcast_to(x, (*x.shape[:2], channels // groups)), (-1, 1, channels))

    def forward(inputs, gamma, beta):
        x = places(inputs)
        channels = x.shape[-1]
        number = x.shape[1] * (channels // groups)
        mean = tf.reduce_sum(of_groups(_sums(x)), -1, keepdims=True) / number
        squares = _sums(tf.math.squared_difference(x, of_channels(mean, channels)))
        variance = tf.reduce_sum(of_groups(squares), -1, keepdims=True) / number
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = of_groups(gamma) * inverse
        shift = of_groups(beta) - mean * scale
        y = x * of_channels(scale, channels) + of_channels(shift, channels)
        y = tf.reshape(tf.nn.relu(y) if relu else y, inputs.shape)
        return tf.cast(y, inputs.dtype), scale, mean, inverse

    def backward(dy, inputs, y, gamma, scale, mean, inverse):
        x, dz = places(inputs), places(dy)
        channels = x.shape[-1]
        number = x.shape[1] * (channels // groups)
        if relu:
            dz = tf.where(places(y) > 0, dz, 0)
        centered = x - of_channels(mean, channels)
        d_shift = of_groups(_sums(dz))  # of every example
        d_gamma = of_groups(_sums(dz * centered)) * inverse
        factor = of_groups(gamma) * inverse / number
        a = of_channels(tf.reduce_sum(factor * d_shift, -1, keepdims=True), channels)
        b = tf.reduce_sum(factor * d_gamma, -1, keepdims=True) * inverse
        dx = dz * of_channels(scale, channels) - a - centered * of_channels(b, channels)
        dx = tf.cast(tf.reshape(dx, inputs.shape), inputs.dtype)
        parts = (tf.reshape(tf.reduce_sum(x, 0), (channels,)) for x in (d_gamma, d_shift))
        return dx, *parts

    def traced(function, *signature):
        options = {"jit_compile": compiled or None, "autograph": False}
        return tf.function(function, signature, **options).get_concrete_function()

    maps, weights = tf.TensorSpec(shape, dtype), tf.TensorSpec(shape[-1:])
    scale = tf.TensorSpec((shape[0], groups, shape[-1] // groups))
    moment = tf.TensorSpec((shape[0], groups, 1))
    with tf.init_scope():  # or the graph that needs them first would be kept with them
        return (
            traced(forward, maps, weights, weights),
            traced(backward, maps, maps, maps, weights, scale, moment, moment),
        )


def _filters(x):
    """Of a kernel, as `[inputs of a filter, filters]`."""
    import tensorflow as tf

    return tf.reshape(x, (-1, x.shape[-1]))


def _standardize(kernel, epsilon):
    """The standardized kernel, and the inverse deviations of its filters."""
    import tensorflow as tf

    w = _filters(kernel)
    centered = w - _sums(w) / w.shape[0]
    inverse = tf.math.rsqrt(_sums(tf.square(centered)) / w.shape[0] + epsilon)
    return tf.reshape(centered * inverse, kernel.shape), inverse


def _standardization_gradient(dy, y, inverse):
    import tensorflow as tf

    g, normalized = _filters(dy), _filters(y)
    mean, along = _sums(g) / g.shape[0], _sums(g * normalized) / g.shape[0]
    return tf.reshape((g - mean - normalized * along) * inverse, dy.shape)
