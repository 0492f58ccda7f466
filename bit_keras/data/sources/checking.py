"""Checks image files before training: every file is decoded once, and remembered."""

import contextlib
import hashlib
import os
import pathlib
import re
import stat
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
import PIL.ExifTags
import PIL.Image
import tensorflow as tf
import tqdm

from ...files import cache_dir, replacing
from ..labeled_images import DataError
from .decoding import decode_rgb

_MANY = 1_000  # files from which on their checks take long enough to be shown and remembered
_NAMED = 5  # broken files in a message
_TURNED = 5  # EXIF orientations from here on exchange height and width


def checked_sizes(files: Sequence[str], folder: pathlib.Path) -> np.ndarray:
    """Decodes every image, so that none can fail in training, and finds its size.

    Of many files it is remembered, in the cache of downloads, by path, size and time of change.

    Args:
        files: The paths of N images.
        folder: The folder that contains them, which gives the cache its name.

    Returns:
        int32 [N, 3]: height and width of the upright image, and its EXIF orientation, 1 to 8.

    Raises:
        DataError: If some cannot be read; it names them.
    """
    if len(files) < _MANY:
        return _checked(files)
    cache = cache_dir() / "checked_images" / f"{zlib.crc32(os.fsencode(folder.absolute())):08x}.npz"
    keys, kept = np.array([_key(file) for file in files], np.uint64), _read(cache)
    place = np.searchsorted(kept["keys"], keys).clip(max=len(kept["keys"]) - 1)
    known = kept["keys"][place] == keys
    found = kept["sizes"][place]
    if not known.all():
        found[~known] = _checked([file for file, k in zip(files, known, strict=True) if not k])
        with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to stop
            cache.parent.mkdir(parents=True, exist_ok=True)
            order = np.argsort(keys)
            with replacing(cache, suffix=".npz") as temporary:
                np.savez(temporary, keys=keys[order], sizes=found[order])
    return found


def _key(file):
    """64 bits that change with the file."""
    status = os.stat(file)
    text = f"{os.path.abspath(file)}\0{status.st_size}\0{status.st_mtime_ns}"
    digest = hashlib.blake2b(os.fsencode(text), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _read(cache):
    """What was remembered; nothing, if there is no such file or it is damaged."""
    damage = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*damage), np.load(cache) as kept:
        return {"keys": kept["keys"], "sizes": kept["sizes"]}
    return {"keys": np.zeros(1, np.uint64), "sizes": np.zeros((1, 3), np.int32)}


def _checked(files):
    """The sizes; first of all headers, which tell what must not be decoded, then of the pixels."""
    found = np.zeros((len(files), 3), np.int32)
    broken = {}
    for i, file in enumerate(files):
        try:
            found[i, 2] = _orientation(file)
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and own types
            broken[i] = str(error) or type(error).__name__
    good = np.array([i for i in range(len(files)) if i not in broken], np.int64)
    found[good, :2] = _decoded_sizes([files[i] for i in good])
    for i in good[found[good, 0] == 0].tolist():
        broken[i] = _why_not(files[i])
    if broken:
        (first, reason), *_ = sorted(broken.items())
        names = [files[i] for i in sorted(broken)[1 : 1 + _NAMED]]
        more = f" (and {len(broken) - 1} others: {', '.join(names)}" if names else ""
        more += f"{', ...' * (len(broken) > 1 + _NAMED)})" if names else ""
        raise DataError(
            f"{files[first]} cannot be read: {reason}{more}; repair it, save it as PNG or remove it"
        )
    turned = found[:, 2] >= _TURNED
    found[turned, :2] = found[turned, 1::-1]
    return found


def _orientation(file):
    """The EXIF orientation of an image; raises any exception if it must not be decoded."""
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise ValueError("not a regular file")
    with PIL.Image.open(file) as image:
        # TensorFlow 2.21 returns such a BMP's palette indices as gray levels, and corrupts its
        # memory when it decodes an animated WebP.
        if image.format == "BMP" and image.mode in ("1", "P"):
            raise ValueError("a BMP with a palette")
        if image.format == "WEBP" and image.is_animated:
            raise ValueError("an animated WebP")
        # Of a PNG without the field before its pixels, Pillow would decode all of them to look.
        plain = image.format == "PNG" and "exif" not in image.info
        if plain and b"eXIf" not in pathlib.Path(file).read_bytes():
            return 1
        try:
            orientation = image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
        except Exception:  # damaged metadata raises many types, and the pixels may be good
            return 1
    return orientation if orientation in range(1, 9) else 1


def _decoded_sizes(files):
    """int32 [N, 2]: height and width as they are stored, zeros where decoding fails."""
    with tf.device("CPU:0"):
        paths = tf.constant([os.fsencode(file) for file in files], tf.string)

    def size(index):  # by the function that training uses
        return index, tf.shape(decode_rgb(tf.io.read_file(paths[index])))[:2]

    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count()
    sizes = (
        tf.data.Dataset.range(len(files))
        .map(size, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
        .ignore_errors()
        .batch(64)
        .with_options(options)
    )
    found = np.zeros((len(files), 2), np.int32)
    disabled = len(files) < _MANY
    with tqdm.tqdm(total=len(files), desc="Checking images", unit="image", disable=disabled) as bar:
        for indices, some in sizes:
            found[indices.numpy()] = some.numpy()
            bar.update(len(indices))
    return found


def _why_not(file):
    try:
        decode_rgb(tf.io.read_file(os.fsencode(file)))
    except tf.errors.OpError as error:
        return re.sub(r"{{.*?}} | \[Op:.*", "", error.message)
    return "it could not be decoded at first, and could be now"
