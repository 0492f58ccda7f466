"""Pooled features of images, to search, cluster or learn from."""

import io
import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import PIL.Image

from ..files import replace_file
from ..reporting.texts import csv_text
from .given_images import named_images
from .opened_model import all_answers, open_for_features


def image_features(
    model: keras.Model | str | os.PathLike,
    images: str | os.PathLike | np.ndarray | PIL.Image.Image | Iterable[Any],
    *,
    size: int | None = None,
    batch: int = 16,
    bad_images: str = "error",
) -> np.ndarray:
    """Returns the pooled features of every image: what the head of a model makes its logits from.

    Args:
        model: A model with or without a head, or what `bit_keras.load` takes; or an export, in any
            format, of a model without a head.
        images, size, batch, bad_images: As in `predict_images`; skipped images have no row.

    Returns:
        float32 `[N, C]`, in the order of the images: C is 2048 * width for published models.

    Raises:
        ValueError: If an argument is wrong; there are no images, or one cannot be read; or the
            model cannot be opened, or gives logits alone.
    """
    return _features_by_name(model, images, size, batch, bad_images)[1]


def write_features(
    path: str | os.PathLike,
    model: keras.Model | str | os.PathLike,
    images: Iterable[str | os.PathLike],
    *,
    size: int | None = None,
    batch: int = 16,
    bad_images: str = "error",
) -> tuple[int, int]:
    """Writes `image_features` as a NumPy file, and which row is of which image to `PATH.files.csv`.

    Arguments and errors are those of `image_features`. Returns the shape.
    """
    names, features = _features_by_name(model, images, size, batch, bad_images)
    array = io.BytesIO()
    np.save(array, features)
    listed = csv_text(("row", "image"), enumerate(names))
    replace_file(f"{os.fspath(path)}.files.csv", listed.encode("utf-8-sig"))
    replace_file(path, array.getvalue())
    return features.shape


def _features_by_name(model, images, size, batch, bad_images):
    names, read = named_images(images, bad_images)
    opened = open_for_features(model, size=size)
    labeled = read()
    names = [name for name in names if name not in {*labeled.skipped}]
    return names, all_answers(opened, labeled, batch=batch)
