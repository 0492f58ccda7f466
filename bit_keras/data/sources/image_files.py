"""Labeled images from image files, each of which is decoded once to find broken ones."""

import os
import pathlib
import re
import zlib
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING

import numpy as np
import PIL.ExifTags
import PIL.Image
import tensorflow as tf
import tqdm

from ..labeled_images import DataError, LabeledImages
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
    heights, widths, orientations = _scan(files)
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


def _scan(files):
    """(heights, widths, EXIF orientations) of the upright images; decodes every file."""
    bar = {"desc": "Checking images", "unit": "image", "disable": len(files) < 1000}
    with ThreadPool() as pool:
        scanned = pool.imap(_scan_file, files, chunksize=16)
        results = list(tqdm.tqdm(scanned, total=len(files), **bar))
    broken = [(file, r) for file, r in zip(files, results, strict=True) if isinstance(r, str)]
    if broken:
        file, reason = broken[0]
        others = f" (and {len(broken) - 1} others)" if len(broken) > 1 else ""
        raise DataError(
            f"{file}{others} cannot be read: {reason}; repair it, save it as PNG or remove it"
        )
    return zip(*results, strict=True)


def _scan_file(file):
    """(height, width, EXIF orientation) of the upright image, or a string: why it is broken."""
    try:
        with PIL.Image.open(file) as image:
            # TensorFlow 2.21 returns such a BMP's palette indices as gray levels, and corrupts its
            # memory when it decodes an animated WebP.
            if image.format == "BMP" and image.mode in ("1", "P"):
                return "a BMP with a palette"
            if image.format == "WEBP" and image.is_animated:
                return "an animated WebP"
            try:
                orientation = image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
            except Exception:  # damaged metadata raises many types, and the pixels may be good
                orientation = 1
        # The function that training uses, so that no image can fail later.
        height, width, _ = decode_rgb(tf.io.read_file(os.fsencode(file))).shape
    except tf.errors.OpError as error:
        return re.sub(r"{{.*?}} | \[Op:.*", "", error.message)
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and own types
        return str(error) or type(error).__name__
    if orientation not in range(1, 9):
        orientation = 1
    return (width, height, orientation) if orientation >= 5 else (height, width, orientation)
