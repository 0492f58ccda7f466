"""Labeled images from image files, each of which is decoded once to find broken ones."""

import os
import pathlib
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from ..labeled_images import DataError, LabeledImages
from .checking import checked_sizes
from .decoding import decode_rgb, turn_upright

if TYPE_CHECKING:
    import scipy.sparse

READABLE = {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp"}
UNREADABLE = {
    *(".avif", ".heic", ".heics", ".heif", ".hif", ".jp2", ".jxl", ".jxr", ".psd"),
    *(".svg", ".tga", ".tif", ".tiff", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raw"),
}


def from_files(
    files: Sequence[str],
    labels: "Sequence[int] | np.ndarray | scipy.sparse.csr_array",
    class_names: Sequence[str],
    *,
    name: str,
    folder: pathlib.Path,
) -> LabeledImages:
    """The images in `files`, read from disk whenever they are used.

    Raises DataError if one is broken or in an unsupported format (HEIC, TIFF, ...).

    Args:
        files: The paths of N images.
        labels, class_names, name: As in `LabeledImages`.
        folder: The folder that contains the files: a copy of it has the same fingerprint.
    """
    unreadable = [file for file in files if pathlib.Path(file).suffix.lower() in UNREADABLE]
    if unreadable:
        kinds = {pathlib.Path(file).suffix.lower() for file in unreadable}
        raise DataError(
            f"{name} holds {len(unreadable)} images in formats that cannot be read "
            f"({', '.join(sorted(kinds))}), the first being {unreadable[0]}; convert them to "
            "JPEG or PNG"
        )
    heights, widths, orientations = checked_sizes(files, folder).T
    with tf.device("CPU:0"):
        paths = tf.constant([os.fsencode(file) for file in files])
        orientations = tf.constant(orientations, tf.int32)

    def read(index):
        image = decode_rgb(tf.io.read_file(tf.gather(paths, index)))
        return turn_upright(image, tf.gather(orientations, index))

    image_size = int(np.median(heights)), int(np.median(widths))
    sizes = [(os.path.relpath(file, folder), os.path.getsize(file)) for file in files]
    fingerprint = zlib.crc32(repr(sizes).encode(errors="surrogateescape"))
    return LabeledImages(
        *(name, labels, class_names, image_size, read, fingerprint),
        num_bytes=sum(size for _, size in sizes),
    )
