"""Convolution with weight standardization."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from . import fast_paths

_EPSILON = 1e-10

_beforehand = threading.local()  # for replicas are traced in threads


@keras.saving.register_keras_serializable("bit_keras")
class StdConv2D(keras.layers.Conv2D):
    """2-D convolution whose kernel is standardized per output filter on every call.

    Each filter is used as `(w - mean(w)) / sqrt(var(w) + 1e-10)`, with mean and population
    variance over height, width and input channels; the variable itself stays as trained. It and the
    arithmetic are float32 under every dtype policy, only the result is cast to the compute dtype.

    Takes the arguments of `keras.layers.Conv2D`, except that `use_bias` defaults to False.

    Input shape:
        `[batch, height, width, channels]`, as for `keras.layers.Conv2D`.
    Output shape:
        As for `keras.layers.Conv2D`.
    Example:
        >>> StdConv2D(8, 3, padding="same")(keras.ops.ones((1, 32, 32, 3))).shape
        TensorShape([1, 32, 32, 8])
    Reference:
        Qiao et al., 2019, "Micro-Batch Training with Batch-Channel Normalization and Weight
        Standardization", https://arxiv.org/abs/1903.10520; epsilon as in BiT's released code.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        *args: Any,
        use_bias: bool = False,
        **kwargs: Any,
    ):
        super().__init__(filters, kernel_size, *args, use_bias=use_bias, **kwargs)

    def add_weight(self, *args: Any, name: str | None = None, **kwargs: Any) -> keras.Variable:
        """Adds a weight as Keras does, but the kernel as float32, without autocast.

        Rounded to bfloat16 before it is standardized, it would lose what makes filters differ.
        """
        if name == "kernel":
            kwargs |= {"dtype": "float32", "autocast": False}
        return super().add_weight(*args, name=name, **kwargs)

    def call(self, inputs: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        """Returns the convolution of the inputs with the standardized kernel."""
        if inputs.shape[0] == 0:  # TensorFlow 2.21 gives an empty batch the shape of its input
            return ops.zeros(self.compute_output_shape(inputs.shape), inputs.dtype)
        kernel = ops.convert_to_tensor(self.kernel)
        if id(self.kernel) not in getattr(_beforehand, "kernels", ()):
            kernel = standardized_in_training(kernel) if training else standardize(kernel)
        y = self.convolution_op(inputs, ops.cast(kernel, inputs.dtype))
        if self.use_bias:
            channels_first = self.data_format == "channels_first"
            y = y + ops.reshape(self.bias, (1, -1, 1, 1) if channels_first else (1, 1, 1, -1))
        return y if self.activation is None else self.activation(y)


def standardize(kernel: keras.KerasTensor) -> keras.KerasTensor:
    """Returns a `[height, width, in, out]` kernel with mean 0 and variance 1 in every filter."""
    mean = ops.mean(kernel, axis=(0, 1, 2), keepdims=True)
    centered = kernel - mean
    variance = ops.mean(ops.square(centered), axis=(0, 1, 2), keepdims=True)
    return centered / ops.sqrt(variance + _EPSILON)


def standardized_in_training(kernel: keras.KerasTensor) -> keras.KerasTensor:
    """Returns what `standardize` does, in the way that has the faster gradient here."""
    if fast_paths.usable(kernel):
        return fast_paths.standardized(kernel, standardize, epsilon=_EPSILON)
    return standardize(kernel)


@contextlib.contextmanager
def taken_as_standardized(kernels: Sequence[keras.Variable]) -> Iterator[None]:
    """Inside, layers use the values of their kernels among these as they are."""
    _beforehand.kernels = {id(kernel) for kernel in kernels}
    try:
        yield
    finally:
        del _beforehand.kernels
