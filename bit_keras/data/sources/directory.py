"""Labeled images from a folder of class folders."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from ...files import expanded
from ..labeled_images import DataError, LabeledImages
from .checking import check_images
from .finding import folders_below, is_folder, visible
from .image_files import from_files, grouped_by, say_left_out
from .pillow_images import is_image

# Usual names of the folders of a set's parts, in lower case.
_ROLES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
}
_CLUTTER = ("Thumbs.db", "desktop.ini")  # which systems leave in every folder


def from_directory(
    path: str | os.PathLike,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    bad_images: str = "error",
    group_by: str | None = None,
) -> tuple[LabeledImages, LabeledImages]:
    """Returns (train, test) from `path/CLASS/*.jpg`, or from such folders in `train` and `test`.

    The classes are the names of the class folders, sorted; images in folders below a class folder
    are of that class. If `path` has both a `train` and a `test` folder, those are used as they are
    (a class may lack test images, not training images), and a `validation` folder is
    `train.validation`; it takes the place of a missing `test`. They may also be called Training,
    Testing, val or valid, lie in every class folder (`path/CLASS/train`), and folders around the
    whole set may contain nothing else. Otherwise every class is split by `LabeledImages.split`.

    All that Pillow reads is taken, of animations the first frame: upright by their EXIF
    orientation, transparency over white, 16 bits as 8. A file without suffix is an image if it
    begins as one. Links are followed and hidden files and folders ignored; how many other files are
    left out is printed.

    Every image is decoded once before this returns, so that a broken file is found before training
    starts; none is kept in memory.

    Args:
        path: The folder; `~` and environment variables are replaced.
        test_fraction, seed: As in `LabeledImages.split`.
        bad_images: "error" to list all images that cannot be read, of all parts, and stop; "skip"
            to leave them out (`LabeledImages.skipped`).
        group_by: A regular expression that finds in an image's path, below `path`, what must stay
            on one side of a split: a patient, a video. That is its first group in parentheses, or
            all that it matches.

    Raises:
        DataError: If there are no images, a class has none, a test class has no training images,
            or an image is broken or in an unsupported format (HEIC, ...).
    """
    root, parts = _open(path)
    first = parts["all" if "all" in parts else "train"]
    for part in parts.values():
        if unknown := sorted({*part.names} - {*first.names}):
            raise DataError(
                f"{part.title} has classes that {first.title} lacks ({', '.join(unknown)}); "
                "a model can only be tested on classes it was trained on: add images of them to "
                f"{first.title}"
            )
    read = _read(root, parts, first.names, bad_images, group_by)
    if "all" in read:
        return read["all"].split(test_fraction, seed)
    return read["train"], read["test"]


def directory_test_images(path: str | os.PathLike, *, bad_images: str = "error") -> LabeledImages:
    """Reads `path/test/CLASS/*.jpg`, or all of `path/CLASS/*.jpg` if there is no `test`.

    The images are read and checked as in `from_directory`. A folder `train` is not needed; if there
    is one, its class folders are classes too, but its images are not read.
    """
    root, parts = _open(path, tests_only=True)
    part = "test" if "test" in parts else "all"
    names = sorted({name for one in parts.values() for name in one.names})
    return _read(root, {part: parts[part]}, names, bad_images, None)[part]


class _Part(NamedTuple):
    """One part of a set: what to call it, the folder around it, and the folder of each class."""

    title: str
    folder: pathlib.Path
    folders: Mapping[str, pathlib.Path]

    @property
    def names(self):
        return list(self.folders)


def _open(path, tests_only=False):
    """(The innermost folder which contains more than one folder of folders, {part: _Part}).

    The parts are "all", or "train" and "test" and maybe "validation"; for tests alone "test" may
    stand without "train".
    """
    path = pathlib.Path(expanded(path)).absolute()
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give a folder of class folders")
    folders = _folders(path)
    while len(folders) == 1 and folders[0].lower() not in _ROLES and _is_wrapper(path):
        path = path / folders[0]
        folders = _folders(path)
    roles = {_ROLES[name.lower()]: name for name in folders if name.lower() in _ROLES}
    others = len(folders) - len(roles)
    if others and not {"train", "test"} <= roles.keys():
        roles = {}  # classes that happen to be called so, among others
    if roles and (found := _parts_of_roles(path, roles, tests_only)):
        return path, found
    return path, _parts_of_classes(path, folders)


def _parts_of_roles(path, roles, tests_only):
    """The parts that are folders of class folders, `path/train/CLASS`."""
    if "test" not in roles and "validation" in roles:
        roles = {**roles, "test": roles["validation"]}
        del roles["validation"]
    if roles.keys() == {"train"}:
        raise DataError(
            f"{path} holds {roles['train']} and no test; put the images to test on into a folder "
            f"test beside it, or give {path / roles['train']}, of which a part is then tested on"
        )
    if "train" not in roles and not tests_only:
        return None  # a class that is called test
    return {
        role: _Part(
            f"{path.name}/{name}",
            path / name,
            {c: path / name / c for c in _folders(path / name)},
        )
        for role, name in roles.items()
    }


def _parts_of_classes(path, classes):
    """The parts that are folders in every class folder, `path/CLASS/train`, or all in one."""
    roles_of = {c: {_ROLES.get(f.lower()): f for f in _folders(path / c)} for c in classes}
    roles = set.union(*map(set, roles_of.values())) if roles_of else set()
    loose = any(is_image(e.path) for c in classes for e in visible(path / c) if not is_folder(e))
    if "train" in roles and roles & {"test", "validation"} and None not in roles and not loose:
        if "test" not in roles:
            for known in roles_of.values():
                known["test"] = known.pop("validation", None)
            roles = {"train", "test"}
        return {
            role: _Part(
                f"{path.name}/{role}",
                path,
                {c: path / c / known[role] for c, known in roles_of.items() if known.get(role)},
            )
            for role in sorted(roles)
        }
    return {"all": _Part(path.name, path, {c: path / c for c in classes})}


def _is_wrapper(path):
    """Whether a folder holds no images, and its one folder holds folders and no images."""
    (inner,) = _folders(path)
    files = [e for folder in (path, path / inner) for e in visible(folder) if not is_folder(e)]
    return not any(is_image(e.path) for e in files) and bool(_folders(path / inner))


def _folders(path):
    return [e.name for e in visible(path) if is_folder(e)]


def _files_below(folder):
    """The visible files in a folder, then those in the folders in it."""
    return [e.path for _, entries in folders_below(folder) for e in entries if not is_folder(e)]


def _read(root, parts, class_names, bad_images, group_by):
    """{part: its images}; all files are checked before the first is refused."""
    others = [e.path for e in visible(root) if not is_folder(e)]  # images too: they have no class
    found = {name: _labeled_files(part, class_names, others) for name, part in parts.items()}
    say_left_out(root.name, sorted({f for f in others if os.path.basename(f) not in _CLUTTER}))
    facts = check_images([f for files, _ in found.values() for f in files], root, bad_images)
    read, start = {}, 0
    for name, (files, labels) in found.items():
        part, stop = parts[name], start + len(files)
        options = {"name": part.title, "folder": part.folder, "facts": facts[start:stop]}
        read[name] = from_files(files, labels, class_names, **options)
        if group_by is not None:
            read[name] = grouped_by(read[name], group_by, root)
        start = stop
    if "validation" in read:
        read["train"] = dataclasses.replace(read["train"], validation=read.pop("validation"))
    return read


def _labeled_files(part, class_names, others):
    """(The images of a part, their labels); other files are added to `others`."""
    if not part.folders:
        loose = sum(is_image(e.path) for e in visible(part.folder))
        raise DataError(
            f"{part.folder} holds no class folders{f' but {loose} images' if loose else ''}; put "
            f"the images of each class into a folder of its own, {part.folder}/CLASS/*.jpg"
        )
    others += [e.path for e in visible(part.folder) if not is_folder(e)]
    files, labels = [], []
    label_of = {name: label for label, name in enumerate(class_names)}
    for name, folder in part.folders.items():
        below = _files_below(os.fspath(folder))
        images = [file for file in below if is_image(file)]
        if not images:
            what = f", but {len(below)} other files, the first being {below[0]}" if below else ""
            raise DataError(
                f"the class folder {folder} holds no images{what}; put images into it (JPEG, PNG, "
                f"TIFF, ...){'' if below else ' or remove it'}"
            )
        others += sorted({*below} - {*images})
        files += images
        labels += [label_of[name]] * len(images)
    return files, labels
