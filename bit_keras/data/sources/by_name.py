"""A data set from the name or path that a user types."""

import contextlib
import dataclasses
import functools
import numbers
import os
import pathlib
from typing import TypeVar

from ...files import expanded
from ..boxed_images import BoxedImages
from ..labeled_images import DataError, LabeledImages
from .arrays import digits
from .csv_file import csv_test_images, from_csv
from .directory import directory_test_images, from_directory
from .tfds import from_tfds, tfds_test_images
from .tfds_builders import UnknownNameError
from .vtab import from_vtab

Images = TypeVar("Images", LabeledImages, BoxedImages)


def from_name(
    name: str,
    *,
    examples_per_class: int | None = None,
    examples_per_class_seed: int = 0,
    bad_images: str = "error",
    group_by: str | None = None,
) -> tuple[LabeledImages, LabeledImages]:
    """Returns (train, test) of "digits", a folder, a CSV file, a VTAB task or a TFDS data set.

    Args:
        name: "digits" is scikit-learn's; a name ending in ".csv" goes to `from_csv`; an existing
            folder, and anything else that looks like a path, to `from_directory`; "vtab/TASK" to
            `from_vtab`; anything else to `from_tfds`.
        examples_per_class: Train on this many images per class only (`LabeledImages.few_shot`). Of
            the digits, all others are then test images.
        examples_per_class_seed: The seed that chooses those images.
        bad_images, group_by: As in `from_directory`, for a folder or a CSV file; other sets ignore
            the former and refuse the latter.

    Raises:
        DataError: As these functions do.
    """
    if group_by is not None and not _is_of_files(name):
        raise DataError(
            f"group_by finds groups in paths, and {name} is no folder or CSV file: leave it out"
        )
    if name == "digits":
        return digits(examples_per_class, seed=examples_per_class_seed)
    read, _ = _readers(name, bad_images=bad_images, group_by=group_by)
    with _or_folder(name):
        train, test = read()
    if examples_per_class is not None:
        train = train.few_shot(examples_per_class, examples_per_class_seed)
    return train, test


def evaluation_images(
    name: str, *, data_dir: str | os.PathLike | None = None, bad_images: str = "error"
) -> LabeledImages:
    """Loads only the test images of a data set that `from_name` takes.

    These are a folder's `test/` (`train/` is not needed), the lines of a CSV file that are marked
    as test, the test split of TFDS or VTAB, or the test images of the digits. Training images are
    not read. Of a folder or a CSV file without a test part, all images are returned.

    Args:
        name: As in `from_name`.
        data_dir: TFDS's data folder, by default `~/tensorflow_datasets`.
        bad_images: As in `from_name`.

    Raises:
        DataError: As `from_name`, or if there are no test images.
    """
    if name == "digits":
        return digits()[1]
    _, read_test = _readers(name, data_dir, bad_images=bad_images)
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


def with_validation(
    train: Images, validation: LabeledImages | BoxedImages | str | float | None
) -> Images:
    """Returns images to train on with images to choose a model by.

    Args:
        train: The images to train on, labeled or boxed.
        validation: Such images, or of labeled images a folder or name as `evaluation_images` takes
            it; or the part of `train` to set aside, in (0, 1), as its `split` does, or such a
            number as text. None leaves `train` as its source made it.

    Raises:
        DataError: If there is no such set, or it cannot be set aside.
    """
    if validation is None:
        return train
    if isinstance(validation, str):
        with contextlib.suppress(ValueError):
            validation = float(validation)
    if isinstance(validation, numbers.Real):
        if not 0 < validation < 1:
            raise DataError(
                f"validation must be a part of the images, in (0, 1), or images, got {validation}"
            )
        train, validation = train.split(validation, second="validation")
        return dataclasses.replace(train, validation=validation)
    if not isinstance(train, BoxedImages):
        validation = labeled_images(validation, "validation")
    elif not isinstance(validation, BoxedImages):
        raise DataError(
            "validation must be boxed images, or the part of the training images to set aside, in "
            f"(0, 1), got {validation!r}"
        )
    return dataclasses.replace(train, validation=validation)


def _is_of_files(name):
    """Whether a name is that of a folder or a CSV file."""
    looks_like_path = name.startswith((".", "/", "~")) or name.endswith(("/", ".csv", ".CSV"))
    return looks_like_path or os.path.isdir(expanded(name))


def _readers(name, data_dir=None, **of_files):
    """Returns, for what a user types, a function of (train, test) and one of the test images."""
    path, bad_images = pathlib.Path(expanded(name)), {"bad_images": of_files["bad_images"]}
    if name.lower().endswith(".csv"):
        return lambda: from_csv(path, **of_files), lambda: csv_test_images(path, **bad_images)
    if _is_of_files(name):
        return (
            lambda: from_directory(path, **of_files),
            lambda: directory_test_images(path, **bad_images),
        )
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
