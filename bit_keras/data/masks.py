"""Masks of objects: COCO's run-length codes, and how much of each cell of a grid they cover."""

import importlib.util
import math

import numpy as np

from ..metrics.detection import require_pycocotools
from .boxed_images import BoxedImages
from .labeled_images import DataError

MASK_SIDE = 112  # cells of the grid over an object's box: a multiple of the 28 that are learned
_MOST_BITS = 40  # of a number in a code; an image has fewer pixels


def can_encode() -> bool:
    """Whether pycocotools is there, which makes the codes."""
    return importlib.util.find_spec("pycocotools") is not None


def mask_code(pixels: np.ndarray) -> dict:
    """Returns the run-length code of a mask: {"size": [height, width], "counts": bytes}.

    Args:
        pixels: bool [height, width]. A code of it takes some hundred bytes.
    """
    import pycocotools.mask

    return pycocotools.mask.encode(np.asfortranarray(pixels, np.uint8))


def run_lengths(counts: bytes) -> np.ndarray | None:
    """The lengths of the runs of a code, without and with the object in turn, down the columns.

    A number is a few groups of 5 bits, the lowest first, each a character from "0" on, with 32
    added to all but the last group, whose highest bit is the sign. From the fourth number on, they
    are differences to the last but one.

    Returns:
        int64 [number of runs], which may be negative in a wrong code; None if it cannot be read.
    """
    groups = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not groups.size or groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        return None
    stops = np.flatnonzero(groups & 32 == 0) + 1
    starts = np.concatenate([[0], stops[:-1]])
    shifts = 5 * (np.arange(len(groups)) - np.repeat(starts, stops - starts))
    if shifts.max() > _MOST_BITS:
        return None
    runs = np.add.reduceat((groups & 31) << shifts, starts)
    runs -= (groups[stops - 1] & 16) << (shifts[stops - 1] + 1)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs


def mask_pixels(code: dict, columns: slice = slice(None)) -> np.ndarray:
    """Returns the mask of a run-length code, or some columns of it: bool [height, columns].

    Raises DataError if the code is not of as many pixels as its image has.
    """
    # pycocotools decodes whole images, which takes 30 ms for 12 million pixels and every object,
    # and reads beyond the end of a code that is too short.
    height, width = code["size"]
    runs = run_lengths(code["counts"])
    if runs is None or runs.min() < 0 or runs.sum() != height * width:
        raise DataError(
            f"the counts of a mask of {width}x{height} pixels must be a run-length code that sums "
            f"to {height * width}; make it by pycocotools.mask.encode"
        )
    start, stop, _ = columns.indices(width)
    stops = np.clip(np.cumsum(runs), start * height, stop * height)
    lengths = np.diff(stops, prepend=start * height)
    return np.repeat(np.arange(len(runs)) % 2 == 1, lengths).reshape(-1, height).T


def coverage(code: dict, box: np.ndarray, side: int = MASK_SIDE) -> np.ndarray:
    """How much of each cell of a grid over an object's box the object covers, exactly.

    Args:
        code: The run-length code of the object's mask.
        box: [left, top, right, bottom] in pixels, within the image and not without area.
        side: How many cells the grid has in a row, and how many rows.

    Returns:
        uint8 [side, side], from 0, nothing of the cell, to 255, all of it.
    """
    left, top, right, bottom = np.asarray(box, np.float64).tolist()
    rows = slice(math.floor(top), math.ceil(bottom))
    columns = slice(math.floor(left), math.ceil(right))
    pixels = mask_pixels(code, columns)[rows].astype(np.float32)
    down = _means(pixels, top - rows.start, bottom - rows.start, side)
    both = _means(down.T, left - columns.start, right - columns.start, side).T
    return np.rint(255 * np.clip(both, 0, 1)).astype(np.uint8)


def _means(values, start, stop, number):
    """The means along axis 0 of `number` equal parts of start .. stop: row i covers i .. i + 1."""
    sums = np.zeros((len(values) + 1, values.shape[1]), np.float32)
    np.cumsum(values, axis=0, out=sums[1:])
    edges = np.linspace(start, stop, number + 1)
    whole = np.minimum(edges.astype(int), len(values) - 1)
    part = (edges - whole).astype(np.float32)[:, np.newaxis]
    at_edges = sums[whole] + part * values[whole]
    return np.diff(at_edges, axis=0) * np.float32(number / (stop - start))


def require_masks(images: BoxedImages) -> None:
    """Raises DataError unless every object to train on has a mask, as learning masks needs.

    Raises ValueError if there are none because pycocotools is missing, which reads them.
    """
    if images.has_masks:
        return
    if images.masks is None:
        require_pycocotools("read masks")
        raise DataError(
            f"{images.name} has no masks; give a COCO file whose annotations have a segmentation, "
            'and its folder, or "scenes" (sets of TensorFlow Datasets, Pascal VOC and YOLO are '
            "read without masks), or train boxes alone"
        )
    wanted = np.flatnonzero(~images.crowd)
    missing = [row for row in wanted if images.masks[row] is None]
    if not wanted.size:
        raise DataError(f"{images.name} has only crowds; annotate objects to learn from")
    image = np.searchsorted(images.starts, missing[0], "right") - 1
    where = images.image_ids[image] if images.files is None else images.files[image]
    raise DataError(
        f"{len(missing):,} of {len(wanted):,} objects of {images.name} have no mask, the first "
        f"being object {missing[0] - images.starts[image]} of image {where}; annotate their "
        "segmentation, leave them out, or train boxes alone"
    )
