"""Checks image files before training: every file is decoded once, and remembered."""

import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import stat
import sys
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
import PIL.ExifTags
import tensorflow as tf
import tqdm

from ...choices import BAD_IMAGES
from ...files import cache_dir, replacing
from ..labeled_images import DataError, one_line
from .decoding import decode_rgb
from .pillow_images import UNREADABLE, open_image, rgb_pixels

_MANY = 1_000  # files from which on their checks take long enough to be shown and remembered
_NAMED = 20  # broken files in a message; more are listed in a file
_TURNED = 5  # EXIF orientations from here on exchange height and width
_BY_PILLOW = 0  # in place of an orientation: Pillow decodes the file, and turns it
# What may hold the orientation in a PNG.
_FIELDS_IN_PNG = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type")
_REMEMBERED = "image_checks"  # below the cache folder


def check_images(files: Sequence[str], folder: pathlib.Path, bad_images: str) -> np.ndarray:
    """Decodes every image, so that none can fail in training, and finds its size.

    Of many files it is remembered, in the cache of downloads, by path, size and time of change.

    Args:
        files: The paths of N images, of all sets that are read at once.
        folder: The folder that contains them, which gives the cache its name.
        bad_images: "error", or "skip" to go on without those that cannot be read.

    Returns:
        int32 [N, 3]: height and width of the upright image, and its EXIF orientation, 1 to 8, or 0
        if Pillow must decode it and not TensorFlow. Rows of broken images are zeros.

    Raises:
        DataError: If some cannot be read and `bad_images` is "error". The first are named, and if
            there are many, all are listed in a file.
    """
    if bad_images not in BAD_IMAGES:
        raise DataError(f'bad_images must be "error" or "skip", got {bad_images!r}')
    if len(files) < _MANY:
        facts, broken = _checked(files)
    else:
        facts, broken = _remembered(files, folder)
    if broken and bad_images == "error":
        raise DataError(
            f"{_named(files, broken, folder)}; repair or remove them, save them as PNG, or leave "
            "them out by bad_images=skip (--bad_images=skip)"
        )
    if broken:
        left_out = one_line(_named(files, broken, folder))
        print(f"Left out: {left_out}.", file=sys.stderr, flush=True)
    return facts


def _named(files, broken, folder):
    """Says which files are broken, in one line, and where the list is of many."""
    reasons = [(files[i], reason) for i, reason in sorted(broken.items())]
    shown = "; ".join(f"{file} ({reason})" for file, reason in reasons[:_NAMED])
    if len(reasons) > _NAMED:
        path = cache_dir() / "broken_images" / f"{_short_name(folder)}.txt"
        shown += f"; and {len(reasons) - _NAMED:,} more"
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = (f"{one_line(file)}\t{one_line(reason)}\n" for file, reason in reasons)
            path.write_text("".join(lines), encoding="utf-8")
            shown += f", all listed in {path}"
    number = "1 image" if len(reasons) == 1 else f"{len(reasons):,} images"
    return f"{number} of {len(files):,} cannot be read: {shown}"


def _short_name(folder):
    return f"{zlib.crc32(str(folder.absolute()).encode(errors='surrogatepass')):08x}"


def _remembered(files, folder):
    """As `_checked`, but for files that an earlier call found good."""
    cache = cache_dir() / _REMEMBERED / f"{_short_name(folder)}.npz"
    keys, kept = np.array([_key(file) for file in files], np.uint64), _read(cache)
    place = np.searchsorted(kept["keys"], keys).clip(max=len(kept["keys"]) - 1)
    known = kept["keys"][place] == keys
    facts, broken = kept["facts"][place], {}
    if not known.all():
        new = np.flatnonzero(~known)
        facts[new], broken = _checked([files[i] for i in new])
        broken = {int(new[i]): reason for i, reason in broken.items()}
        with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to stop
            cache.parent.mkdir(parents=True, exist_ok=True)
            good = np.flatnonzero(facts[:, 0])
            order = good[np.argsort(keys[good])]
            with replacing(cache, suffix=".npz") as temporary:
                np.savez(temporary, keys=keys[order], facts=facts[order])
    return facts, broken


