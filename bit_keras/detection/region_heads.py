"""The heads of a Mask R-CNN: region proposals, boxes with classes, and masks.

Those of boxes and masks are He et al.'s of 2018, "Rethinking ImageNet Pre-training",
https://arxiv.org/abs/1811.08883: four convolutions with group normalization.
"""

import keras
from keras import layers, ops

from .feature_pyramid import ConvolutionHead
from .proposals import ANCHORS_EACH, REGION_LEVELS

_register = keras.saving.register_keras_serializable("bit_keras")


def _normal(deviation):
    return keras.initializers.RandomNormal(stddev=deviation)


@_register
class RegionHead(layers.Layer):
    """The proposal network: what every anchor of P2 to P6 says, of maps by level.

    `{"scores": float32 [batch, A], "boxes": float32 [batch, A, 4]}`, as `proposals` takes them. A
    3x3 convolution with ReLU comes first, and all levels share it.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        own = {"trainable": self.trainable, "kernel_initializer": _normal(0.01)}
        self.conv = layers.Conv2D(
            *(channels, 3),
            padding="same",
            activation="relu",
            name="conv2d",
            dtype=self.dtype_policy,
            **own,
        )
        self.parts = {
            name: layers.Conv2D(ANCHORS_EACH * numbers, 1, name=name, dtype="float32", **own)
            for name, numbers in (("scores", 1), ("boxes", 4))
        }

    def build(self, input_shape):
        self.conv.build(input_shape["P2"])
        for part in self.parts.values():
            part.build((None, None, None, self.channels))

    def call(self, maps):
        levels = [self.conv(maps[level]) for level in REGION_LEVELS]
        scores, boxes = (
            ops.concatenate([_by_anchor(part(x), numbers) for x in levels], axis=1)
            for part, numbers in ((self.parts["scores"], 1), (self.parts["boxes"], 4))
        )
        return {"scores": ops.squeeze(scores, 2), "boxes": boxes}

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


def _by_anchor(x, numbers):
    """From `[batch, rows, columns, anchors * numbers]` to `[batch, A, numbers]`."""
    _, rows, columns, _ = ops.shape(x)
    return ops.reshape(x, (-1, rows * columns * ANCHORS_EACH, numbers))


@_register
class BoxHead(ConvolutionHead):
    """Classes and boxes of regions, from their features `[batch, R, 7, 7, channels]`.

    `{"classes": float32 [batch, R, num_classes + 1], "boxes": float32 [batch, R, num_classes, 4]}`:
    logits for a softmax, of which the last is the background's, and a box for every class, relative
    to the region's as `anchors.encoded` tells it. A dense layer with ReLU of four times `channels`,
    1,024 at 256, is between the convolutions and these.
    """

    def __init__(self, num_classes, channels, **kwargs):
        super().__init__(channels, "group", **kwargs)
        self.arguments = {"num_classes": num_classes, "channels": channels}
        self.dense = layers.Dense(
            4 * channels, "relu", kernel_initializer="he_normal", name="dense", **self.own
        )
        own = {**self.own, "dtype": "float32"}
        self.classes = layers.Dense(
            num_classes + 1, kernel_initializer=_normal(0.01), name="classes", **own
        )
        self.boxes = layers.Dense(
            4 * num_classes, kernel_initializer=_normal(0.001), name="boxes", **own
        )

    def build(self, input_shape):
        _, rows, columns, channels = self.build_convolutions((None, *input_shape[2:]))
        self.dense.build((None, rows * columns * channels))
        for last in (self.classes, self.boxes):
            last.build((None, self.dense.units))

    def call(self, features):
        number = features.shape[1]
        x = self.convolved(ops.reshape(features, (-1, *features.shape[2:])))
        x = self.dense(ops.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3])))
        classes = self.arguments["num_classes"]
        return {
            "classes": ops.reshape(self.classes(x), (-1, number, classes + 1)),
            "boxes": ops.reshape(self.boxes(x), (-1, number, classes, 4)),
        }

    def get_config(self):
        return {**super().get_config(), **self.arguments}


@_register
class MaskHead(ConvolutionHead):
    """Masks of regions, from their features `[batch, R, S, S, channels]`.

    Logits, float32 `[batch, R, 2 * S, 2 * S, num_classes]`, each with a sigmoid of its own: a mask
    for every class.
    """

    def __init__(self, num_classes, channels, **kwargs):
        super().__init__(channels, "group", **kwargs)
        self.arguments = {"num_classes": num_classes, "channels": channels}
        self.upsample = layers.Conv2DTranspose(
            *(channels, 2, 2),
            activation="relu",
            kernel_initializer="he_normal",
            name="upsample",
            **self.own,
        )
        self.last = layers.Conv2D(
            *(num_classes, 1),
            # Not outputs near 0, as in Detectron2, from which short schedules learn no masks.
            kernel_initializer="he_normal",
            name="masks",
            **{**self.own, "dtype": "float32"},
        )

    def build(self, input_shape):
        shape = self.build_convolutions((None, *input_shape[2:]))
        self.upsample.build(shape)
        self.last.build((None, None, None, self.arguments["channels"]))

    def call(self, features):
        number, side = ops.shape(features)[1:3]
        x = self.convolved(ops.reshape(features, (-1, *features.shape[2:])))
        masks = self.last(self.upsample(x))
        classes = self.arguments["num_classes"]
        return ops.reshape(masks, (-1, number, 2 * side, 2 * side, classes))

    def compute_output_shape(self, input_shape):
        batch, number, side, _, _ = input_shape
        return (batch, number, 2 * side, 2 * side, self.arguments["num_classes"])

    def get_config(self):
        return {**super().get_config(), **self.arguments}
