"""Heat maps: where on an image a model sees a class."""

import math
import os
import re
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import PIL.Image
import PIL.ImageDraw
import tensorflow as tf

from ..data import LabeledImages
from ..exporting import check_has_weights
from ..files import check_new_folder, new_folder
from ..models.spec import ModelSpec
from ..reporting.texts import printable, shortened
from .contact_sheet import INK, PAPER, SOFT, fonts
from .given_images import named_images
from .opened_model import open_with_network

CELLS = 4  # a feature map of fewer cells a side would hardly tell a place
PANEL, GAP, CAPTION = 256, 8, 52  # pixels: the least side of a picture, and what is around it
BATCH = 8  # images at once for a report, which has few

HeatMaps = Callable[[np.ndarray, Sequence[int] | None], tuple[np.ndarray, np.ndarray]]


def heat_maps(model: keras.Model, size: int) -> HeatMaps:
    """Returns a function that finds where on images a model sees a class.

    A heat map is a feature map times the gradient of the class's logit by it, summed over channels,
    where that is positive (HiResCAM: Draelos and Carin, 2020, https://arxiv.org/abs/2011.08891).
    The map is the last of 4 x 4 cells or more. From 97 pixels on that is the one which BiT takes
    the mean of; the gradient is then the same in all cells, so that this is Grad-CAM (Selvaraju et
    al., 2017, https://arxiv.org/abs/1610.02391).

    Args:
        model: A model with a layer named `pooled`, on one device.
        size: Side of the images in pixels.

    Returns:
        A function of images, float32 `[B, size, size, 3]` in [0, 1], and of a class for each, by
        default the likeliest. It returns float32 heat maps `[B, size, size]`, 1 at the hottest
        place and 0 where nothing speaks for the class, and float32 logits `[B, K]`.

    Raises:
        ValueError: If the model has no such layer.
    """
    cut = _feature_map(model, size)
    before, after = keras.Model(model.input, cut), keras.Model(cut, model.output)

    def find(images, classes=None):
        features = before(images, training=False)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(features)
            logits = after(features, training=False)
            chosen = tf.argmax(logits, axis=1) if classes is None else tf.constant(classes)
            score = tf.reduce_sum(tf.gather(logits, chosen, axis=1, batch_dims=1))
        # A class's score on one image does not depend on the other images.
        gradient = tf.cast(tape.gradient(score, features), tf.float32)
        heats = tf.nn.relu(tf.reduce_sum(tf.cast(features, tf.float32) * gradient, axis=-1))
        return np.stack([_enlarged(heat, size) for heat in heats.numpy()]), logits.numpy()

    return find


