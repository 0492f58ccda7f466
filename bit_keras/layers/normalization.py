"""Group normalization over the last axis."""

import numbers
from typing import Any

import keras
from keras import ops

from . import fast_paths


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
        activation: None, or "relu" to be followed by one, which costs less here than by itself.

    Input shape:
        `[batch, ..., channels]`.
    Output shape:
        The input's.
    Raises:
        ValueError: If `groups` is below 1 or does not divide the number of channels, another
            argument is not one of the above, or Keras is set to images of channels first.
    Example:
        >>> GroupNormalization(groups=8)(keras.ops.ones((2, 4, 4, 16))).shape
        TensorShape([2, 4, 4, 16])
    Reference:
        Wu and He, 2018, "Group Normalization", https://arxiv.org/abs/1803.08494
    """

    def __init__(
        self,
        groups: int = 32,
        epsilon: float = 1e-5,
        activation: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_image_data_format()
        if not (isinstance(groups, numbers.Integral) and groups >= 1):
            raise ValueError(f"groups must be an integer of 1 or more, got {groups!r}.")
        if not epsilon > 0:
            raise ValueError(f"epsilon must be above 0, got {epsilon!r}.")
        if activation not in (None, "relu"):
            raise ValueError(f'activation must be None or "relu", got {activation!r}.')
        self.groups = int(groups)
        self.epsilon = epsilon
        self.activation = activation
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

    def call(self, inputs, training=None):
        gamma, beta = ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)
        if training and len(inputs.shape) > 2 and fast_paths.usable(inputs):
            return fast_paths.group_normalization(
                *(inputs, gamma, beta, self._plain),
                groups=self.groups,
                epsilon=self.epsilon,
                relu=self.activation == "relu",
            )
        return self._plain(inputs, gamma, beta)

    def _plain(self, inputs, gamma, beta):
        channels = inputs.shape[-1]
        spatial = tuple(range(1, len(inputs.shape) - 1))
        x = ops.cast(inputs, "float32")
        # Moments per channel first, then those of the groups from theirs: the input is never
        # reshaped. E[x^2] - E[x]^2 would save a pass, and lose all digits of a small variance.
        mean = ops.mean(x, axis=spatial, keepdims=True) if spatial else x
        variance = ops.square(x - mean)
        variance = ops.mean(variance, axis=spatial) if spatial else variance
        in_groups = (-1, self.groups, channels // self.groups)
        mean, variance = ops.reshape(mean, in_groups), ops.reshape(variance, in_groups)
        group_mean = ops.mean(mean, axis=-1, keepdims=True)
        variance = ops.mean(variance + ops.square(mean - group_mean), axis=-1, keepdims=True)
        scale = ops.reshape(gamma, in_groups) * ops.rsqrt(variance + self.epsilon)
        shift = ops.reshape(beta, in_groups) - group_mean * scale
        per_channel = (-1, *(1 for _ in spatial), channels)
        y = x * ops.reshape(scale, per_channel) + ops.reshape(shift, per_channel)
        return ops.cast(ops.relu(y) if self.activation else y, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"groups": self.groups, "epsilon": self.epsilon, "activation": self.activation}
        return {**super().get_config(), **own}


def check_image_data_format() -> None:
    """Raises ValueError if Keras is set to images of channels first, which no BiT here takes."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "BiT takes images of [batch, height, width, channels], and Keras is set to "
            'channels_first; call keras.config.set_image_data_format("channels_last") first.'
        )
