"""Labeled images from a CSV file of image paths and classes."""

import csv
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from ...files import expanded
from ..labeled_images import DataError, LabeledImages, check_every_class
from .image_files import from_files

SEPARATOR = "|"  # between the classes of one image


def from_csv(
    path: str | os.PathLike, *, test_fraction: float = 0.2, seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """Returns (train, test) from a CSV file (UTF-8, commas) with a header and a line per image.

    For instance:

        image,label,split
        pets/rex.jpg,dog,train
        pets/both.jpg,cat|dog,train
        pets/nobody.jpg,,test

    The column `image` has paths, absolute or relative to the CSV file's folder. The column `label`
    has class names; sorted, they are the classes. If any line has several, separated by "|", or
    none, the labels are multi-hot (`LabeledImages.multi_label`). The optional column `split` has
    `train` or `test`; without it, `LabeledImages.split` splits the images by `test_fraction` and
    `seed`. Other columns are ignored. The images are read and checked as in `from_directory`.

    Raises:
        DataError: If a column is missing, a cell has a wrong value, an image is missing, listed
            twice, broken or in an unsupported format, or a class has no training images.
    """
    path = pathlib.Path(expanded(path)).absolute()
    files, labels, class_names, splits = _read_table(path)
    images = from_files(files, labels, class_names, name=path.stem, folder=path.parent)
    if splits[0] is None:
        return images.split(test_fraction, seed)
    train, test = (
        images.subset([i for i, split in enumerate(splits) if split == part], f"{path.stem}/{part}")
        for part in ("train", "test")
    )
    check_every_class(train, "mark images of each class as train, or remove the class")
    return train, test


def csv_test_images(path: str | os.PathLike) -> LabeledImages:
    """Reads the test images of a file for `from_csv`, or all if it has no column `split`.

    The classes are those of all lines; training images are not read. Raises DataError as `from_csv`
    does, or if no line is marked as test.
    """
    path = pathlib.Path(path).absolute()
    files, labels, class_names, splits = _read_table(path)
    name = path.stem
    if splits[0] is not None:
        test = [i for i, split in enumerate(splits) if split == "test"]
        if not test:
            raise DataError(
                f"{path} marks no image as test; put test into the column split of some"
            )
        files, labels, name = [files[i] for i in test], labels[test], f"{name}/test"
    return from_files(files, labels, class_names, name=name, folder=path.parent)


def _read_table(path):
    """(files, labels, class names, splits or Nones) of the images, at least one."""
    images, line_of = [], {}
    for line, row in read_rows(path, ("image", "label")):
        where = f"line {line} of {path}"
        file = os.path.join(path.parent, row["image"])
        if not os.path.isfile(file):
            raise DataError(
                f"{where} names an image that does not exist, {file}; give its path from the CSV "
                "file's folder, or an absolute one"
            )
        split = row.get("split")
        if split not in ("train", "test", None):
            raise DataError(f"{where} must have train or test in the column split, got {split!r}")
        same = os.path.normpath(file)
        if same in line_of:
            raise DataError(
                f"{where} names {file} again, after line {line_of[same]}; give each image "
                f"one line, with all its classes, separated by {SEPARATOR!r}"
            )
        line_of[same] = line
        names = {name.strip() for name in row["label"].split(SEPARATOR)} - {""}
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


def read_rows(path: pathlib.Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, {column: cell}) of a CSV file whose header has at least `columns`.

    Raises DataError if there is no such file, a column is missing, a line has too few or too many
    cells, or the file is not CSV in UTF-8.
    """
    named = " and ".join(columns)
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a CSV file with the columns {named}")
    try:
        with open(path, encoding="utf-8-sig", newline="") as opened:
            # Strict, because an unclosed quote would make the rest of the file one cell.
            table = csv.DictReader(opened, skipinitialspace=True, strict=True)
            found = [name.strip() for name in table.fieldnames or ()]
            if not {*columns} <= {*found}:
                raise DataError(
                    f"the first line of {path} must name the columns {named}, separated by commas, "
                    f"got {found}"
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
