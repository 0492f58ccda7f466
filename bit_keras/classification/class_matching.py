"""Which of a model's classes are right for the classes of labeled images."""

import dataclasses

import numpy as np

from ..checkpoints import DownloadError
from ..data import accepted_classes
from ..models.imagenet_classes import synsets
from ..models.published import PUBLISHED


def matched_classes(images, opened, class_map):
    """Which of the model's classes are right for which of the images', as `accepted_classes`."""
    names = images.class_names
    if opened.class_names:
        return accepted_classes(names, opened.class_names, class_map)
    number = opened.classifier.num_classes
    published = opened.title in PUBLISHED
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
    if alike and not of_imagenet:  # nobody knows the model's classes, so they must be the same
        return np.eye(number, dtype=bool)
    return accepted_classes(names, known or [str(label) for label in range(number)], class_map)


def one_to_one(accepted):
    return (accepted.sum(axis=1) == 1).all() and (accepted.sum(axis=0) <= 1).all()


def check_one_to_one(images, accepted):
    if not one_to_one(accepted):
        raise ValueError(
            f"{images.name} has several labels an image, so each of its classes must be one of the "
            "model's, and no two the same; map each to one."
        )


def without_classes(images, unknown):
    """The images of all other classes, and their classes only."""
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
    new_label = np.cumsum(~unknown) - 1
    rest = images.subset(kept)
    names = [name for name, gone in zip(images.class_names, unknown, strict=True) if not gone]
    return dataclasses.replace(rest, labels=new_label[rest.labels], class_names=names)
