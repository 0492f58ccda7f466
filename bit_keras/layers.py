"""The two layers that make a ResNet a BiT: standardized convolution and group normalization."""

import numbers
from typing import Any

import keras
from keras import ops


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

    def convolution_op(
        self, inputs: keras.KerasTensor, kernel: keras.Variable
    ) -> keras.KerasTensor:
        """Returns the convolution of the inputs with the standardized kernel."""
        if inputs.shape[0] == 0:  # TensorFlow 2.21 gives an empty batch the shape of its input
            return ops.zeros(self.compute_output_shape(inputs.shape), inputs.dtype)
        return super().convolution_op(inputs, ops.cast(standardize(kernel), inputs.dtype))


def standardize(kernel: keras.KerasTensor) -> keras.KerasTensor:
    """Returns a `[height, width, in, out]` kernel with mean 0 and variance 1 in every filter."""
    mean = ops.mean(kernel, axis=(0, 1, 2), keepdims=True)
    centered = kernel - mean
    variance = ops.mean(ops.square(centered), axis=(0, 1, 2), keepdims=True)
    return centered / ops.sqrt(variance + 1e-10)


@keras.saving.register_keras_serializable("bit_keras")
class GroupNormalization(keras.layers.Layer):
    """Group normalization over the last axis.

    Neighboring channels form `groups` groups of equal size; every example and group is normalized
    by its own mean and population variance, then scaled by `gamma` and shifted by `beta` per
    channel. Examples do not depend on each other, so a batch can be cut into pieces without
    changing a result. Weights and statistics are float32 under every dtype policy.

    `keras.layers.GroupNormalization` computes the same with another default epsilon (1e-3), and
    slower, because it reshapes its input.

    Args:
        groups: Integer that divides the number of channels.
        epsilon: Small float added to the variance. BiT was trained with 1e-5.

    Input shape:
        `[batch, ..., channels]`.
    Output shape:
        The input's.
    Raises:
        ValueError: If `groups` is below 1 or does not divide the number of channels; or Keras is
            set to images of channels first.
    Example:
        >>> GroupNormalization(groups=8)(keras.ops.ones((2, 4, 4, 16))).shape
        TensorShape([2, 4, 4, 16])
    Reference:
        Wu and He, 2018, "Group Normalization", https://arxiv.org/abs/1803.08494
    """

    def __init__(self, groups: int = 32, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        check_image_data_format()
        if not (isinstance(groups, numbers.Integral) and groups >= 1):
            raise ValueError(f"groups must be an integer of 1 or more, got {groups!r}.")
        if not epsilon > 0:
            raise ValueError(f"epsilon must be above 0, got {epsilon!r}.")
        self.groups = int(groups)
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels is None or channels % self.groups:
            raise ValueError(
                f"GroupNormalization cannot cut {channels} channels into {self.groups} equal "
                "groups; choose a number of groups that divides the channels."
            )
        # Applied in float32, before the result is cast: autocasting would only lose digits.
        exact = {"shape": (channels,), "dtype": "float32", "autocast": False}
        self.gamma = self.add_weight(initializer="ones", name="gamma", **exact)
        self.beta = self.add_weight(initializer="zeros", name="beta", **exact)

    def call(self, inputs):
        channels = inputs.shape[-1]
        spatial = tuple(range(1, len(inputs.shape) - 1))
        x = ops.cast(inputs, "float32")
        # Moments per channel first, then those of the groups from theirs: the input is never
        # reshaped. E[x^2] - E[x]^2 would save a pass, and lose all digits of a small variance.
        mean = ops.mean(x, axis=spatial, keepdims=True) if spatial else x
        # The deviations from a mean sum to zero, so no gradient flows through the mean here.
        variance = ops.square(x - ops.stop_gradient(mean))
        variance = ops.mean(variance, axis=spatial) if spatial else variance
        in_groups = (-1, self.groups, channels // self.groups)
        mean, variance = ops.reshape(mean, in_groups), ops.reshape(variance, in_groups)
        group_mean = ops.mean(mean, axis=-1, keepdims=True)
        variance = ops.mean(variance + ops.square(mean - group_mean), axis=-1, keepdims=True)
        scale = ops.reshape(self.gamma, in_groups) * ops.rsqrt(variance + self.epsilon)
        shift = ops.reshape(self.beta, in_groups) - group_mean * scale
        per_channel = (-1, *(1 for _ in spatial), channels)
        y = x * ops.reshape(scale, per_channel) + ops.reshape(shift, per_channel)
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}


def check_image_data_format() -> None:
    """Raises ValueError if Keras is set to images of channels first, which no BiT here takes."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "BiT takes images of [batch, height, width, channels], and Keras is set to "
            'channels_first; call keras.config.set_image_data_format("channels_last") first.'
        )
