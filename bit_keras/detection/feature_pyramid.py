"""Feature pyramids on a BiT's body, and the convolutions that detectors' heads begin with.

Lin et al., 2017, "Feature Pyramid Networks for Object Detection", https://arxiv.org/abs/1612.03144.
"""

import math

import keras
from keras import layers, ops

from ..layers import GroupNormalization

CONVOLUTIONS = 4  # of a head, before its last
_FROM_BODY = ("P2", "P3", "P4", "P5")
_BEYOND = {"P2": ("P6",), "P3": ("P6", "P7")}  # by the finest level


def start_from_last_norm(detector: keras.Model, model: keras.Model) -> None:
    """Gives the pyramid the body's last normalization, which no block of the detector holds."""
    own = detector.get_layer("feature_pyramid").norms["P5"]
    for layer in model.layers:
        if isinstance(layer, GroupNormalization) and layer.groups == own.groups:
            own.set_weights(layer.get_weights())
        elif isinstance(layer, FeaturePyramid):
            own.set_weights(layer.norms["P5"].get_weights())


def _build_below(scope, layer, shape):
    """Builds a layer below a name; the paths of its variables are what weights are saved by."""
    with keras.name_scope(scope):
        layer.build(shape)


@keras.saving.register_keras_serializable("bit_keras")
class FeaturePyramid(layers.Layer):
    """Maps of one number of channels, from a body's raw maps: P3 to P7, or P2 to P6.

    Each level up to P4 adds the one above it, twice as large. From the finest level P3 on, as
    RetinaNet has it, P6 is a strided convolution of the body's P5, and P7 one of P6. From P2 on, as
    Mask R-CNN has it, P6 is every other place of P5. Sides are halved and rounded up.
    """

    def __init__(self, channels, groups, finest="P3", **kwargs):
        super().__init__(**kwargs)
        self.arguments = {"channels": channels, "groups": groups, "finest": finest}
        own = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.from_body = _FROM_BODY[_FROM_BODY.index(finest) :]
        self.levels = (*self.from_body, *_BEYOND[finest])
        self.norms = {
            level: GroupNormalization(groups, activation="relu", name="group_norm", **own)
            for level in self.from_body
        }
        self.laterals = {
            level: layers.Conv2D(channels, 1, name="lateral", **own) for level in self.from_body
        }
        convolved = self.levels if finest == "P3" else self.from_body
        self.convs = {
            level: layers.Conv2D(
                *(channels, 3, 1 if level in self.from_body else 2, "same"), name="conv2d", **own
            )
            for level in convolved
        }
        self.upsample = layers.UpSampling2D(2, dtype=self.dtype_policy)

    def build(self, input_shape):
        inner = (None, None, None, self.arguments["channels"])
        for level in self.convs:
            shape = input_shape.get(level, input_shape["P5"] if level == "P6" else inner)
            if level in self.from_body:
                _build_below(level, self.norms[level], shape)
                _build_below(level, self.laterals[level], shape)
                shape = inner
            _build_below(level, self.convs[level], shape)

    def call(self, maps):
        finest = self.from_body[0]
        fine, coarse = maps[finest].shape[1:3], maps["P5"].shape[1:3]
        factor = 2 ** (len(self.from_body) - 1)
        if any(a and b and a != factor * b for a, b in zip(fine, coarse, strict=True)):
            raise ValueError(
                "a detector's images must have sides that are multiples of 32 pixels, got images "
                f"whose maps {finest} and P5 have {fine} and {coarse} places; resize or pad them."
            )
        active = {level: self.norms[level](maps[level]) for level in self.from_body}
        merged = {level: self.laterals[level](active[level]) for level in self.from_body}
        for level, above in [*zip(self.from_body, self.from_body[1:], strict=False)][::-1]:
            merged[level] = merged[level] + self.upsample(merged[above])
        maps = {level: self.convs[level](merged[level]) for level in self.from_body}
        if finest == "P2":
            return {**maps, "P6": maps["P5"][:, ::2, ::2]}
        maps["P6"] = self.convs["P6"](active["P5"])
        maps["P7"] = self.convs["P7"](ops.relu(maps["P6"]))
        return maps

    def get_config(self):
        return {**super().get_config(), **self.arguments}


class ConvolutionHead(layers.Layer):
    """A head that begins with four 3x3 convolutions, each with a normalization and ReLU.

    `norm` is "group", or "none" for a bias instead.
    """

    def __init__(self, channels, norm, **kwargs):
        super().__init__(**kwargs)
        self.own = {"dtype": self.dtype_policy, "trainable": self.trainable}
        names = [f"conv{n}" for n in range(1, CONVOLUTIONS + 1)]
        self.convs = [
            layers.Conv2D(
                *(channels, 3),
                padding="same",
                kernel_initializer="he_normal",
                use_bias=norm == "none",
                name=name,
                **self.own,
            )
            for name in names
        ]
        # At least two channels a group, as at width 1 of the body's root.
        groups = math.gcd(32, channels // 2)
        self.norms = [
            GroupNormalization(groups, activation="relu", name="group_norm", **self.own)
            if norm == "group"
            else None
            for _ in names
        ]

    def build_convolutions(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Builds them for maps of a shape; returns the shape of what they give."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            conv.build(input_shape)
            input_shape = (*input_shape[:3], conv.filters)
            if norm:
                _build_below(conv.name, norm, input_shape)
        return input_shape

    def convolved(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Returns what they make of maps `[batch, rows, columns, channels]`."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)) if norm else ops.relu(conv(x))
        return x
