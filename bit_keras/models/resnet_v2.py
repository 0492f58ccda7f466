"""BiT's architecture: a ResNet-v2 with group normalization and weight standardization.

    images in [0, 1] -> 2x - 1 -> root_block -> pool -> block1 ... 4 -> norm, ReLU, mean -> head

Every variable's path is its name in the published checkpoints (without their leading `resnet/`),
because layers and scopes are named as the checkpoints' are.
"""

import numbers
from collections.abc import Sequence

import keras
from keras import layers

from ..layers import check_image_data_format
from .blocks import Block, Head, Root, normalization
from .spec import ModelSpec, SpecifiedModel, spec_of

# By depth, which counts three convolutions a unit, the root and the head. The first two are small.
UNITS = {14: (1,) * 4, 26: (2,) * 4, 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def ResNetV2(  # noqa: N802 (it reads as the class of its result, as in keras.applications)
    depth: int | tuple[int, ...] = 50,
    width: float = 1,
    num_classes: int = 1000,
    *,
    groups: int | None = None,
    norm: str = "group",
    conv: str = "standardized",
    kernel_initializer: str = "he_normal",
    name: str | None = None,
) -> keras.Model:
    """Builds a ResNet-v2 with random weights and a zero-initialized head.

    `pyramid` gives its feature maps; they are the outputs of the layers `root_block`, `block1`, ...

    Args:
        depth: 14, 26, 50, 101 or 152, or a tuple with the number of units of each block.
        width: Factor on every channel count; below 1 as well.
        num_classes: Outputs of the head; 0 gives the pooled features instead of logits.
        groups: Groups of every group normalization. None takes 32, or at widths below 1 as many as
            leave the root two channels a group, as 32 do at width 1.
        norm: "group", or "batch" for the paper's ablation (its Table 4).
        conv: "standardized", or "plain" for the same.
        kernel_initializer: Name of the Keras initializer of the body's convolution kernels.
        name: The model's name.

    Returns:
        A functional `keras.Model`: float32 RGB in [0, 1], `[batch, height, width, 3]` with sides of
        32 pixels or more, to float32 logits `[batch, num_classes]`, or to features
        `[batch, 2048 * width]` (four blocks). Its facts are its `spec`, a `ModelSpec`.

    Raises:
        ValueError: If an argument is not one of the above, or Keras is set to channels first.

    Reference:
        Kolesnikov et al., 2020, "Big Transfer (BiT): General Visual Representation Learning",
        https://arxiv.org/abs/1912.11370
    """
    units = depth if isinstance(depth, (tuple, list)) else UNITS.get(depth)
    if not units or not all(isinstance(n, numbers.Integral) and n >= 1 for n in units):
        raise ValueError(f"depth must be of {[*UNITS]}, or units of each block, got {depth!r}.")
    root_channels = round(64 * width)
    if root_channels < 2 or root_channels != 64 * width:
        raise ValueError(f"width must make 64 * width a whole number above 1, got {width!r}.")
    if norm not in ("group", "batch"):
        raise ValueError(f'norm must be "group" or "batch", got {norm!r}.')
    if conv not in ("standardized", "plain"):
        raise ValueError(f'conv must be "standardized" or "plain", got {conv!r}.')
    check_num_classes(num_classes)
    style = {
        "norm": norm,
        "groups": default_groups(width) if groups is None else groups,
        "conv": conv,
        "kernel_initializer": kernel_initializer,
    }
    images = keras.Input((None, None, 3), name="images")
    x = layers.Rescaling(2.0, -1.0, name="rescale")(images)
    x = Root(root_channels, style, name="root_block")(x)
    # Zeros, not -inf: values may be negative here, and the published models were trained so.
    x = layers.ZeroPadding2D(1, name="root_pad")(x)
    x = layers.MaxPooling2D(3, 2, name="root_pool")(x)
    for b, n in enumerate(units):
        stride = 1 if b == 0 else 2
        x = Block(int(n), root_channels * 2**b, stride, style, name=f"block{b + 1}")(x)
    x = normalization(style)(x)
    x = layers.ReLU(name="relu")(x)
    # Mean and logits are float32 under every dtype policy.
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pooled")(x)
    facts = {"units": units, "width": width, "groups": style["groups"], "norm": norm, "conv": conv}
    spec = ModelSpec(name=name or "", **facts)
    return with_head(SpecifiedModel(images, x, name=name, spec=spec), num_classes)


def default_groups(width: float) -> int:
    """Returns the default number of groups of every group normalization for a width."""
    return min(32, round(64 * width) // 2)


def copied(model: keras.Model) -> keras.Model:
    """Copies a model and its weights, under the current strategy scope."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    if isinstance(model, SpecifiedModel):
        copy.spec = model.spec
    return copy


def with_head(model: keras.Model, num_classes: int) -> keras.Model:
    """Puts a new zero-initialized head on a model's body; 0 classes leave the pooled features.

    The body is shared with `model`, not copied. With a zero head every class starts equally
    likely, and the head learns before its gradients disturb the body. Raises ValueError if
    `num_classes` is negative, the model has no layer `pooled`, or Keras is set to channels first.
    """
    check_image_data_format()
    check_num_classes(num_classes)
    if "pooled" not in {layer.name for layer in model.layers}:
        raise ValueError(
            f"model {model.name!r} has no layer named 'pooled' to put a head on; "
            "pass a model made by bit_keras.load or bit_keras.ResNetV2."
        )
    x = model.get_layer("pooled").output
    if num_classes:
        x = Head(int(num_classes), dtype="float32", name="head")(x)
    spec = spec_of(model).with_classes(int(num_classes))
    return SpecifiedModel(model.input, x, name=model.name, spec=spec)


def pyramid(model: keras.Model, levels: Sequence[str] = ("P2", "P3", "P4", "P5")) -> keras.Model:
    """Returns a model of the same weights that gives feature maps by level, for detection.

    Level n has a stride of `2**n` pixels: a side of s pixels becomes `ceil(s / 2**n)`.

        P1  root_block, before its pool   64 * width channels
        P2  block1                       256 * width
        P3  block2                       512 * width
        P4  block3                      1024 * width
        P5  block4                      2048 * width

    No map is normalized, and none has passed a ReLU: the blocks are pre-activated.

    Args:
        model: A model of `ResNetV2`. Its head is left out, and its layers are shared.
        levels: Some of the levels that it has; ValueError for others.

    Returns:
        A `keras.Model` from images to `{"P2": [batch, height, width, channels], ...}`.
    """
    stages = [x for x in model.layers if x.name == "root_block" or x.name.startswith("block")]
    known = {f"P{n}": stage.output for n, stage in enumerate(stages, 1)}
    if unknown := set(levels) - set(known):
        raise ValueError(
            f"levels must be some of {', '.join(known)}, the levels of {model.name}, got "
            f"{', '.join(sorted(unknown))}."
        )
    outputs = {level: known[level] for level in levels}
    return keras.Model(model.input, outputs, name=f"{model.name}_pyramid")


def check_num_classes(num_classes: int) -> None:
    """Raises ValueError unless it is a whole number of 0 (no head) or more."""
    if not (isinstance(num_classes, numbers.Integral) and num_classes >= 0):
        raise ValueError(f"num_classes must be 0 (features) or more, got {num_classes!r}.")


def freeze_before(model: keras.Model, name: str) -> None:
    """Freezes the layers before a block, a unit or the head: "block4", "block3/unit05", "head".

    Raises ValueError if the model has no such layer; lists those it has.
    """
    block, _, unit = name.partition("/")
    layer_of = {layer.name: layer for layer in model.layers}
    known = [n for n in layer_of if n.startswith("block") or n == "head"]
    units = [u.name for u in getattr(layer_of.get(block), "units", ())]
    if block not in known or (unit and unit not in units):
        raise ValueError(
            f"{model.name} has no layer {name!r} to train from; it has {', '.join(known)}"
            f"{f', and in {block} {units[0]} to {units[-1]}' if units else ''}."
        )
    for layer in model.layers[: model.layers.index(layer_of[block])]:
        layer.trainable = False
    for inner in layer_of[block].units[: units.index(unit)] if unit else ():
        inner.trainable = False
