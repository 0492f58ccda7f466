"""RetinaNet on a BiT: feature pyramid and heads.

    block2, block3, block4 -> feature_pyramid -> P3 ... P7 -> class_head, box_head

Lin et al., 2017, "Focal Loss for Dense Object Detection", https://arxiv.org/abs/1708.02002.
"""

import math
import numbers
import os
from collections.abc import Sequence

import keras
from keras import layers, ops

from ..layers import GroupNormalization
from ..models.resnet_v2 import pyramid
from ..models.spec import SpecifiedModel, spec_of
from ..models.zoo import load
from .anchors import LEVELS, PER_PLACE, check_size, default_anchor_sizes
from .kerascv import require_keras_cv

PRIOR = 0.01  # probability of every class at every anchor before training
CONVOLUTIONS = 4  # of a head, before its last
_BACKBONE_LEVELS = ("P3", "P4", "P5")
_register = keras.saving.register_keras_serializable("bit_keras")


def RetinaNet(  # noqa: N802 (it reads as the class of its result, as in keras.applications)
    model: keras.Model | str | os.PathLike,
    num_classes: int,
    *,
    size: int = 512,
    anchor_sizes: Sequence[float] | None = None,
    channels: int = 256,
    norm: str = "group",
    init: str = "pretrained",
) -> SpecifiedModel:
    """Builds a detector on a BiT's body; the feature pyramid and the heads are new.

    The maps of the body's blocks are pre-activated, as its own blocks do it: by group normalization
    and ReLU. For the last block they start as those before the classifier's pooling.

    Args:
        model: What `bit_keras.load` takes, or a model of this package, also another detector. Its
            head is left out; the layers of a model that is given are shared, not copied.
        num_classes: Classes of objects, without a background.
        size: Side in pixels of the square images it is for; a multiple of 32. The model itself
            takes all images whose sides are such multiples.
        anchor_sizes: Sides of the square anchors of P3 to P7 in pixels; by default they follow
            `size`, see `default_anchor_sizes`. Each level has three scales by three aspect ratios.
        channels: Of the pyramid and the heads; a multiple of 8.
        norm: "group" for group normalization after the heads' four convolutions, or "none".
        init: As in `bit_keras.load`, for a model that is loaded here.

    Returns:
        A functional model: float32 RGB in [0, 1], `[batch, height, width, 3]` with sides that are
        multiples of 32, to `{"boxes": float32 [batch, A, 4], "classes": float32 [batch, A,
        num_classes]}`, as `anchors.encoded` tells boxes, and logits of which each has a sigmoid of
        its own. A is 9 * (places of P3 ... P7), where Pn has ceil(side / 2**n) rows and columns.
        Its `spec` is the body's, with `anchor_sizes` and `test_size`.

    Raises:
        ValueError: If an argument is not one of the above; or KerasCV, which its training and use
            need, is not installed.
    """
    require_keras_cv()
    if not (isinstance(num_classes, numbers.Integral) and num_classes >= 1):
        raise ValueError(f"num_classes must be 1 or more, got {num_classes!r}.")
    check_size(size, size)
    if not (isinstance(channels, numbers.Integral) and channels >= 8 and channels % 8 == 0):
        raise ValueError(f"channels must be a multiple of 8, got {channels!r}.")
    if norm not in ("group", "none"):
        raise ValueError(f'norm must be "group" or "none", got {norm!r}.')
    sizes = default_anchor_sizes(size) if anchor_sizes is None else tuple(anchor_sizes)
    if len(sizes) != len(LEVELS) or not all(0 < side < math.inf for side in sizes):
        raise ValueError(
            f"anchor_sizes must be {len(LEVELS)} numbers above 0, of {', '.join(LEVELS)}, got "
            f"{sizes}."
        )
    if not isinstance(model, keras.Model):
        model = load(model, num_classes=0, init=init)
    body = pyramid(model, _BACKBONE_LEVELS)
    maps = FeaturePyramid(channels, spec_of(model).groups or 32, name="feature_pyramid")(
        body.output
    )
    heads = {"boxes": ("box_head", 4, 0.0), "classes": ("class_head", int(num_classes), PRIOR)}
    outputs = {}
    for part, (name, numbers_each, prior) in heads.items():
        head = PredictionHead(numbers_each, channels, norm, prior, name=name)
        concatenate = layers.Concatenate(axis=1, dtype="float32", name=part)
        outputs[part] = concatenate([head(maps[level]) for level in LEVELS])
    facts = {"anchor_sizes": sizes, "test_size": size, "test_resize": None, "rule_changes": {}}
    spec = spec_of(model).with_classes(int(num_classes)).replace(**facts)
    detector = SpecifiedModel(body.input, outputs, name="retinanet", spec=spec)
    _start_from_last_norm(detector, model)
    return detector


