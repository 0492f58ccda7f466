"""A data set from the name or path that a user types."""

import contextlib
import functools
import os
import pathlib

from ...files import expanded
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
    if name == "digits":
        return digits(examples_per_class, seed=examples_per_class_seed)
    read, _ = _readers(name, None)
    with _or_folder(name):
        train, test = read()
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
    if name == "digits":
        return digits()[1]
    _, read_test = _readers(name, data_dir)
    with _or_folder(name):
        return read_test()


def labeled_images(images: object, what: str) -> LabeledImages:
    """Returns images that a public function was given, by whatever a user may mean by them.

    Raises DataError unless they are `LabeledImages`, or the name or path of a data set, whose test
    images are then read.

    Args:
        images: What was given.
        what: What to call it in the message.
    """
    if isinstance(images, LabeledImages):
        return images
    if isinstance(images, str | os.PathLike):
        return evaluation_images(os.fspath(images))
    if isinstance(images, tuple) and images and isinstance(images[0], LabeledImages):
        raise DataError(f"{what} is the pair (train, test); unpack it and give one of them")
    kind = type(images).__name__
    raise DataError(
        f"{what} must be labeled images, which are read by index, and not a {kind}; make them by "
        "bit_keras.data.from_arrays, from_directory, from_csv or from_tfds"
    )


def _readers(name, data_dir):
    """Returns, for what a user types, a function of (train, test) and one of the test images."""
    path = pathlib.Path(expanded(name))
    if name.lower().endswith(".csv"):
        return lambda: from_csv(path), lambda: csv_test_images(path)
    looks_like_path = name.startswith((".", "/", "~")) or name.endswith("/")
    if looks_like_path or path.is_dir():
        return lambda: from_directory(path), lambda: directory_test_images(path)
    if name.startswith("vtab/"):
        read = functools.partial(from_vtab, name.removeprefix("vtab/"), data_dir=data_dir)
        return read, lambda: read()[1]
    return (
        lambda: from_tfds(name, data_dir=data_dir),
        lambda: tfds_test_images(name, data_dir=data_dir),
    )


@contextlib.contextmanager
def _or_folder(name):
    try:
        yield
    except UnknownNameError as error:
        raise DataError(f"there is no folder {name!r}, and {error}") from error
