"""Images that a user gives to look at: files, folders, globs, or pictures in memory."""

import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import PIL.Image
import tensorflow as tf

from ..data import LabeledImages
from ..data.sources.arrays import uint8_images
from ..data.sources.finding import find_images
from ..data.sources.image_files import from_files
from ..data.sources.pillow_images import rgb_pixels

NAME = "what was given"


def named_images(
    images: str | os.PathLike | np.ndarray | PIL.Image.Image | Iterable[Any],
    bad_images: str = "error",
) -> tuple[list[str] | list[int], Callable[[], LabeledImages]]:
    """Finds what `predict_images` takes as images; `bad_images` as there.

    Returns:
        What to call each, its path or the number of a picture; and a function that checks and
        returns them, with a dummy label, without those that are `skipped`.

    Raises:
        ValueError: If there are none; by the function, if one cannot be read.
    """
    pictures = _pictures(images)
    if pictures is not None:
        return [*range(len(pictures))], lambda: _of_pictures(pictures)
    files = find_images([images] if isinstance(images, str | os.PathLike) else images)
    return files, lambda: as_labeled_images(files, bad_images)


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
    [pixels] = uint8_images(picture[np.newaxis], NAME)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _of_pictures(pictures):
    def read(index):
        return tf.numpy_function(lambda i: pictures[i], [index], tf.uint8)

    labels = np.zeros(len(pictures), int)
    return LabeledImages(NAME, labels, ["any"], pictures[0].shape[:2], read)


def as_labeled_images(files: Sequence[str], bad_images: str = "error") -> LabeledImages:
    """Returns the images, checked and read like any others, with a dummy label."""
    labels = np.zeros(len(files), int)
    options = {"name": NAME, "folder": pathlib.Path(), "bad_images": bad_images}
    return from_files(files, labels, ["any"], **options)
