"""Labeled images from a table of image files and their classes."""

import csv
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from ..labeled_images import DataError, LabeledImages, require_every_class
from .image_files import from_files

SEPARATOR = "|"  # of the classes of one image


def from_csv(
    path: str | os.PathLike, *, test_fraction: float = 0.2, seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """Reads a CSV file (UTF-8, commas) with a header and a line for each image.

    For instance:

        image,label,split
        pets/rex.jpg,dog,train
        pets/both.jpg,cat|dog,train
        pets/nobody.jpg,,test

    The column `image` has paths, absolute or relative to the CSV file's folder; `label` has class
    names, which in sorted order are the classes. If any line has several, separated by "|", or
    none, the images have multi-hot labels (`LabeledImages.multi_label`). `split`, if there is such
    a column, has `train` or `test`; otherwise `LabeledImages.split` parts the images. Other columns
    are left alone. The images are read and checked as by `from_directory`.

    Args:
      path: the CSV file.
      test_fraction: part of the images that is tested on, where there is no column `split`.
      seed: of that split.

    Returns:
      (train, test).

    Raises:
      DataError: a missing column, a cell that cannot be used, an image that is missing, listed
        twice, broken or in a format that cannot be read, or a class without training images.
    """
    path = pathlib.Path(path).absolute()
    files, labels, class_names, splits = _read_table(path)
    images = from_files(files, labels, class_names, name=path.stem, folder=path.parent)
    if splits[0] is None:
        return images.split(test_fraction, seed)
    train, test = (
        images.subset([i for i, split in enumerate(splits) if split == part], f"{path.stem}/{part}")
        for part in ("train", "test")
    )
    require_every_class(train, "mark images of each class as train, or remove the class")
    return train, test


def csv_to_test(path: str | os.PathLike) -> LabeledImages:
    """Reads the test images of a file for `from_csv`, or all if it has no column `split`.

    The classes are those of all its lines; images to train on are not read.

    Raises:
      DataError: as `from_csv`, or no line is marked as test.
    """
    path = pathlib.Path(path).absolute()
    files, labels, class_names, splits = _read_table(path)
    if splits[0] is None:
        return from_files(files, labels, class_names, name=path.stem, folder=path.parent)
    test = [i for i, split in enumerate(splits) if split == "test"]
    if not test:
        raise DataError(f"{path} marks no image as test; put test into the column split of some")
    return from_files(
        *([files[i] for i in test], labels[test], class_names),
        name=f"{path.stem}/test",
        folder=path.parent,
    )


def _read_table(path):
    """(files, labels, class names, splits or None) of the images, at least one."""
    images, line_of = [], {}
    for line, row in read_rows(path, ("image", "label")):
        where = f"line {line} of {path}"
        file, names, split = _read_row(row, where, path.parent)
        same = os.path.normpath(file)
        if same in line_of:
            raise DataError(
                f"{where} names {file} again, after line {line_of[same]}; give each image "
                f"one line, with all its classes, separated by {SEPARATOR!r}"
            )
        line_of[same] = line
        images.append((file, names, split))
    if not images:
        raise DataError(f"{path} names no images; add a line for each below the first")
    files, names, splits = zip(*images, strict=True)
    class_names = sorted(set().union(*names))
    if not class_names:
        raise DataError(f"no line of {path} names a class; put classes into the column label")
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = np.array([label_of[name] for image in names for name in sorted(image)])
    if any(len(image) != 1 for image in names):
        import scipy.sparse

        starts = np.cumsum([0] + [len(image) for image in names])
        labels = scipy.sparse.csr_array(
            (np.ones(len(labels), bool), labels, starts), shape=(len(names), len(class_names))
        )
    return files, labels, class_names, splits


def _read_row(row, where, folder):
    file = os.path.join(folder, row["image"])
    if not os.path.isfile(file):
        raise DataError(
            f"{where} names an image that does not exist, {file}; give its path from the CSV "
            "file's folder, or an absolute one"
        )
    split = row.get("split")
    if split not in ("train", "test", None):
        raise DataError(f"{where} must have train or test in the column split, got {split!r}")
    return file, {name.strip() for name in row["label"].split(SEPARATOR)} - {""}, split


def read_rows(path: pathlib.Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, {column: cell}) of a CSV file whose header names at least `columns`.

    Raises:
      DataError: no such file, other columns, a line of other cells, or no CSV in UTF-8 at all.
    """
    named = " and ".join(columns)
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a CSV file with the columns {named}")
    try:
        with open(path, encoding="utf-8-sig", newline="") as opened:
            # Strict: a quote that nothing closes would swallow the rest of the file unseen.
            table = csv.DictReader(opened, skipinitialspace=True, strict=True)
            found = [name.strip() for name in table.fieldnames or ()]
            if not {*columns} <= {*found}:
                raise DataError(
                    f"the first line of {path} must name the columns {named}, separated "
                    f"by commas, got {found}"
                )
            table.fieldnames = found
            for row in table:
                if None in row or None in row.values():
                    raise DataError(
                        f"line {table.line_num} of {path} must have a cell for each column that "
                        "the first line names; put a cell with commas into double quotes"
                    )
                yield table.line_num, {column: cell.strip() for column, cell in row.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({error}); save it as one") from error
