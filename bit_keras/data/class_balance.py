"""Sets whose classes differ in size: weights of classes, and whether they can be balanced."""

import math
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from ..files import expanded
from .class_map import check_distinct, normalized
from .labeled_images import DataError, LabeledImages, check_every_class
from .sources.csv_file import read_rows

_UNEVEN = 5  # times as many images as another class has


def read_class_weights(path: str | os.PathLike) -> dict[str, float]:
    """Reads a CSV file (UTF-8, commas) with a header and a line for each class.

    For instance:

        class,weight
        cat,1
        lynx,7.5

    Returns:
        {class: weight}, for `fine_tune`.

    Raises:
        DataError: If there is no such file, a column is missing, a class has two lines, or a weight
            is not a positive number.
    """
    path = pathlib.Path(expanded(path)).absolute()
    weights = {}
    for line, row in read_rows(path, ("class", "weight")):
        name, where = row["class"], f"line {line} of {path}"
        if name in weights:
            raise DataError(f"{where} names the class {name!r} again; give each class one line")
        weights[name] = _weight(row["weight"], where)
    return weights


def class_weights(train: LabeledImages, given: str | Mapping[str, float]) -> np.ndarray:
    """How much an image of each class counts: the mean over the training images is 1.

    Args:
        train: The training images.
        given: "balanced" for N / (number of classes * number of the class's images), so that all
            classes count equally; or a weight for each class by name.

    Returns:
        float64 [num_classes], positive.

    Raises:
        DataError: If the images may have several labels; a class has no images and is to be
            balanced; or `given` lacks a class, names another, or a weight is no positive number.
    """
    if train.multi_label:
        raise DataError(
            f"classes cannot be weighed in {train.name}, whose images may have several; leave out "
            "class_weights"
        )
    counts = np.bincount(train.labels, minlength=train.num_classes)
    if isinstance(given, Mapping):
        weights = _weights_by_name(train, given)
    elif given == "balanced":
        check_every_class(train, "add some, or remove those classes, to balance the others")
        weights = 1 / counts
    else:
        raise DataError(
            'class_weights must be "balanced", "none" or a weight for each class by name, got '
            f"{given!r}; for a file give what `data.read_class_weights` returns"
        )
    weights = weights / weights.max()  # the sum of large ones might not be finite
    # Rounded once: the same on every machine, as a run's settings must be.
    return weights / (math.fsum(weights * counts) / len(train))


def check_sampling(images: LabeledImages, sampling: str) -> None:
    """Raises DataError if `sampling` is not known, or these images cannot be balanced."""
    if sampling not in ("uniform", "balanced"):
        raise DataError(f'sampling must be "uniform" or "balanced", got {sampling!r}')
    if sampling == "balanced":
        if images.multi_label:
            raise DataError(
                f"classes cannot be drawn equally often from {images.name}, whose images may have "
                "several; leave out sampling"
            )
        check_every_class(images, "add some, or remove those classes, to balance the others")


def unevenness(train: LabeledImages) -> str | None:
    """Says which classes have the most and the fewest images, if they differ more than fivefold.

    Classes without images are not counted, nor are images that may have several classes.
    """
    if train.multi_label:
        return None
    counts = np.bincount(train.labels, minlength=train.num_classes)
    largest = counts.argmax()
    smallest = np.where(counts, counts, counts.max()).argmin()
    if counts[largest] <= _UNEVEN * counts[smallest]:
        return None
    return (
        f"class {train.class_names[largest]!r} of {train.name} has {counts[largest]:,} images and "
        f"{train.class_names[smallest]!r} has {counts[smallest]:,}"
    )


def _weights_by_name(train, given):
    """The weights in the order of the classes, float64 [num_classes]."""
    given = {str(name): weight for name, weight in given.items()}
    check_distinct(given, "class_weights")
    check_distinct(train.class_names, train.name)
    given = {normalized(name): weight for name, weight in given.items()}
    names = [*map(normalized, train.class_names)]
    missing, unknown = sorted({*names} - {*given}), sorted({*given} - {*names})
    if missing or unknown:
        wrong = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}, which is none of them"
        raise DataError(
            f"class_weights must have a weight for each of the {len(names)} classes of "
            f"{train.name}, and for no other; it {wrong}"
        )
    return np.array([_weight(given[name], f"class {name!r}") for name in names])


def _weight(given, where):
    try:
        weight = float(given)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 < weight < math.inf:
        raise DataError(f"{where} must have a positive number as its weight, got {given!r}")
    return weight