def _feature_map(model, size):
    """The last feature map, a symbolic tensor, that has enough cells; or the largest there is."""
    layers = {layer.name: layer for layer in model.layers}
    if "pooled" not in layers:
        raise ValueError(
            f"model {model.name!r} has no layer named 'pooled', before which heat maps are found; "
            "give a model made by bit_keras.load or bit_keras.ResNetV2."
        )
    blocks = [layer.output for name, layer in layers.items() if re.fullmatch(r"block\d+", name)]
    maps = [*blocks[:-1], layers["pooled"].input]
    # A block halves the sides, rounding up, and so do the root and its pool.
    sides = [-(-size // 2 ** (n + 2)) for n in range(len(blocks))] or [size]
    enough = [n for n, side in enumerate(sides) if side >= CELLS]
    return maps[enough[-1] if enough else 0]


def _enlarged(heat, size):
    """Heat of one image, `[cells, cells]`, by pixel, smoothly: 1 at the hottest place.

    BiT pads so that cell i is centered on pixel i * stride, and not on the middle of its stride.
    """
    stride = 2 ** math.ceil(math.log2(size / len(heat)))
    start = 1.5 - 0.5 / stride  # in a border of one cell
    box = (start, start, start + size / stride, start + size / stride)
    bordered = PIL.Image.fromarray(np.pad(heat, 1, "edge"))
    smooth = bordered.resize((size, size), PIL.Image.Resampling.BICUBIC, box)
    smooth = np.maximum(smooth, 0)  # which the polynomials fall below
    return smooth / max(smooth.max(), np.finfo(np.float32).tiny)


def heated(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lays heat, float `[H, W]` in [0, 1], over a picture, uint8 `[H, W, 3]`; returns the same.

    The picture becomes gray, so that all color is heat: from dark to a bright yellow.
    """
    import matplotlib

    gray = (picture @ np.float32([0.299, 0.587, 0.114]))[..., np.newaxis] / 255
    color = matplotlib.colormaps["inferno"](heat)[..., :3].astype(np.float32)
    share = 0.4 + 0.2 * heat[..., np.newaxis]
    return np.rint(255 * ((1 - share) * gray + share * color)).astype(np.uint8)


def explanations(
    model: keras.Model, spec: ModelSpec, images: LabeledImages
) -> Callable[[Sequence[int], Sequence[int]], list[np.ndarray]]:
    """Returns a function that lays heat maps over images, for a report.

    Args:
        model: As in `heat_maps`.
        spec: How it is used.
        images: Labeled images.

    Returns:
        A function of the numbers of some images, and of a class of the model for each. It returns
        pictures, uint8 `[H, W, 3]`, in the shape of the images and of 256 pixels a side at most.

    Raises:
        ValueError: As `heat_maps`.
    """
    find = heat_maps(model, spec.test_size)

    def explain(numbers, classes):
        heats = []
        for pixels, _ in spec.batches(images.subset(numbers), batch=BATCH):
            own = classes[len(heats) : len(heats) + len(pixels)]
            heats.extend(find(pixels, own)[0])
        pictures = (images.read(tf.constant(i, tf.int64)).numpy() for i in numbers)
        return [_over_original(*both, spec) for both in zip(pictures, heats, strict=True)]

    return explain


def _over_original(picture, heat, spec):
    """Heat of a prepared image over the image itself, made small."""
    picture = PIL.Image.fromarray(picture)
    picture.thumbnail((PANEL, PANEL))
    if few := PANEL // 2 // max(picture.size):  # so that heat is smooth between large pixels
        size = [few * side for side in picture.size]
        picture = picture.resize(size, PIL.Image.Resampling.NEAREST)
    width, height = seen = picture.size
    if spec.test_resize:  # only the center was seen
        side = min(round(min(seen) * spec.test_size / spec.test_resize), *seen)
        seen = side, side
    whole = PIL.Image.new("F", picture.size)
    seen_heat = PIL.Image.fromarray(heat).resize(seen, PIL.Image.Resampling.BILINEAR)
    whole.paste(seen_heat, ((width - seen[0]) // 2, (height - seen[1]) // 2))
    return heated(np.asarray(picture), np.asarray(whole))


def check_explainable(folder: str | os.PathLike, model: str | os.PathLike) -> None:
    """Raises ValueError if `write_heat_maps` would refuse the folder, or the model's format."""
    check_new_folder(folder)
    check_has_weights(model)


def write_heat_maps(
    folder: str | os.PathLike,
    model: keras.Model | str | os.PathLike,
    images: Iterable[str | os.PathLike],
    *,
    labels: Sequence[str] | None = None,
    size: int | None = None,
    batch: int = 16,
    multi_label: bool | None = None,
    bad_images: str = "error",
) -> None:
    """Draws where on each image a model sees the likeliest class, whole or not at all.

    A JPEG for each image shows it as the model saw it, beside it the same under a heat map (as
    `heat_maps` finds it), and below its class with its probability. It is called by the number of
    the image, in their order, and by the image's own name.

    Args:
        folder: A new folder, or an empty one.
        model: As in `predict_images`, but for models that hold no weights: the graphs of LiteRT,
            ONNX and OpenVINO, and frozen SavedModels.
        images, labels, size, batch, multi_label, bad_images: As in `predict_images`.

    Raises:
        ValueError: As in `predict_images`, and if there is something in the folder, or it cannot be
            written.
    """
    names, read = named_images(images, bad_images)
    opened = open_with_network(model, labels=labels, size=size, multi_label=multi_label)
    spec, find = opened.spec, heat_maps(opened.classifier.network, opened.spec.test_size)
    classes, labeled = spec.names(), read()
    names = [name for name in names if name not in {*labeled.skipped}]
    digits, number = len(str(len(names))), 0
    with new_folder(folder) as written:
        for pixels, _ in spec.batches(labeled, batch=batch):
            heats, logits = find(pixels)
            probabilities = spec.probabilities(logits).numpy()
            for picture, heat, row in zip(pixels.numpy(), heats, probabilities, strict=True):
                name, best = printable(str(names[number])), int(row.argmax())
                drawn = _drawn(picture, heat, classes[best], f"{row[best]:.1%} · {name}")
                number += 1
                stem = re.sub(r"[^\w.-]+", "-", os.path.splitext(os.path.basename(name))[0])[:50]
                drawn.save(written / f"{number:0{digits}}-{stem}.jpg", quality=90)


def _drawn(picture, heat, title, detail):
    """An image as the model saw it, the same under its heat map, and two lines of text."""
    picture = np.rint(255 * picture).astype(np.uint8)
    larger = -(-PANEL // len(picture))
    side = larger * len(picture)
    few = len(picture) <= PANEL // 4  # small images are enlarged without smoothing
    method = PIL.Image.Resampling.NEAREST if few else PIL.Image.Resampling.BICUBIC
    enlarged = PIL.Image.fromarray(picture).resize((side, side), method)
    heat = PIL.Image.fromarray(heat).resize((side, side), PIL.Image.Resampling.BILINEAR)
    sheet = PIL.Image.new("RGB", (2 * side + 3 * GAP, side + GAP + CAPTION), PAPER)
    sheet.paste(enlarged, (GAP, GAP))
    over = heated(np.asarray(enlarged), np.asarray(heat))
    sheet.paste(PIL.Image.fromarray(over), (2 * GAP + side, GAP))
    draw, (bold, plain) = PIL.ImageDraw.Draw(sheet), fonts()
    for text, font, color, y in ((title, bold, INK, 8), (detail, plain, SOFT, 28)):
        draw.text((GAP, side + GAP + y), shortened(text, font, 2 * side + GAP), color, font)
    return sheet