def _key(file):
    """64 bits that change with the file."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):  # a link to nothing, no name of a file: `_checked` tells of it
        return 0
    text = f"{os.path.abspath(file)}\0{status.st_size}\0{status.st_mtime_ns}"
    digest = hashlib.blake2b(os.fsencode(text), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _read(cache):
    """What was remembered; nothing, if there is no such file or it is damaged."""
    damage = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*damage), np.load(cache) as kept:
        if len(kept["keys"]) == len(kept["facts"]) > 0:
            return {"keys": kept["keys"], "facts": kept["facts"]}
    return {"keys": np.full(1, 2**64 - 1, np.uint64), "facts": np.zeros((1, 3), np.int32)}


def _checked(files):
    """(The facts of all files, {number of a broken one: why})."""
    facts, broken = np.zeros((len(files), 3), np.int32), {}
    for i, file in enumerate(files):  # headers first: they tell what must not be decoded
        try:
            facts[i, 2] = _orientation(file)
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and own types
            broken[i] = _reason(error, file)
    good = np.array([i for i in range(len(files)) if i not in broken], np.int64)
    few = len(files) < _MANY
    with tqdm.tqdm(desc="Checking images", total=len(files), unit=" images", disable=few) as bar:
        bar.update(len(broken))
        by_tensorflow = good[facts[good, 2] != _BY_PILLOW]
        if by_tensorflow.size:
            facts[by_tensorflow, :2] = _decoded_sizes([files[i] for i in by_tensorflow], bar)
        turned = facts[:, 2] >= _TURNED
        facts[turned, :2] = facts[turned, 1::-1]
        rest = good[facts[good, 0] == 0]
        with (
            concurrent.futures.ThreadPoolExecutor() as threads,
            contextlib.closing(threads.map(_size, [files[i] for i in rest])) as sizes,
        ):  # closed first, so that Ctrl-C does not wait for all
            for i, found in zip(rest, sizes, strict=True):
                if isinstance(found, str):
                    facts[i], broken[int(i)] = 0, found
                else:
                    facts[i] = (*found, _BY_PILLOW)
                bar.update(facts[i, 0] > 0)
    return facts, broken


def _size(file):
    """(height, width) of an image as Pillow decodes it, or why it cannot."""
    try:
        with open_image(file) as image:
            return rgb_pixels(image).shape[:2]
    except Exception as error:
        return _reason(error, file)


def _reason(error, file):
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.replace(f" {file!r}", "")  # it is named anyway


def _orientation(file):
    """The EXIF orientation of an image, or `_BY_PILLOW`; raises any exception if it is broken."""
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise ValueError("not a regular file")
    suffix = pathlib.Path(file).suffix.lower()
    if suffix in UNREADABLE:
        raise ValueError(f"the format {suffix} is not supported")
    with open_image(file) as image:
        if not _tensorflow_reads(image):
            return _BY_PILLOW
        # Of a PNG without a field before its pixels, Pillow would decode all of them to look.
        if image.format == "PNG" and "exif" not in image.info:
            content = pathlib.Path(file).read_bytes()
            if not any(field in content for field in _FIELDS_IN_PNG):
                return 1
        try:
            orientation = image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
        except Exception:  # damaged metadata raises many types, and the pixels may be good
            return 1
    return orientation if orientation in range(1, 9) else 1


def _tensorflow_reads(image):
    """Whether TensorFlow's decoder gives the same pixels as Pillow's; it is several times faster.

    TensorFlow 2.21 returns a BMP's palette indices as gray levels, ignores the transparent color
    of a PNG without a palette and of a GIF, whose first frame it places wrongly where that is
    smaller than the picture, and corrupts its memory by an animated WebP.
    """
    if image.format == "BMP":
        return image.mode in ("RGB", "L") and not image.info.get("compression")
    if image.format == "WEBP":
        return not image.is_animated
    if image.format == "PNG":
        return "transparency" not in image.info or image.mode == "P"
    return image.format in ("JPEG", "MPO")


def _decoded_sizes(files, bar):
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
    for indices, some in sizes:
        found[indices.numpy()] = some.numpy()
        bar.update(len(indices))
    return found
