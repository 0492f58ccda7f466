"""Random access to the examples of TFRECORD files, which have no index."""

import os
import struct
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


def record_reader(
    folder: str | os.PathLike, places: Sequence[tuple[str, int]]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from a scalar int64 tensor i to the scalar string at `places[i]`.

    Reads the headers of the records, 12 bytes each; the records stay on disk. A place is (file name
    in `folder`, number of the record in that file).
    """
    names = sorted({name for name, _ in places})
    paths = [os.path.join(folder, name) for name in names]
    spans = dict(zip(names, map(_spans, paths), strict=True))
    file_of = {name: number for number, name in enumerate(names)}
    table = np.array([(file_of[name], *spans[name][number]) for name, number in places], np.int64)

    def read(index):
        number, start, length = table[index]
        with open(paths[number], "rb") as file:
            file.seek(start)
            return file.read(length)

    return lambda index: tf.ensure_shape(tf.numpy_function(read, [index], tf.string), [])


def _spans(path):
    """[(start, length)] of a file's records: length, 4 bytes of its CRC, record, 4 of its CRC."""
    spans = []
    with open(path, "rb") as file:
        while header := file.read(12):
            (length,) = struct.unpack("<Q", header[:8])
            spans.append((file.tell(), length))
            file.seek(length + 4, os.SEEK_CUR)
    return spans
