"""The `segmentation` of COCO's annotations: polygons or run-length codes, checked, as masks."""

import math
import reprlib
from collections.abc import Sequence

import numpy as np

from ..masks import mask_code, mask_pixels, run_lengths
from .decoding import turn_upright

_FAR = 10  # an image's sides that a polygon may extend to; pycocotools walks along all its edges

# Polygons, each float64 [x, y, x, y, ...]; or a run-length code, compressed or not.
Segment = list[np.ndarray] | dict


def read_segment(value: object) -> tuple[Segment | None, str]:
    """Returns (what an annotation's `segmentation` says, what is wrong with it).

    None, an empty list or dictionary, and a list of empty lists are no segment, and not wrong.
    """
    if value is None or value == {}:
        return None, ""
    if isinstance(value, list) and all(isinstance(polygon, list) for polygon in value):
        if not any(value):
            return None, ""
        polygons = []
        for polygon in value:
            points, fault = _read_polygon(polygon)
            if fault:
                return None, fault
            polygons.append(points)
        return polygons, ""
    if isinstance(value, dict):
        return _read_code(value)
    kind = type(value).__name__
    if isinstance(value, list):
        kind = f"list of {type(next(v for v in value if not isinstance(v, list))).__name__}"
    return None, (
        "must have a segmentation of polygons, [[x, y, x, y, ...], ...], or of a run-length code, "
        f'{{"size": [height, width], "counts": ...}}, got {kind}'
    )


def _read_polygon(polygon):
    try:
        points = np.array(polygon, np.float64)
    except (TypeError, ValueError, OverflowError):  # texts, nested lists, huge integers
        points = np.array([math.nan])
    if points.ndim != 1 or not np.isfinite(points).all():
        return None, f"has a polygon that is not of finite numbers, {_shown(polygon)}"
    if len(points) % 2:
        return None, f"has a polygon with an odd number of coordinates, {len(points)}"
    if len(points) < 6:
        number = len(points) // 2
        return None, f"has a polygon of {number} point{'s' * (number != 1)}, and 3 are needed"
    return points, ""


def _read_code(code):
    size, counts = code.get("size"), code.get("counts")
    good = isinstance(size, list) and len(size) == 2
    if not good or not all(isinstance(side, int) and side > 0 for side in size):
        return None, f"has a run-length code whose size must be [height, width], got {_shown(size)}"
    if isinstance(counts, str):
        runs = run_lengths(counts.encode(errors="surrogatepass"))
        runs = None if runs is None else runs.tolist()
    elif isinstance(counts, list) and all(isinstance(count, int) for count in counts):
        runs = counts
    else:
        runs = None
    if runs is None:
        return None, f"has a run-length code whose counts cannot be read, {_shown(counts)}"
    if min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        return None, (
            f"has a run-length code whose counts must be 0 or more and sum to its {size[1]}x"
            f"{size[0]} pixels ({size[0] * size[1]}), and sum to {sum(runs)}"
        )
    return code, ""


def _shown(value):
    text = reprlib.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def size_faults(segments: Sequence[Segment | None], sizes: np.ndarray) -> dict[int, str]:
    """Finds segments that are not of their images.

    Args:
        segments: Per object, as `read_segment` returns it.
        sizes: Integers [M, 2]: the (height, width) of the picture that was annotated.

    Returns:
        {number of an object: what is wrong, such as "has a run-length code of ..."}
    """
    faults = {}
    for i, (segment, (height, width)) in enumerate(zip(segments, sizes.tolist(), strict=True)):
        if isinstance(segment, dict):
            if segment["size"] != [height, width]:
                faults[i] = (
                    f"has a run-length code of {segment['size'][1]}x{segment['size'][0]} pixels, "
                    f"and its image has {width}x{height}"
                )
        elif segment and (fault := _place_fault(segment, height, width)):
            faults[i] = f"has {fault} its image of {width}x{height} pixels"
    return faults


def _place_fault(polygons, height, width):
    lowest, highest = (min(p.min() for p in polygons), max(p.max() for p in polygons))
    if lowest >= 0 and highest < min(height, width):
        return ""
    if max(-lowest, highest) > _FAR * max(height, width):
        far = lowest if -lowest > highest else highest
        return f"a polygon with the coordinate {far:g}, far outside"
    for polygon in polygons:
        x, y = polygon[::2], polygon[1::2]
        if x.min() < width and x.max() > 0 and y.min() < height and y.max() > 0:
            return ""
    return f"polygons that lie outside, beginning at ({x[0]:g}, {y[0]:g}),"


def segment_code(segment: Segment, size: Sequence[int], orientation: int) -> dict:
    """Returns the run-length code of an object's mask in the upright image.

    Args:
        segment: What `read_segment` and `size_faults` found right.
        size: The (height, width) of the picture that was annotated.
        orientation: The EXIF orientation by which that picture is still to be turned; 1 for none.
    """
    import pycocotools.mask

    height, width = map(int, size)
    if isinstance(segment, dict):
        counts = segment["counts"]
        if isinstance(counts, list):
            code = pycocotools.mask.frPyObjects(segment, height, width)
        else:
            code = {"size": [height, width], "counts": counts.encode()}
    else:
        code = pycocotools.mask.merge(pycocotools.mask.frPyObjects(segment, height, width))
    if orientation == 1:
        return code
    return mask_code(turn_upright(mask_pixels(code)[..., np.newaxis], orientation)[..., 0])
