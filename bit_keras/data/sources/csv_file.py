"""Labeled images from a CSV file of image paths and classes."""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...files import expanded
from ..labeled_images import DataError, LabeledImages, check_every_class
from .image_files import from_files, grouped_by

if TYPE_CHECKING:
    import scipy.sparse

SEPARATOR = "|"  # between the classes of one image


def from_csv(
    path: str | os.PathLike,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    bad_images: str = "error",
    group_by: str | None = None,
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
    `train`, `test` or `validation` (`train.validation`); without it, `LabeledImages.split` splits
    the images by `test_fraction` and `seed`. The optional column `group` names what must stay on
    one side of that split: a patient, a video. Other columns are ignored. The images are read and
    checked, and `bad_images` and `group_by` taken, as in `from_directory`.

    Raises:
        DataError: If a column is missing, a cell has a wrong value, an image is missing, listed
            twice, broken or in an unsupported format, or a class has no training images.
    """
    path = pathlib.Path(expanded(path)).absolute()
    table = _read_table(path)
    images = _images_of(table, path.stem, path.parent, bad_images)
    if group_by is not None:
        images = grouped_by(images, group_by, path.parent)
    if table.splits is None:
        return images.split(test_fraction, seed)
    split_of = dict(zip(table.files, table.splits, strict=True))
    splits = np.array([split_of[file] for file in images.files])
    train, test, validation = (
        images.subset(np.flatnonzero(splits == part), f"{path.stem}/{part}")
        if part in splits or part in ("train", "test")
        else None
        for part in ("train", "test", "validation")
    )
    check_every_class(train, "mark images of each class as train, or remove the class")
    return dataclasses.replace(train, validation=validation), test


def csv_test_images(path: str | os.PathLike, *, bad_images: str = "error") -> LabeledImages:
    """Reads the test images of a file for `from_csv`, or all if it has no column `split`.

    The classes are those of all lines; training images are not read. Raises DataError as `from_csv`
    does, or if no line is marked as test.
    """
    path = pathlib.Path(path).absolute()
    table, name = _read_table(path), path.stem
    if table.splits is not None:
        test = [i for i, split in enumerate(table.splits) if split == "test"]
        if not test:
            raise DataError(
                f"{path} marks no image as test; put test into the column split of some"
            )
        files, name = [table.files[i] for i in test], f"{name}/test"
        table = table._replace(files=files, labels=table.labels[test], groups=None)
    return _images_of(table, name, path.parent, bad_images)


class _Table(NamedTuple):
    """What a file says of its images, at least one."""

    files: Sequence[str]
    labels: "np.ndarray | scipy.sparse.csr_array"
    class_names: Sequence[str]
    splits: Sequence[str] | None
    groups: Sequence[str] | None


def _images_of(table, name, folder, bad_images):
    options = {"name": name, "folder": folder, "bad_images": bad_images}
    images = from_files(table.files, table.labels, table.class_names, **options)
    if table.groups is None:
        return images
    group_of = dict(zip(table.files, table.groups, strict=True))
    groups = np.array([group_of[file] for file in images.files], object)
    return dataclasses.replace(images, groups=groups)


def _read_table(path):
    images, line_of = [], {}
    for line, row in read_rows(path, ("image", "label")):
        where = f"line {line} of {path}"
        file = os.path.join(path.parent, expanded(row["image"]))
        if not os.path.isfile(file):
            raise DataError(
                f"{where} names an image that does not exist, {file}; give its path from the CSV "
                "file's folder, or an absolute one"
            )
        split = row.get("split")
        if split not in ("train", "test", "validation", None):
            raise DataError(
                f"{where} must have train, test or validation in the column split, got {split!r}"
            )
        same = os.path.normpath(file)
        if same in line_of:
            raise DataError(
                f"{where} names {file} again, after line {line_of[same]}; give each image "
                f"one line, with all its classes, separated by {SEPARATOR!r}"
            )
        line_of[same] = line
        names = {name.strip() for name in row["label"].split(SEPARATOR)} - {""}
        images.append((file, names, split, row.get("group")))
    if not images:
        raise DataError(f"{path} names no images; add a line for each below the first")
    files, names, splits, groups = zip(*images, strict=True)
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
    known = (column if column[0] is not None else None for column in (splits, groups))
    return _Table(files, labels, class_names, *known)


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
