"""Finds objects on images: what `bit-detect predict` does."""

import os
import pathlib
from collections.abc import Iterable, Sequence

import keras
import numpy as np
import PIL.Image
import tensorflow as tf

from ..data import without_boxes
from ..data.sources.checking import check_images
from ..data.sources.finding import find_images
from ..data.sources.image_files import file_reader
from ..files import new_folder
from ..metrics.coco_json import as_segmentation
from ..reporting.boxes import draw_boxes
from ..reporting.page import DASH
from ..reporting.texts import csv_text, printable
from .detecting import all_detections
from .opening import open_detector


def detect_objects(
    model: keras.Model | str | os.PathLike,
    images: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    threshold: float = 0.3,
    batch: int = 8,
) -> list[dict]:
    """Returns the objects on every image.

    Args:
        model: The folder of a run of `fine_tune_detector`, its `model.keras`, or the model.
        images: Image files, folders (for the images directly in them) and globs.
        threshold: Only objects of at least this score, from 0 to 1.
        batch: Images at once; does not change the answers.

    Returns:
        For every image `{"image": path, "objects": [{"class": name, "score": s, "box": [left, top,
        right, bottom]}, ...]}`, in pixels of the upright image, the highest score first. An object
        of a detector that finds masks also has `"segmentation": {"size": [height, width], "counts":
        text}`, a COCO RLE of the image's size, which `pycocotools.mask.decode` takes.

    Raises:
        ValueError: If an argument is wrong; there are no images, or one cannot be read.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be a score in [0, 1], got {threshold}.")
    detector = open_detector(model)
    names = detector.spec.names()
    files = find_images([images] if isinstance(images, str | os.PathLike) else images)
    facts = check_images(files, pathlib.Path(), "error")
    boxed = without_boxes("what was given", names, file_reader(files, facts), facts[:, :2])
    found = []
    for file, one in zip(files, all_detections(detector, boxed, batch=batch), strict=True):
        objects = [
            {"class": names[k], "score": float(score), "box": [round(float(x), 2) for x in box]}
            for box, score, k in zip(one["boxes"], one["scores"], one["classes"], strict=True)
        ]
        for each, mask in zip(objects, one.get("masks", ()), strict="masks" in one):
            each["segmentation"] = as_segmentation(mask)
        kept = [each for each in objects if each["score"] >= threshold]
        found.append({"image": file, "objects": kept})
    return found


def write_pictures(folder: str | os.PathLike, found: Sequence[dict]) -> None:
    """Draws what `detect_objects` found over the images, as JPEGs in a new folder.

    A picture is called by the number of the image, in their order, and by the image's own name.
    Raises ValueError if there is something in the folder, or it cannot be written.
    """
    files = [one["image"] for one in found]
    read = file_reader(files, check_images(files, pathlib.Path(), "error"))
    numbers = {}  # of classes, for their colors
    with new_folder(folder) as written:
        for i, one in enumerate(found):
            objects = one["objects"]
            boxes = np.array([each["box"] for each in objects]).reshape(-1, 4)
            classes = [numbers.setdefault(each["class"], len(numbers)) for each in objects]
            labels = [f"{each['class']} {100 * each['score']:.0f}" for each in objects]
            image = read(tf.constant(i, tf.int64)).numpy()
            masks = [each.get("segmentation") for each in objects]
            drawn = draw_boxes(image, boxes, np.array(classes, int), labels, masks=masks)
            stem = pathlib.Path(one["image"]).stem
            drawn = PIL.Image.fromarray(drawn)
            drawn.save(written / f"{i + 1:0{len(str(len(found)))}}-{stem}.jpg", quality=90)


def as_table(found: Sequence[dict]) -> str:
    """Returns what `detect_objects` returned as text, a line for each object."""
    rows = [("image", "object", "score", "left, top, right, bottom")]
    for one in found:
        image = printable(one["image"])
        for each in one["objects"]:
            box = ", ".join(f"{x:.0f}" for x in each["box"])
            rows.append((image, printable(each["class"]), f"{each['score']:.2f}", box))
            image = ""
        if not one["objects"]:
            rows.append((image, DASH, "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{x:{w}}" for x, w in zip(row, widths, strict=True)) for row in rows)
    return "".join(line.rstrip() + "\n" for line in lines)


def as_csv(found: Sequence[dict]) -> str:
    """Returns what `detect_objects` returned as CSV, a line for each object; masks are left out.

    An image without objects has one line in which only its name is filled in.
    """
    rows = []
    for one in found:
        own = [
            (one["image"], each["class"], each["score"], *each["box"]) for each in one["objects"]
        ]
        rows += own or [(one["image"], *[None] * 6)]
    return csv_text(("image", "class", "score", "left", "top", "right", "bottom"), rows)
