"""Masks of objects: COCO's run-length codes, and how much of each cell of a grid they cover."""

import importlib.util
import math

import numpy as np

from ..metrics.detection import require_pycocotools
from .boxed_images import BoxedImages
from .labeled_images import DataError

MASK_SIDE = 112  # cells of the grid over an object's box: a multiple of the 28 that are learned


def can_encode() -> bool:
    """Whether pycocotools is there, which makes and reads the codes."""
    return importlib.util.find_spec("pycocotools") is not None


def mask_code(pixels: np.ndarray) -> dict:
    """Returns the run-length code of a mask: {"size": [height, width], "counts": bytes}.

    Args:
        pixels: bool [height, width]. A code of it takes some hundred bytes.
    """
    import pycocotools.mask

    return pycocotools.mask.encode(np.asfortranarray(pixels, np.uint8))


def mask_pixels(code: dict) -> np.ndarray:
    """Returns the mask of a run-length code, bool [height, width]."""
    import pycocotools.mask

    return pycocotools.mask.decode(code).astype(bool)


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
    pixels = mask_pixels(code)[rows, columns].astype(np.float32)
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

    Raises ValueError if pycocotools is missing, which reads them.
    """
    require_pycocotools("read masks")
    if images.has_masks:
        return
    if images.masks is None:
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
