"""Which of a model's classes are right for the classes of labeled images."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..checkpoints import DownloadError
from ..data import LabeledImages, accepted_classes
from ..models.imagenet_classes import synsets
from .opened_model import OpenedModel


def matched_classes(
    images: LabeledImages, opened: OpenedModel, class_map: Mapping[str, Sequence[str]] | None
) -> np.ndarray:
    """Finds which of a model's classes are right for which of the images' classes.

    The model's are known by name, or as those of ImageNet, or not at all. `class_map`: as in
    `evaluate`.

    Returns:
        bool [number of the images' classes, number of the model's], as `data.accepted_classes`.

    Raises:
        DataError: If classes cannot be matched.
        DownloadError: If the names of ImageNet's classes are needed, and cannot be fetched.
    """
    names = images.class_names
    if opened.spec.class_names:
        return accepted_classes(names, opened.spec.class_names, class_map)
    number, published = opened.spec.num_classes, opened.spec.published
    alike = class_map is None and len(names) == number
    try:
        known = [synset.aliases for synset in synsets(number) or ()]
    except DownloadError:
        in_numbers = class_map and all(
            name.isdecimal() for right in class_map.values() for name in right
        )
        if not in_numbers and (published or not alike):
            raise
        known = []
    of_imagenet = known and (published or any(set(names) & set(aliases) for aliases in known))
    if alike and not of_imagenet:  # names unknown: assume the same classes in the same order
        return np.eye(number, dtype=bool)
    return accepted_classes(names, known or [str(label) for label in range(number)], class_map)


def is_one_to_one(accepted: np.ndarray) -> bool:
    """Whether each class of the images is one of the model's, and no two the same one."""
    return bool((accepted.sum(axis=1) == 1).all() and (accepted.sum(axis=0) <= 1).all())


def check_one_to_one(images: LabeledImages, accepted: np.ndarray) -> None:
    """Raises ValueError unless each class of the images is another one of the model's."""
    if not is_one_to_one(accepted):
        raise ValueError(
            f"{images.name} has several labels an image, so each of its classes must be one of the "
            "model's, and no two the same; map each to one."
        )


def without_classes(images: LabeledImages, unknown: np.ndarray) -> LabeledImages:
    """Returns the images of all classes but the `unknown`, bool [number of classes]."""
    if images.multi_label:
        raise ValueError(
            f"the model does not know {unknown.sum():,} of the {len(unknown):,} classes of "
            f"{images.name}, and images of several labels cannot be left out; map every class."
        )
    kept = np.flatnonzero(~unknown[images.labels])
    if not kept.size:
        raise ValueError(
            f"no image of {images.name} is of a class that the model knows; map more classes."
        )
    labels = (np.cumsum(~unknown) - 1)[images.labels[kept]]
    names = np.array(images.class_names, object)[~unknown]
    return dataclasses.replace(images.subset(kept), labels=labels, class_names=names)
