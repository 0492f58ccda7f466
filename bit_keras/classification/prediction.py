"""Predicts the classes of image files."""

import glob
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import PIL.Image
import tensorflow as tf

from ..data import LabeledImages
from ..data.sources.arrays import uint8_images
from ..data.sources.image_files import from_files
from ..data.sources.pillow_images import is_image, rgb_pixels
from ..files import expanded
from .opened_model import all_logits, open_model


def predict_images(
    model: keras.Model | str | os.PathLike,
    images: str | os.PathLike | np.ndarray | PIL.Image.Image | Iterable[Any],
    *,
    labels: Sequence[str] | None = None,
    size: int | None = None,
    top_k: int = 5,
    batch: int = 16,
    multi_label: bool | None = None,
) -> list[dict]:
    """Returns the likeliest classes of every image.

    Images are decoded, turned upright and resized as the test images of the model's training.

    Args:
        model: A model with a head; or what `bit_keras.export` wrote, in any format; or the folder
            of a run, for the model in it; or what else `bit_keras.load` takes. The graph of a
            SavedModel, a LiteRT, ONNX or OpenVINO model is run, so know where it comes from.
        images: Image files; folders, for the images directly in them, sorted; and globs, "**" for
            folders of any depth, duplicates being predicted once. Or pictures: one or several PIL
            images, or arrays `[height, width, 3]` (or gray), uint8 or floats in [0, 1].
        labels: The classes' names. By default those stored with the model, of the run that it lies
            in, or of a `labels.txt` beside it; WordNet's for the published models of ImageNet; or
            else their numbers.
        size: Side in pixels of the squares that images are resized to. By default as the model was
            tested; it must be given where nothing tells it.
        top_k: Classes an image, or all of them if there are fewer.
        batch: Images at once; does not change the answers.
        multi_label: Whether an image may have several classes, so that probabilities are sigmoids
            of the logits and not their softmax. By default only if the model was trained so.

    Returns:
        For every image `{"image": path, "predictions": [{"class": name, "probability": p}, ...]}`,
        the likeliest class first; pictures have their number as `image`.

    Raises:
        ValueError: If an argument is wrong; there are no images, or one cannot be read; or the
            model cannot be opened, has no head, or another number of classes than of names.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be 1 or more, got {top_k}.")
    pictures = _pictures(images)
    if pictures is None:
        files = find_images([images] if isinstance(images, str | os.PathLike) else images)
    else:
        files = range(len(pictures))
    opened = open_model(model, labels=labels, size=size, multi_label=multi_label)
    names = opened.spec.names()
    labeled = as_labeled_images(files) if pictures is None else _of_pictures(pictures)
    logits = all_logits(opened, labeled, batch=batch)
    probabilities = opened.spec.probabilities(logits).numpy()
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    found = []
    for file, row, best in zip(files, probabilities, order, strict=True):
        likeliest = [{"class": names[k], "probability": float(row[k])} for k in best.tolist()]
        found.append({"image": file, "predictions": likeliest})
    return found


def _pictures(images):
    """A list of uint8 arrays [height, width, 3], or None if these are paths."""
    if isinstance(images, np.ndarray) and images.ndim == 4:
        images = list(images)
    elif isinstance(images, np.ndarray | PIL.Image.Image):
        images = [images]
    if not isinstance(images, list | tuple) or not images:
        return None
    if not all(isinstance(one, np.ndarray | PIL.Image.Image) for one in images):
        return None
    return [_pixels(one) for one in images]


def _pixels(picture):
    """As files are decoded: upright, transparency over white."""
    if isinstance(picture, PIL.Image.Image):
        return rgb_pixels(picture)
    [pixels] = uint8_images(picture[np.newaxis], "what was given")
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _of_pictures(pictures):
    def read(index):
        return tf.numpy_function(lambda i: pictures[i], [index], tf.uint8)

    labels = np.zeros(len(pictures), int)
    return LabeledImages("what was given", labels, ["any"], pictures[0].shape[:2], read)


def find_images(images: Iterable[str | os.PathLike]) -> list[str]:
    """Returns the image files in files, folders and globs, each once; ValueError if one has no."""
    files = {}
    for given in map(expanded, images):
        if os.path.isfile(given):
            found = [given]
        elif os.path.isdir(given):
            found = _images_among(os.path.join(given, name) for name in os.listdir(given))
        else:
            found = _images_among(glob.glob(given, recursive=True))
        if not found:
            raise ValueError(
                f"the folder {given} holds no images; for those in the folders below it give "
                f"'{os.path.join(given, '**')}'."
                if os.path.isdir(given)
                else f"there is no image {given}; give files, folders or globs ('photos/*.jpg')."
            )
        files.update(dict.fromkeys(found))
    if not files:
        raise ValueError("no images were given; give files, folders or globs ('photos/*.jpg').")
    return list(files)


def _images_among(paths):
    return sorted(
        path
        for path in paths
        if not os.path.basename(path).startswith(".") and os.path.isfile(path) and is_image(path)
    )


def as_labeled_images(files: Sequence[str]) -> LabeledImages:
    """Returns the images, checked and read like any others, with a dummy label."""
    labels = np.zeros(len(files), int)
    return from_files(files, labels, ["any"], name="what was given", folder=pathlib.Path())


def as_table(predictions: Sequence[dict]) -> str:
    """Returns what `predict_images` returned as aligned text, a line for each class."""
    rows = [("image", "class", "probability")]
    for one in predictions:
        image = printable(one["image"])
        for prediction in one["predictions"]:
            rows.append((image, printable(prediction["class"]), f"{prediction['probability']:.2%}"))
            image = ""
    first, second, third = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "".join(f"{a:{first}}  {b:{second}}  {c:>{third}}\n" for a, b, c in rows)


def printable(text: str) -> str:
    """Returns a text as one line: file names may hold line breaks or invalid Unicode."""
    return " ".join(text.encode("utf-8", "replace").decode().split())
