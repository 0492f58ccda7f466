"""Predicts the classes of image files."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import PIL.Image

from ..reporting.page import DASH
from ..reporting.texts import csv_text, printable
from .given_images import named_images
from .opened_model import all_answers, open_model


def predict_images(
    model: keras.Model | str | os.PathLike,
    images: str | os.PathLike | np.ndarray | PIL.Image.Image | Iterable[Any],
    *,
    labels: Sequence[str] | None = None,
    size: int | None = None,
    top_k: int = 5,
    threshold: float | None = None,
    batch: int = 16,
    multi_label: bool | None = None,
    bad_images: str = "error",
) -> list[dict]:
    """Returns the likeliest classes of every image.

    Images are decoded, turned upright and resized as the test images of the model's training.

    Args:
        model: A model with a head; or what `bit_keras.export` wrote, in any format; or the folder
            of a run, for the model in it; or what else `bit_keras.load` takes. The graph of a
            SavedModel, a LiteRT, ONNX or OpenVINO model is run, so know where it comes from.
        images: Image files; folders, for the images directly in them, sorted; and globs, "**" for
            folders of any depth, duplicates being predicted once. Or pictures: one or several PIL
            images, or arrays `[height, width, 3]` (or gray), uint8 or floats in [0, 1].
        labels: The classes' names. By default those stored with the model, of the run that it lies
            in, or of a `labels.txt` beside it; WordNet's for the published models of ImageNet; or
            else their numbers.
        size: Side in pixels of the squares that images are resized to. By default as the model was
            tested; it must be given where nothing tells it.
        top_k: Classes an image, at most.
        threshold: The least probability, in [0, 1], of the classes returned, which may leave none;
            no limit by default.
        batch: Images at once; does not change the answers.
        multi_label: Whether an image may have several classes, so that probabilities are sigmoids
            of the logits and not their softmax. By default only if the model was trained so.
        bad_images: "error" to stop at image files that cannot be read, and name them; "skip" to
            print why, and to go on with the others.

    Returns:
        For every image `{"image": path, "predictions": [{"class": name, "probability": p}, ...]}`,
        the likeliest class first; pictures have their number as `image`. The list of predictions
        is empty where no class reaches the threshold, and for skipped images, which have an
        `"error"` besides.

    Raises:
        ValueError: If an argument is wrong; there are no images, or one cannot be read; or the
            model cannot be opened, has no head, or another number of classes than of names.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be 1 or more, got {top_k}.")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be a probability in [0, 1], got {threshold}.")
    files, read = named_images(images, bad_images)
    opened = open_model(model, labels=labels, size=size, multi_label=multi_label)
    names = opened.spec.names()
    labeled = read()
    logits = all_answers(opened, labeled, batch=batch)
    rows, found = iter(opened.spec.probabilities(logits).numpy()), []
    skipped = {*labeled.skipped}
    for file in files:
        if file in skipped:
            found.append({"image": file, "predictions": [], "error": "cannot be read"})
            continue
        row = next(rows)
        best = np.argsort(-row, kind="stable")[:top_k].tolist()
        likeliest = [{"class": names[k], "probability": float(row[k])} for k in best]
        if threshold is not None:
            likeliest = [one for one in likeliest if one["probability"] >= threshold]
        found.append({"image": file, "predictions": likeliest})
    return found


def as_table(predictions: Sequence[dict]) -> str:
    """Returns what `predict_images` returned as aligned text, a line for each class.

    An image without classes has one line, with a dash in the place of the class.
    """
    rows = [("image", "class", "probability")]
    for one in predictions:
        image = printable(str(one["image"]))
        for prediction in one["predictions"]:
            rows.append((image, printable(prediction["class"]), f"{prediction['probability']:.2%}"))
            image = ""
        if not one["predictions"]:
            rows.append((image, one.get("error", DASH), ""))
    first, second, third = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "".join(f"{a:{first}}  {b:{second}}  {c:>{third}}".rstrip() + "\n" for a, b, c in rows)


def as_csv(predictions: Sequence[dict]) -> str:
    """Returns what `predict_images` returned as CSV: image, rank from 1, class and probability.

    One line for each class of each image. An image without classes has one line in which only its
    name is filled in.
    """
    rows = []
    for one in predictions:
        ranked = enumerate(one["predictions"], 1)
        own = [(one["image"], n, found["class"], found["probability"]) for n, found in ranked]
        rows += own or [(one["image"], None, None, None)]
    return csv_text(("image", "rank", "class", "probability"), rows)
