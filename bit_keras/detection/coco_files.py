"""Detections, boxes and masks as files of COCO JSON, for pycocotools and other tools."""

import json
import os
from collections.abc import Sequence
from typing import Any

from ..files import replace_file
from ..metrics.coco_json import TrueBoxes, detections_as_coco, true_boxes_as_coco


def write_coco_detections(
    path: str | os.PathLike, images: TrueBoxes, detections: Sequence[dict[str, Any]]
) -> None:
    """Writes a list of {"image_id", "category_id", "bbox": [left, top, width, height], "score"}.

    A detection with a mask also has "segmentation", {"size": [height, width], "counts": text}, a
    COCO RLE as pycocotools reads it.

    Args:
        path: The file, replaced whole or not at all; folders above it are made.
        images: Boxed images, whose ids are written.
        detections: As in `Evaluation`.

    Raises:
        ValueError: If numbers are not finite, detections are of another number of images, masks of
            another size than their image, or the file cannot be written.
    """
    entries = detections_as_coco(images, detections)
    replace_file(path, f"[{_lines(entries)}]\n".encode())


def write_coco_boxes(path: str | os.PathLike, images: TrueBoxes) -> None:
    """Writes the images' boxes and masks as COCO's annotation files have them.

    Raises ValueError if a mask is of another size than its image, or the file cannot be written.
    """
    parts = true_boxes_as_coco(images).items()
    text = ",\n".join(f"{json.dumps(name)}: [{_lines(entries)}]" for name, entries in parts)
    replace_file(path, f"{{\n{text}\n}}\n".encode())


def _lines(entries):
    return "".join(["\n", ",\n".join(json.dumps(one, allow_nan=False) for one in entries), "\n"])
