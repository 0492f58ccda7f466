"""The layers that a ResNet-v2 is made of: root, blocks of units, and head."""

from typing import Any

import keras
from keras import layers, ops

from ..layers import GroupNormalization, StdConv2D, check_image_data_format, fast_paths


def normalization(style: dict, **options: Any) -> layers.Layer:
    """Returns the normalization that a style names; a group normalization holds its ReLU."""
    if style["norm"] == "batch":
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="batch_norm", **options)
    return GroupNormalization(style["groups"], activation="relu", name="group_norm", **options)


def _convolution(filters, kernel_size, style, stride=1, **options):
    standardized = style["conv"] == "standardized"
    return (StdConv2D if standardized else layers.Conv2D)(
        filters,
        kernel_size,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        kernel_initializer=style["kernel_initializer"],
        name="standardized_conv2d" if standardized else "conv2d",
        **options,
    )


def _padded(x, n):
    """Pads all sides alike. (With a stride, "same" padding would pad the top and left less.)"""
    return ops.pad(x, ((0, 0), (n, n), (n, n), (0, 0)))


def _strided_shape(input_shape, stride, filters):
    batch, *sides, _ = input_shape
    return (batch, *(None if n is None else -(-n // stride) for n in sides), filters)


def _inherited(layer):
    """What the parts of a layer have from it, also when it is loaded."""
    return {"dtype": layer.dtype_policy, "trainable": layer.trainable}


@keras.saving.register_keras_serializable("bit_keras")
class Root(layers.Layer):
    """The 7x7 convolution of stride 2, padded by 3."""

    def __init__(self, filters, style, **kwargs):
        super().__init__(**kwargs)
        check_image_data_format()  # of every model here, also when it is loaded
        self.arguments = {"filters": filters, "style": style}
        self.conv = _convolution(filters, 7, style, stride=2, **_inherited(self))

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, x, training=None):
        return self.conv(_padded(x, 3), training=training)

    def compute_output_shape(self, input_shape):
        return _strided_shape(input_shape, 2, self.conv.filters)

    def get_config(self):
        return {**super().get_config(), **self.arguments}


@keras.saving.register_keras_serializable("bit_keras")
class Unit(layers.Layer):
    """Pre-activation bottleneck: 1x1 down to `filters`, 3x3 with the stride, 1x1 up to four times.

    The first unit of a block projects its pre-activated input by a 1x1 convolution for a shortcut.
    """

    def __init__(self, filters, stride, project, style, **kwargs):
        super().__init__(**kwargs)
        self.arguments = {"filters": filters, "stride": stride, "project": project, "style": style}
        self.stride, self.out_filters = stride, 4 * filters
        own = _inherited(self)
        self.norm_a, self.norm_b, self.norm_c = (normalization(style, **own) for _ in "abc")
        self.conv_a = _convolution(filters, 1, style, **own)
        self.conv_b = _convolution(filters, 3, style, stride, **own)
        self.conv_c = _convolution(4 * filters, 1, style, **own)
        self.proj = _convolution(4 * filters, 1, style, stride, **own) if project else None

    def build(self, input_shape):
        inner = (*input_shape[:3], self.conv_a.filters)
        strided = _strided_shape(inner, self.stride, self.conv_a.filters)
        with keras.name_scope("a"):
            self.norm_a.build(input_shape)
            self.conv_a.build(input_shape)
            if self.proj:
                with keras.name_scope("proj"):
                    self.proj.build(input_shape)
        with keras.name_scope("b"):
            self.norm_b.build(inner)
            self.conv_b.build(inner)
        with keras.name_scope("c"):
            self.norm_c.build(strided)
            self.conv_c.build(strided)

    def call(self, x, training=None):
        y = self._active(self.norm_a, x, training)
        shortcut = self.proj(y, training=training) if self.proj else x
        y = self._active(self.norm_b, self.conv_a(y, training=training), training)
        y = _padded(y, 1) if self.stride > 1 else y
        y = self._active(self.norm_c, self.conv_b(y, training=training), training)
        return shortcut + self.conv_c(y, training=training)

    def _active(self, norm, x, training):
        y = norm(x, training=training)
        return y if isinstance(norm, GroupNormalization) else ops.relu(y)

    def compute_output_shape(self, input_shape):
        return _strided_shape(input_shape, self.stride, self.out_filters)

    def get_config(self):
        return {**super().get_config(), **self.arguments}


def _function_of_weights(unit):
    """`unit` in training, as a function of its input and the values of its variables."""

    def function(x, *weights):
        with keras.StatelessScope(zip(unit.variables, weights, strict=True)):
            return unit(x, training=True)

    return function


@keras.saving.register_keras_serializable("bit_keras")
class Block(layers.Layer):
    """Bottleneck units `unit01`, `unit02`, ... at one resolution; the first has the stride.

    With the attribute `remat` set, training keeps of each unit only what enters it, and computes
    the unit once more for its gradient. Not where batch normalization would see a batch twice.
    """

    def __init__(self, units, filters, stride, style, frozen=(), **kwargs):
        super().__init__(**kwargs)
        self.arguments = {"units": units, "filters": filters, "stride": stride, "style": style}
        self.units, self.remat = [], False
        for name in (f"unit{u:02d}" for u in range(1, units + 1)):
            own = {**_inherited(self), "trainable": self.trainable and name not in frozen}
            first = not self.units
            self.units.append(Unit(filters, stride if first else 1, first, style, name=name, **own))

    def build(self, input_shape):
        for unit in self.units:
            unit.build(input_shape)
            input_shape = unit.compute_output_shape(input_shape)

    def call(self, x, training=None):
        if not training or self.arguments["style"]["norm"] == "batch":
            for unit in self.units:
                x = unit(x, training=training)
            return x
        functions = [_function_of_weights(unit) for unit in self.units]
        if all(unit.trainable for unit in self.units):
            functions[1:] = fast_paths.traced_once(functions[1:], x)
        for unit, function in zip(self.units, functions, strict=True):
            function = keras.remat(function) if self.remat else function
            x = function(x, *(variable.value for variable in unit.variables))
        return x

    def compute_output_shape(self, input_shape):
        return self.units[0].compute_output_shape(input_shape)

    def get_config(self):
        frozen = [unit.name for unit in self.units if not unit.trainable]
        return {**super().get_config(), **self.arguments, "frozen": frozen}


@keras.saving.register_keras_serializable("bit_keras")
class Head(layers.Layer):
    """Dense logits `[batch, num_classes]` from `[batch, channels]`, zero-initialized.

    A 1x1 convolution, because that is how checkpoints store it: `[1, 1, channels, num_classes]`.
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(
            num_classes, 1, kernel_initializer="zeros", name="conv2d", **_inherited(self)
        )

    def build(self, input_shape):
        self.conv.build((input_shape[0], 1, 1, input_shape[1]))

    def call(self, x):
        if x.shape[0] == 0:  # as in StdConv2D
            return ops.zeros((0, self.conv.filters), x.dtype)
        return ops.squeeze(self.conv(x[:, None, None, :]), (1, 2))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.conv.filters)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.conv.filters}
