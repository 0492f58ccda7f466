"""Labeled images from a folder of class folders."""

import os
import pathlib

from ...files import expanded
from ..labeled_images import DataError, LabeledImages
from .image_files import READABLE, UNREADABLE, from_files

# Usual names of the folders of a set's parts, in lower case.
_ROLES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
}


def from_directory(
    path: str | os.PathLike, *, test_fraction: float = 0.2, seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """Returns (train, test) from `path/CLASS/*.jpg`, or from such folders in `train` and `test`.

    The classes are the names of the class folders, sorted. If `path` has both a `train` and a
    `test` folder, those are used as they are (a class may lack test images, not training images);
    a `validation` folder takes the place of a missing `test`. They may also be called Training,
    Testing, val or valid, and folders around the whole set may contain nothing else. Otherwise
    every class is split by `LabeledImages.split`, with `test_fraction` and `seed`. JPEG,
    PNG, BMP, WebP and the first frame of a GIF are read and turned upright by their EXIF
    orientation. Links are followed; hidden files and folders and files that are not images are
    ignored.

    Every image is decoded once before this returns, so that a broken file is found before training
    starts; none is kept in memory.

    Raises:
        DataError: If there are no images, a class has none, a test class has no training images,
            or an image is broken or in an unsupported format (HEIC, TIFF, ...).
    """
    path, folders, parts = _open(path)
    if "train" not in parts or "test" not in parts:
        return _read(path, path.name, folders, folders).split(test_fraction, seed)
    train, test = path / parts["train"], path / parts["test"]
    train_classes, test_classes = _class_folders(train), _class_folders(test)
    unknown = sorted(set(test_classes) - set(train_classes))
    if unknown:
        raise DataError(
            f"{test} has classes that {train} lacks ({', '.join(unknown)}); "
            "a model can only be tested on classes it was trained on"
        )
    return (
        _read(train, f"{path.name}/{train.name}", train_classes, train_classes),
        _read(test, f"{path.name}/{test.name}", test_classes, train_classes),
    )


def directory_test_images(path: str | os.PathLike) -> LabeledImages:
    """Reads `path/test/CLASS/*.jpg`, or all of `path/CLASS/*.jpg` if there is no `test`.

    The images are read and checked as in `from_directory`. A folder `train` is not needed; if there
    is one, its class folders are classes too, but its images are not read.
    """
    path, folders, parts = _open(path)
    if "test" not in parts:
        return _read(path, path.name, folders, folders)
    test = path / parts["test"]
    test_classes = _class_folders(test)
    train_classes = _class_folders(path / parts["train"]) if "train" in parts else []
    class_names = sorted({*train_classes, *test_classes})
    return _read(test, f"{path.name}/{test.name}", test_classes, class_names)


def _open(path):
    """(The absolute path, the folders in it, {"train" or "test": its folder}).

    The path is that of the innermost folder which contains nothing but one folder of folders.
    """
    path = pathlib.Path(expanded(path)).absolute()
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give a folder of class folders")
    folders = _class_folders(path)
    while len(folders) == 1 and folders[0].lower() not in _ROLES and _is_wrapper(path):
        path = path / folders[0]
        folders = _class_folders(path)
    parts = {_ROLES[name.lower()]: name for name in folders if name.lower() in _ROLES}
    validation = parts.pop("validation", None)
    others = len(folders) - len(parts) - bool(validation)
    if validation and not others:
        parts.setdefault("test", validation)
    if others and not {"train", "test"} <= parts.keys():
        parts = {}  # classes that happen to be called so, among others
    if parts.keys() == {"train"} and folders == [parts["train"]]:
        raise DataError(
            f"{path} holds {folders[0]} and no test; put the images to test on into a folder test "
            f"beside it, or give {path / folders[0]}, of which a part is then tested on"
        )
    return path, folders, parts


def _is_wrapper(path):
    """Whether a folder holds no images, and its one folder holds folders and no images."""
    (inner,) = _class_folders(path)
    files = [e for folder in (path, path / inner) for e in _visible(folder) if not e.is_dir()]
    images = any(pathlib.Path(e.path).suffix.lower() in READABLE | UNREADABLE for e in files)
    return not images and bool(_class_folders(path / inner))


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
