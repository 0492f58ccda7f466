"""Labeled images from a folder of class folders."""

import os
import pathlib

from ..labeled_images import DataError, LabeledImages
from .image_files import READABLE, UNREADABLE, from_files

VALIDATION = ("val", "valid", "validation")  # usual names of a validation folder


def from_directory(
    path: str | os.PathLike, *, test_fraction: float = 0.2, seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """Returns (train, test) from `path/CLASS/*.jpg`, or from such folders in `train` and `test`.

    The classes are the names of the class folders, sorted. If `path` has both a `train` and a
    `test` folder, those are used as they are (a class may lack test images, not training images);
    otherwise every class is split by `LabeledImages.split`, with `test_fraction` and `seed`. JPEG,
    PNG, BMP, WebP and the first frame of a GIF are read and turned upright by their EXIF
    orientation. Links are followed; hidden files and folders and files that are not images are
    ignored.

    Every image is decoded once before this returns, so that a broken file is found before training
    starts; none is kept in memory.

    Raises:
        DataError: If there are no images, a class has none, a test class has no training images,
            or an image is broken or in an unsupported format (HEIC, TIFF, ...).
    """
    path, folders = _open(path)
    if not {"train", "test"} <= {*folders}:
        return _read(path, path.name, folders, folders).split(test_fraction, seed)

    train_classes, test_classes = _class_folders(path / "train"), _class_folders(path / "test")
    unknown = sorted(set(test_classes) - set(train_classes))
    if unknown:
        raise DataError(
            f"{path / 'test'} has classes that {path / 'train'} lacks ({', '.join(unknown)}); "
            "a model can only be tested on classes it was trained on"
        )
    return (
        _read(path / "train", f"{path.name}/train", train_classes, train_classes),
        _read(path / "test", f"{path.name}/test", test_classes, train_classes),
    )


def directory_test_images(path: str | os.PathLike) -> LabeledImages:
    """Reads `path/test/CLASS/*.jpg`, or all of `path/CLASS/*.jpg` if there is no `test`.

    The images are read and checked as in `from_directory`. A folder `train` is not needed; if there
    is one, its class folders are classes too, but its images are not read.
    """
    path, folders = _open(path)
    if "test" not in folders or not ("train" in folders or {*folders} <= {"test", *VALIDATION}):
        return _read(path, path.name, folders, folders)
    test_classes = _class_folders(path / "test")
    train_classes = _class_folders(path / "train") if "train" in folders else []
    class_names = sorted({*train_classes, *test_classes})
    return _read(path / "test", f"{path.name}/test", test_classes, class_names)


def _open(path):
    """(The absolute path, the folders in it); an error if there are no test images."""
    path = pathlib.Path(path).absolute()
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give a folder of class folders")
    folders = _class_folders(path)
    if "train" in folders and {*folders} <= {"train", *VALIDATION}:
        raise DataError(
            f"{path} holds {' and '.join(folders)} and no test; rename the folder to test "
            "on to test, or give a folder of class folders"
        )
    return path, folders


def _visible(folder):
    visible = (e for e in os.scandir(folder) if not e.name.startswith((".", "__MACOSX")))
    return sorted(visible, key=lambda e: e.name)


def _class_folders(path):
    return [e.name for e in _visible(path) if e.is_dir()]


def _read(path, name, folders, class_names):
    """The images in `path/FOLDER`, labeled by the folder's index in `class_names`."""
    if not folders:
        loose = sum(pathlib.Path(e.path).suffix.lower() in READABLE for e in _visible(path))
        raise DataError(
            f"{path} holds no class folders{f' but {loose} images' if loose else ''}; put the "
            f"images of each class into a folder of its own, {path}/CLASS/*.jpg"
        )
    files, labels = [], []
    for folder in folders:
        entries = [e.path for e in _visible(path / folder) if not e.is_dir()]
        images = [e for e in entries if pathlib.Path(e).suffix.lower() in READABLE | UNREADABLE]
        if not images:
            raise DataError(
                f"the class folder {path / folder} holds no images; put images "
                f"({', '.join(sorted(READABLE))}) directly into it or remove it"
            )
        files += images
        labels += [class_names.index(folder)] * len(images)
    return from_files(files, labels, class_names, name=name, folder=path)
