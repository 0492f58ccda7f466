"""A data set from what a user types."""

import pathlib

from .arrays import digits
from .directory import from_directory
from .labeled_images import DataError, LabeledImages
from .tfds_builder import from_tfds


def from_name(
    name: str, *, examples_per_class: int | None = None, examples_per_class_seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """Returns (train, test) of "digits", of a folder of class folders, or of a TFDS name.

    Args:
      name: "digits" is scikit-learn's; an existing folder, and whatever looks like a path, goes to
        `from_directory`; anything else to `from_tfds`.
      examples_per_class: train on so many images a class only (`LabeledImages.few_shot`); the
        digits that are left over are then all tested on.
      examples_per_class_seed: which images those are.

    Raises:
      DataError: as the three do.
    """
    if name == "digits":
        return digits(examples_per_class, seed=examples_per_class_seed)
    looks_like_path = name.startswith((".", "/", "~")) or name.endswith("/")
    if looks_like_path or pathlib.Path(name).is_dir():
        train, test = from_directory(pathlib.Path(name).expanduser())
    else:
        try:
            train, test = from_tfds(name)
        except DataError as error:
            raise DataError(f"there is no folder {name!r}, and {error}") from error
    if examples_per_class is not None:
        train = train.few_shot(examples_per_class, examples_per_class_seed)
    return train, test
