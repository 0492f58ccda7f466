"""A data set from what a user types."""

import contextlib
import os
import pathlib

from ..labeled_images import DataError, LabeledImages
from .arrays import digits
from .csv_file import csv_to_test, from_csv
from .directory import directory_to_test, from_directory
from .tfds import UnknownNameError, from_tfds, tfds_to_test
from .vtab import from_vtab


def from_name(
    name: str, *, examples_per_class: int | None = None, examples_per_class_seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """Returns (train, test) of "digits", a folder, a CSV file, a VTAB task or a TFDS name.

    Args:
      name: "digits" is scikit-learn's; what ends in ".csv" goes to `from_csv`; an existing folder,
        and whatever else looks like a path, to `from_directory`; "vtab/TASK" to `from_vtab`;
        anything else to `from_tfds`.
      examples_per_class: train on so many images a class only (`LabeledImages.few_shot`); the
        digits that are left over are then all tested on.
      examples_per_class_seed: which images those are.

    Raises:
      DataError: as the five do.
    """
    path = pathlib.Path(name).expanduser()
    match _kind(name):
        case "digits":
            return digits(examples_per_class, seed=examples_per_class_seed)
        case "csv":
            train, test = from_csv(path)
        case "folder":
            train, test = from_directory(path)
        case "vtab":
            train, test = from_vtab(name.removeprefix("vtab/"))
        case "tfds":
            with _or_folder(name):
                train, test = from_tfds(name)
    if examples_per_class is not None:
        train = train.few_shot(examples_per_class, examples_per_class_seed)
    return train, test


def evaluation_images(name: str, *, data_dir: str | os.PathLike | None = None) -> LabeledImages:
    """Returns what to test on, of what `from_name` takes.

    Where a data set has test images of its own it is those, and the others are not read: of a
    folder what is in `test/` (`train/` is not needed), of a CSV file the lines marked as test. A
    folder or a CSV file without is tested on whole; of the digits it is what `from_name` tests on.

    Args:
      name: as in `from_name`.
      data_dir: where TFDS keeps its data, `~/tensorflow_datasets` if not given.

    Raises:
      DataError: as `from_name`; or there is nothing to test on.
    """
    path = pathlib.Path(name).expanduser()
    match _kind(name):
        case "digits":
            return digits()[1]
        case "csv":
            return csv_to_test(path)
        case "folder":
            return directory_to_test(path)
        case "vtab":
            return from_vtab(name.removeprefix("vtab/"), data_dir=data_dir)[1]
        case "tfds":
            with _or_folder(name):
                return tfds_to_test(name, data_dir=data_dir)


def _kind(name):
    if name == "digits":
        return name
    if name.lower().endswith(".csv"):
        return "csv"
    looks_like_path = name.startswith((".", "/", "~")) or name.endswith("/")
    if looks_like_path or pathlib.Path(name).is_dir():
        return "folder"
    return "vtab" if name.startswith("vtab/") else "tfds"


@contextlib.contextmanager
def _or_folder(name):
    try:
        yield
    except UnknownNameError as error:
        raise DataError(f"there is no folder {name!r}, and {error}") from error
