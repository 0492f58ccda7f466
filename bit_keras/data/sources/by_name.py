"""A data set from the name or path that a user types."""

import contextlib
import os
import pathlib

from ..labeled_images import DataError, LabeledImages
from .arrays import digits
from .csv_file import csv_test_images, from_csv
from .directory import directory_test_images, from_directory
from .tfds import UnknownNameError, from_tfds, tfds_test_images
from .vtab import from_vtab


def from_name(
    name: str, *, examples_per_class: int | None = None, examples_per_class_seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """Returns (train, test) of "digits", a folder, a CSV file, a VTAB task or a TFDS data set.

    Args:
        name: "digits" is scikit-learn's; a name ending in ".csv" goes to `from_csv`; an existing
            folder, and anything else that looks like a path, to `from_directory`; "vtab/TASK" to
            `from_vtab`; anything else to `from_tfds`.
        examples_per_class: Train on this many images per class only (`LabeledImages.few_shot`). Of
            the digits, all others are then test images.
        examples_per_class_seed: The seed that chooses those images.

    Raises:
        DataError: As these functions do.
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
    """Loads only the test images of a data set that `from_name` takes.

    These are a folder's `test/` (`train/` is not needed), the lines of a CSV file that are marked
    as test, the test split of TFDS or VTAB, or the test images of the digits. Training images are
    not read. Of a folder or a CSV file without a test part, all images are returned.

    Args:
        name: As in `from_name`.
        data_dir: TFDS's data folder, by default `~/tensorflow_datasets`.

    Raises:
        DataError: As `from_name`, or if there are no test images.
    """
    path = pathlib.Path(name).expanduser()
    match _kind(name):
        case "digits":
            return digits()[1]
        case "csv":
            return csv_test_images(path)
        case "folder":
            return directory_test_images(path)
        case "vtab":
            return from_vtab(name.removeprefix("vtab/"), data_dir=data_dir)[1]
        case "tfds":
            with _or_folder(name):
                return tfds_test_images(name, data_dir=data_dir)


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
