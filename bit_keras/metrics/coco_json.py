"""Boxes, masks and detections as COCO JSON has them, which pycocotools and other tools read."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class TrueBoxes(Protocol):
    """The boxes of N images, as `BoxedImages` has them.

    Attributes:
        class_names: K names.
        category_ids: K distinct integers, the numbers of the classes in JSON; may have gaps.
        image_ids: N distinct integers, or N distinct names.
        image_sizes: int [N, 2], (height, width) in pixels.
        starts: int [N + 1]: image i has the boxes starts[i] to starts[i + 1] of the M in all.
        boxes: float [M, 4]: left, top, right, bottom in pixels.
        classes: int [M], in 0 .. K - 1.
        crowd: bool [M]: whether a box is around a crowd, in which detections are not judged.
        areas: float [M], in pixels: by them a box is small, medium or large.
        files: The N images' paths, or None.
        masks: None, or for each box the object's pixels as a COCO RLE of the image's size,
            {"size": [height, width], "counts": bytes}, or None.
        has_masks: Whether all boxes outside crowds have a mask, and there is at least one.
    """

    class_names: Sequence[str]
    category_ids: Sequence[int]
    image_ids: Sequence[int | str]
    image_sizes: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    files: Sequence[str] | None
    masks: Sequence[Mapping[str, Any] | None] | None
    has_masks: bool


def true_boxes_as_coco(truth: TrueBoxes) -> dict[str, list[dict]]:
    """Returns what COCO's annotation files hold: `images`, `categories` and `annotations`.

    The annotations are numbered from 1 in the order of the boxes. File names are relative to the
    folder that all files have in common. Masks are `segmentation`; among masks a crowd without one
    has that of its whole box, because pycocotools asks for one of each annotation.

    Raises:
        ValueError: If a mask is of another size than its image.
    """
    heights_widths = np.asarray(truth.image_sizes).tolist()
    image_ids = _plain(truth.image_ids)
    images = [
        {"id": key, "width": width, "height": height}
        for key, (height, width) in zip(image_ids, heights_widths, strict=True)
    ]
    if truth.files is not None:
        common = os.path.commonpath([os.path.dirname(file) for file in truth.files])
        for image, file in zip(images, truth.files, strict=True):
            image["file_name"] = pathlib.Path(os.path.relpath(file, common)).as_posix()
    categories = _plain(truth.category_ids)
    of_image = np.repeat(np.arange(len(image_ids)), np.diff(truth.starts)).tolist()
    columns = (truth.classes, truth.crowd, decimals(truth.areas), corner_and_size(truth.boxes))
    annotations = [
        {
            "id": row + 1,
            "image_id": image_ids[of_image[row]],
            "category_id": categories[k],
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for row, (k, crowd, area, box) in enumerate(
            zip(*(np.asarray(column).tolist() for column in columns), strict=True)
        )
    ]
    if truth.masks is not None:
        for entry, i, mask in zip(annotations, of_image, truth.masks, strict=True):
            if mask is not None:
                whose = f"an object of image {image_ids[i]}"
                entry["segmentation"] = _sized_segmentation(mask, heights_widths[i], whose)
            elif entry["iscrowd"]:
                left, top, width, height = entry["bbox"]
                right, bottom = left + width, top + height
                corners = [left, top, right, top, right, bottom, left, bottom]
                entry["segmentation"] = [corners]
    names = map(str, truth.class_names)
    return {
        "images": images,
        "categories": [
            {"id": key, "name": name} for key, name in zip(categories, names, strict=True)
        ],
        "annotations": annotations,
    }


def detections_as_coco(
    truth: TrueBoxes, detections: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Returns what COCO's files of results hold: a list of detections, image by image.

    Args:
        truth: The images, of which the ids and sizes are read.
        detections: For each image `boxes` float [D, 4] (left, top, right, bottom in pixels),
            `scores` float [D] and `classes` int [D]; and, of a detector that finds masks, `masks`,
            a list of D COCO RLEs of the image's size, which become `segmentation`.

    Raises:
        ValueError: If a number is not finite, a mask is of another size than its image, there are
            more or fewer masks than boxes, or more or fewer dictionaries than images.
    """
    image_ids, sizes = _plain(truth.image_ids), np.asarray(truth.image_sizes).tolist()
    if len(detections) != len(image_ids):
        raise ValueError(
            f"there are detections of {len(detections):,} images, and {len(image_ids):,} images; "
            "give one dictionary for each image."
        )
    categories, found = _plain(truth.category_ids), []
    for image_id, size, one in zip(image_ids, sizes, detections, strict=True):
        for name in ("boxes", "scores"):
            if not np.isfinite(one[name]).all():
                raise ValueError(
                    f"the {name} detected in image {image_id} are not all finite; the model has "
                    "diverged: train it again with a lower learning rate."
                )
        boxes, scores = corner_and_size(one["boxes"]).tolist(), decimals(one["scores"]).tolist()
        own = [
            {"image_id": image_id, "category_id": categories[k], "bbox": box, "score": score}
            for box, score, k in zip(
                boxes, scores, np.asarray(one["classes"]).tolist(), strict=True
            )
        ]
        if "masks" in one:
            if len(one["masks"]) != len(own):
                raise ValueError(
                    f"image {image_id} has {len(one['masks']):,} masks for {len(own):,} detected "
                    "boxes; give one for each."
                )
            for entry, mask in zip(own, one["masks"], strict=True):
                whose = f"an object detected in image {image_id}"
                entry["segmentation"] = _sized_segmentation(mask, size, whose)
        found += own
    return found


def as_segmentation(mask: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a COCO RLE with `counts` as ASCII text, as JSON has it; pycocotools decodes both."""
    counts = mask["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in mask["size"]], "counts": text}


def _sized_segmentation(mask, size, whose):
    found = as_segmentation(mask)
    if found["size"] != size:  # for which pycocotools would find no overlap, and say nothing
        (height, width), (rows, columns) = found["size"], size
        raise ValueError(
            f"the mask of {whose} is of {width}x{height} pixels, and the image of "
            f"{columns}x{rows}; masks must be of their image's size."
        )
    return found


def corner_and_size(boxes: np.ndarray) -> np.ndarray:
    """Returns boxes [D, 4] as float64 [D, 4]: left, top, width, height."""
    corners = decimals(np.reshape(boxes, (-1, 4)))
    # 188.77 - 1.08 is 187.69000000000003; no coordinate is known to a millionth of a pixel.
    sizes = np.round(corners[:, 2:] - corners[:, :2], 6)
    return np.concatenate([corners[:, :2], sizes], axis=1)


def decimals(values: np.ndarray) -> np.ndarray:
    """Returns float64 of the shortest decimals: 0.1 for a float32 0.1, not 0.10000000149."""
    values = np.asarray(values)
    # What a file gave comes back as it was, so that scores equal those of the file.
    return values.astype(str).astype(np.float64) if values.size else values.astype(np.float64)


def _plain(ids):
    """Ids as JSON has them: Python's integers and texts."""
    return [key.item() if isinstance(key, np.generic) else key for key in ids]
