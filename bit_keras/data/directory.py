"""Labelled images from a folder of class folders."""

import collections
import os
import pathlib
import re
import zlib
from multiprocessing.pool import ThreadPool

import numpy as np
import PIL.ExifTags
import PIL.Image
import tensorflow as tf
import tqdm

from .decoding import decode_rgb, turn_upright
from .labeled_images import DataError, LabeledImages

READABLE = {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp"}
UNREADABLE = {
    *(".avif", ".heic", ".heics", ".heif", ".hif", ".jp2", ".jxl", ".jxr", ".psd"),
    *(".svg", ".tga", ".tif", ".tiff", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raw"),
}


def from_directory(
    path: str | os.PathLike, *, test_fraction: float = 0.2, seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """Reads `path/CLASS/*.jpg`, or `path/train/CLASS/*.jpg` and `path/test/CLASS/*.jpg`.

    The classes are the class folders' names, sorted. Where `path` has both a `train` and a `test`
    folder, those are used as they are (a class may lack test images, not training images);
    otherwise every class is split by `LabeledImages.split`. Readable are JPEG, PNG, BMP, WebP and
    the first frame of a GIF, turned upright by their EXIF orientation; hidden files and folders
    and files that are no images are left out; links are followed.

    Every image is decoded once before this returns, so that a broken file is found before any
    training; none is kept in memory.

    Args:
      path: the folder.
      test_fraction: part of each class that becomes test images, where there is no `test`.
      seed: of that split.

    Returns:
      (train, test).

    Raises:
      DataError: nothing to read, a class without images, a test class without training images,
        images in a format that cannot be read (HEIC, TIFF, ...), or broken ones.
    """
    path = pathlib.Path(path).absolute()
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give a folder of class folders")
    if not {"train", "test"} <= set(_class_folders(path)):
        class_names = _class_folders(path)
        if "train" in class_names and {*class_names} <= {"train", "val", "valid", "validation"}:
            raise DataError(
                f"{path} holds {' and '.join(class_names)} and no test; rename the folder to test "
                "on to test, or give a folder of class folders"
            )
        return _read(path, path.name, class_names, class_names).split(test_fraction, seed)

    train_classes, test_classes = _class_folders(path / "train"), _class_folders(path / "test")
    unknown = sorted(set(test_classes) - set(train_classes))
    if unknown:
        raise DataError(
            f"{path / 'test'} has classes that {path / 'train'} lacks ({', '.join(unknown)}); "
            "a model can only be tested on classes it was trained on"
        )
    return (
        _read(path / "train", f"{path.name}/train", train_classes, train_classes),
        _read(path / "test", f"{path.name}/test", test_classes, train_classes),
    )


def _visible(folder):
    return sorted(
        (e for e in os.scandir(folder) if not e.name.startswith((".", "__MACOSX"))),
        key=lambda e: e.name,
    )


def _class_folders(path):
    return [e.name for e in _visible(path) if e.is_dir()]


def _read(path, name, folders, class_names):
    """The images in `path/FOLDER`, labelled by the folder's place in `class_names`."""
    if not folders:
        loose = sum(pathlib.Path(e.path).suffix.lower() in READABLE for e in _visible(path))
        raise DataError(
            f"{path} holds no class folders{f' but {loose} images' if loose else ''}; put the "
            f"images of each class into a folder of its own, {path}/CLASS/*.jpg"
        )
    files, labels, unreadable = [], [], []
    for folder in folders:
        entries = [e.path for e in _visible(path / folder) if not e.is_dir()]
        images = [e for e in entries if pathlib.Path(e).suffix.lower() in READABLE]
        unreadable += [e for e in entries if pathlib.Path(e).suffix.lower() in UNREADABLE]
        if not images and not unreadable:
            raise DataError(
                f"the class folder {path / folder} holds no images; put images "
                f"({', '.join(sorted(READABLE))}) directly into it or remove it"
            )
        files += images
        labels += [class_names.index(folder)] * len(images)
    if unreadable:
        kinds = collections.Counter(pathlib.Path(e).suffix.lower() for e in unreadable)
        raise DataError(
            f"{path} holds {len(unreadable)} images in formats that cannot be read "
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
    sizes = [(os.path.relpath(file, path), os.path.getsize(file)) for file in files]
    fingerprint = zlib.crc32(repr(sizes).encode(errors="surrogateescape"))
    return LabeledImages(name, np.array(labels), class_names, image_size, read, fingerprint)


def _scan(files):
    """(heights, widths, EXIF orientations) of upright images, once all files are decoded."""
    with ThreadPool() as pool:
        results = list(
            tqdm.tqdm(
                pool.imap(_scan_file, files, chunksize=16),
                total=len(files),
                desc="Checking images",
                unit="image",
                disable=len(files) < 1000,
            )
        )
    broken = [(file, r) for file, r in zip(files, results, strict=True) if isinstance(r, str)]
    if broken:
        file, reason = broken[0]
        others = f" (and {len(broken) - 1} others)" if len(broken) > 1 else ""
        raise DataError(
            f"{file}{others} cannot be read: {reason}; repair it, save it as PNG or remove it"
        )
    return zip(*results, strict=True)


def _scan_file(file):
    """(height, width, EXIF orientation) of the upright image, or what is wrong with the file."""
    try:
        with PIL.Image.open(file) as image:
            # TensorFlow 2.21 shows such a BMP's palette indices as grey levels, and decoding an
            # animated WebP corrupts its memory.
            if image.format == "BMP" and image.mode in ("1", "P"):
                return "a BMP with a palette"
            if image.format == "WEBP" and image.is_animated:
                return "an animated WebP"
            try:
                orientation = image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
            except Exception:  # whatever damaged metadata raises, the pixels may be good
                orientation = 1
        # Decoding with what will read the image later leaves nothing to fail in training.
        height, width, _ = decode_rgb(tf.io.read_file(os.fsencode(file))).shape
    except tf.errors.OpError as error:
        return re.sub(r"{{.*?}} | \[Op:.*", "", error.message)
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and its own
        return str(error) or type(error).__name__
    if orientation not in range(1, 9):
        orientation = 1
    return (width, height, orientation) if orientation >= 5 else (height, width, orientation)
