"""A data set from what a user types."""

import pathlib

from .arrays import digits
from .directory import from_directory
from .labeled_images import DataError, LabeledImages
from .table import from_csv
from .tfds_builder import UnknownNameError, from_tfds


def from_name(
    name: str, *, examples_per_class: int | None = None, examples_per_class_seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """Returns (train, test) of "digits", a folder of class folders, a CSV file or a TFDS name.

    Args:
      name: "digits" is scikit-learn's; what ends in ".csv" goes to `from_csv`; an existing folder,
        and whatever else looks like a path, to `from_directory`; anything else to `from_tfds`.
      examples_per_class: train on so many images a class only (`LabeledImages.few_shot`); the
        digits that are left over are then all tested on.
      examples_per_class_seed: which images those are.

    Raises:
      DataError: as the four do.
    """
    if name == "digits":
        return digits(examples_per_class, seed=examples_per_class_seed)
    looks_like_path = name.startswith((".", "/", "~")) or name.endswith("/")
    if name.lower().endswith(".csv"):
        train, test = from_csv(pathlib.Path(name).expanduser())
    elif looks_like_path or pathlib.Path(name).is_dir():
        train, test = from_directory(pathlib.Path(name).expanduser())
    else:
        try:
            train, test = from_tfds(name)
        except UnknownNameError as error:
            raise DataError(f"there is no folder {name!r}, and {error}") from error
    if examples_per_class is not None:
        train = train.few_shot(examples_per_class, examples_per_class_seed)
    return train, test
