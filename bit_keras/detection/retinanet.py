"""RetinaNet on a BiT: feature pyramid and heads.

    block2, block3, block4 -> feature_pyramid -> P3 ... P7 -> class_head, box_head

Lin et al., 2017, "Focal Loss for Dense Object Detection", https://arxiv.org/abs/1708.02002.
"""

import math
import os
from collections.abc import Sequence

import keras
from keras import layers, ops

from ..models.resnet_v2 import pyramid
from ..models.spec import SpecifiedModel, spec_of
from ..models.zoo import load
from .anchors import LEVELS, PER_PLACE, checked_settings, default_anchor_sizes
from .feature_pyramid import ConvolutionHead, FeaturePyramid, start_from_last_norm
from .kerascv import require_keras_cv

PRIOR = 0.01  # probability of every class at every anchor before training
_BACKBONE_LEVELS = ("P3", "P4", "P5")


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
    if norm not in ("group", "none"):
        raise ValueError(f'norm must be "group" or "none", got {norm!r}.')
    sizes = checked_settings(
        *(num_classes, size, channels, anchor_sizes), levels=LEVELS, default=default_anchor_sizes
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
    start_from_last_norm(detector, model)
    return detector


@keras.saving.register_keras_serializable("bit_keras")
class PredictionHead(ConvolutionHead):
    """Numbers for every anchor, float32 `[batch, rows * columns * 9, outputs]`, from one map.

    All levels share it. `prior` is the sigmoid that its outputs start at, or 0 for outputs near 0.
    """

    def __init__(self, outputs, channels, norm, prior, **kwargs):
        super().__init__(channels, norm, **kwargs)
        self.arguments = {"outputs": outputs, "channels": channels, "norm": norm, "prior": prior}
        self.last = layers.Conv2D(
            *(PER_PLACE * outputs, 3),
            padding="same",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            bias_initializer=keras.initializers.Constant(
                math.log(prior / (1 - prior)) if prior else 0
            ),
            name="conv2d",
            **{**self.own, "dtype": "float32"},
        )

    def build(self, input_shape):
        self.last.build(self.build_convolutions(input_shape))

    def call(self, x):
        x = self.convolved(x)
        _, rows, columns, _ = ops.shape(x)
        return ops.reshape(
            self.last(x), (-1, rows * columns * PER_PLACE, self.arguments["outputs"])
        )

    def get_config(self):
        return {**super().get_config(), **self.arguments}
