"""Labeled images from image files, each of which is decoded once to find broken ones."""

import contextlib
import dataclasses
import os
import pathlib
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from ..boxed_images import BoxedImages
from ..labeled_images import DataError, LabeledImages, one_line
from .checking import check_images
from .decoding import decode_rgb, turn_upright
from .pillow_images import decoded

if TYPE_CHECKING:
    import scipy.sparse

_OF_FILES = (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.DataLossError)
_KINDS = 5  # of files left out, in a message


def from_files(
    files: Sequence[str],
    labels: "Sequence[int] | np.ndarray | scipy.sparse.csr_array",
    class_names: Sequence[str],
    *,
    name: str,
    folder: pathlib.Path,
    bad_images: str = "error",
    facts: np.ndarray | None = None,
) -> LabeledImages:
    """The images in `files`, read from disk whenever they are used.

    Args:
        files: The paths of N images.
        labels, class_names, name: As in `LabeledImages`.
        folder: The folder that contains the files: a copy of it has the same fingerprint.
        bad_images: As in `check_images`. Those left out are `skipped`.
        facts: What `check_images` returned of the files, if they were checked before.

    Raises:
        DataError: If an image is broken or in an unsupported format (HEIC, ...) and `bad_images` is
            "error", or if none is left.
    """
    if facts is None:
        facts = check_images(files, folder, bad_images)
    good = facts[:, 0] > 0
    files = np.array(files, object)
    skipped = tuple(files[~good].tolist())
    if not good.any():
        raise DataError(f"none of the {len(files):,} images of {name} can be read; give others")
    if skipped:
        files, facts, labels = files[good], facts[good], _rows(labels, good)
    heights, widths, _ = facts.T
    fingerprint, num_bytes = identity(files, folder)
    return LabeledImages(
        name,
        labels,
        class_names,
        (int(np.median(heights)), int(np.median(widths))),
        file_reader(files, facts),
        fingerprint=fingerprint,
        num_bytes=num_bytes,
        files=files,
        skipped=skipped,
    )


def file_reader(files: Sequence[str], facts: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    """The `read` of `LabeledImages` for N files.

    Args:
        files: Their paths.
        facts: What `check_images` returned of them; none is broken.
    """
    with tf.device("CPU:0"):
        paths = tf.constant([os.fsencode(file) for file in files])
        orientations = tf.constant(facts[:, 2], tf.int32)

    def by_tensorflow(encoded, orientation):
        return turn_upright(decode_rgb(encoded), orientation)

    def by_pillow(encoded):
        return tf.ensure_shape(tf.numpy_function(decoded, [encoded], tf.uint8), [None, None, 3])

    some_by_pillow = bool(np.any(facts[:, 2] == 0))

    def read(index):
        encoded = tf.io.read_file(tf.gather(paths, index))
        orientation = tf.gather(orientations, index)
        if not some_by_pillow:
            return by_tensorflow(encoded, orientation)
        return tf.cond(
            orientation > 0,
            lambda: by_tensorflow(encoded, orientation),
            lambda: by_pillow(encoded),
        )

    return read


def identity(files: Sequence[str], folder: pathlib.Path) -> tuple[int, int]:
    """(The fingerprint of N files below a folder, which a copy of it has too; their bytes)."""
    sizes = [(os.path.relpath(file, folder), os.path.getsize(file)) for file in files]
    fingerprint = zlib.crc32(repr(sizes).encode(errors="surrogateescape"))
    return fingerprint, sum(size for _, size in sizes)


@contextlib.contextmanager
def naming_lost_images(
    *sets: LabeledImages | BoxedImages | None, then: Callable[[], str] | None = None
) -> Iterator[None]:
    """Turns TensorFlow's error about a file that was good before into one that names all such.

    Args:
        *sets: The images that are read within the block.
        then: Returns how to go on, for the message.

    Raises:
        DataError: As `check_images` does, if files of the sets were deleted or damaged meanwhile;
            or if a file could not be read for a while.
    """
    try:
        yield
    except tf.errors.OpError as error:
        after = f"; then {then()}" if then else ""
        files = [
            file for images in sets if images and images.files is not None for file in images.files
        ]
        if files:
            try:
                check_images(files, pathlib.Path(os.path.commonpath(files)), "error")
            except DataError as found:
                raise DataError(f"since the start, {found}{after}") from error
        if isinstance(error, _OF_FILES):  # of another source, or for a while
            reason = str(error).strip().split("\n")[0]
            raise DataError(
                f"a file of the images could not be read ({reason}): restore it{after}"
            ) from error
        raise


def _rows(labels, good):
    return labels[good] if hasattr(labels, "tocsr") else np.asarray(labels)[good]


def grouped_by(images: LabeledImages, pattern: str, folder: pathlib.Path) -> LabeledImages:
    """Returns images whose `groups` are what a regular expression finds in their paths.

    Args:
        images: Of files.
        pattern: Searched in the path below `folder`, with "/" between its parts; the group is what
            its first parentheses hold, or all that it matches.
        folder: Where paths begin.

    Raises:
        DataError: If it is no regular expression, or does not match a path.
    """
    groups = []
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise DataError(
            f"group_by must be a regular expression, got {pattern!r} ({error})"
        ) from error
    for file in images.files:
        path = pathlib.Path(os.path.relpath(file, folder)).as_posix()
        if not (match := search(path)):
            raise DataError(
                f"group_by {pattern!r} finds nothing in {path}; give an expression that finds the "
                "group of every image"
            )
        groups.append(match[1] if match.re.groups else match[0])
    return dataclasses.replace(images, groups=np.array(groups, object))


def say_left_out(name: str, others: Sequence[str]) -> None:
    """Prints how many files of a folder are left out, by their kinds, and where the first are."""
    kinds = {}
    for file in others:
        kinds.setdefault(pathlib.Path(file).suffix.lower() or "without suffix", []).append(file)
    if not kinds:
        return
    frequent = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    shown = ", ".join(f"{len(files):,} {kind} ({files[0]})" for kind, files in frequent[:_KINDS])
    text = (
        f"{name}: files left out, as they are no images or in no class folder: "
        f"{sum(map(len, kinds.values())):,}, of these {shown}{', ...' * (len(kinds) > _KINDS)}."
    )
    print(
        one_line(text),
        file=sys.stderr,
        flush=True,
    )