def _start_from_last_norm(detector, model):
    """Gives the pyramid the body's last normalization, which no block of the detector holds."""
    own = detector.get_layer("feature_pyramid").norms["P5"]
    for layer in model.layers:
        if isinstance(layer, GroupNormalization) and layer.groups == own.groups:
            own.set_weights(layer.get_weights())
        elif isinstance(layer, FeaturePyramid):
            own.set_weights(layer.norms["P5"].get_weights())


def _scoped(scope, layer, shape):
    """Builds a layer below a name; the paths of its variables are what weights are saved by."""
    with keras.name_scope(scope):
        layer.build(shape)


@_register
class FeaturePyramid(layers.Layer):
    """Maps P3 to P7 of one number of channels, from a body's raw maps P3 to P5.

    Each of P3 to P5 adds the level above it, twice as large. P6 is a strided convolution of the
    body's P5, and P7 one of P6, so that sides are halved and rounded up.
    """

    def __init__(self, channels, groups, **kwargs):
        super().__init__(**kwargs)
        self.arguments = {"channels": channels, "groups": groups}
        own = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.norms = {
            level: GroupNormalization(groups, name="group_norm", **own)
            for level in _BACKBONE_LEVELS
        }
        self.laterals = {
            level: layers.Conv2D(channels, 1, name="lateral", **own) for level in _BACKBONE_LEVELS
        }
        self.convs = {
            level: layers.Conv2D(
                *(channels, 3, 1 if level in _BACKBONE_LEVELS else 2, "same"), name="conv2d", **own
            )
            for level in LEVELS
        }
        self.upsample = layers.UpSampling2D(2, dtype=self.dtype_policy)

    def build(self, input_shape):
        inner = (None, None, None, self.arguments["channels"])
        for level in LEVELS:
            shape = input_shape.get(level, input_shape["P5"] if level == "P6" else inner)
            if level in _BACKBONE_LEVELS:
                _scoped(level, self.norms[level], shape)
                _scoped(level, self.laterals[level], shape)
                shape = inner
            _scoped(level, self.convs[level], shape)

    def call(self, maps):
        fine, coarse = maps["P3"].shape[1:3], maps["P5"].shape[1:3]
        if any(a and b and a != 4 * b for a, b in zip(fine, coarse, strict=True)):
            raise ValueError(
                "a detector's images must have sides that are multiples of 32 pixels, got images "
                f"whose maps P3 and P5 have {fine} and {coarse} places; resize or pad them."
            )
        active = {level: ops.relu(self.norms[level](maps[level])) for level in _BACKBONE_LEVELS}
        merged = {level: self.laterals[level](active[level]) for level in _BACKBONE_LEVELS}
        for level, above in (("P4", "P5"), ("P3", "P4")):
            merged[level] = merged[level] + self.upsample(merged[above])
        maps = {level: self.convs[level](merged[level]) for level in _BACKBONE_LEVELS}
        maps["P6"] = self.convs["P6"](active["P5"])
        maps["P7"] = self.convs["P7"](ops.relu(maps["P6"]))
        return maps

    def get_config(self):
        return {**super().get_config(), **self.arguments}


@_register
class PredictionHead(layers.Layer):
    """Numbers for every anchor, float32 `[batch, rows * columns * 9, outputs]`, from one map.

    All levels share it. `prior` is the sigmoid that its outputs start at, or 0 for outputs near 0.
    """

    def __init__(self, outputs, channels, norm, prior, **kwargs):
        super().__init__(**kwargs)
        self.arguments = {"outputs": outputs, "channels": channels, "norm": norm, "prior": prior}
        own = {"dtype": self.dtype_policy, "trainable": self.trainable}
        names = [f"conv{n}" for n in range(1, CONVOLUTIONS + 1)]
        self.convs = [
            layers.Conv2D(
                *(channels, 3),
                padding="same",
                kernel_initializer="he_normal",
                use_bias=norm == "none",
                name=name,
                **own,
            )
            for name in names
        ]
        # At least two channels a group, as at width 1 of the body's root.
        groups = math.gcd(32, channels // 2)
        self.norms = [
            GroupNormalization(groups, name="group_norm", **own) if norm == "group" else None
            for _ in names
        ]
        self.last = layers.Conv2D(
            *(PER_PLACE * outputs, 3),
            padding="same",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            bias_initializer=keras.initializers.Constant(
                math.log(prior / (1 - prior)) if prior else 0
            ),
            name="conv2d",
            **{**own, "dtype": "float32"},
        )

    def build(self, input_shape):
        inner = (*input_shape[:3], self.arguments["channels"])
        for conv, norm in zip(self.convs, self.norms, strict=True):
            conv.build(input_shape)
            if norm:
                _scoped(conv.name, norm, inner)
            input_shape = inner
        self.last.build(inner)

    def call(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x)
            x = ops.relu(norm(x) if norm else x)
        _, rows, columns, _ = ops.shape(x)
        return ops.reshape(
            self.last(x), (-1, rows * columns * PER_PLACE, self.arguments["outputs"])
        )

    def get_config(self):
        return {**super().get_config(), **self.arguments}
