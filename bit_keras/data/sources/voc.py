"""Boxed images from a folder in the layout of Pascal VOC."""

import math
import os
import pathlib
import xml.etree.ElementTree

from ...files import expanded
from ..boxed_images import BoxedImages
from ..labeled_images import DataError
from .annotations import Annotations, boxed_sets, numbers, read_text, train_and_test
from .pillow_images import is_image

_ANNOTATIONS, _IMAGES, _LISTS = "Annotations", "JPEGImages", "ImageSets/Main"


def from_voc(
    path: str | os.PathLike,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    bad_images: str = "error",
    bad_boxes: str = "error",
) -> tuple[BoxedImages, BoxedImages]:
    """Returns (train, test) from `Annotations/*.xml` and `JPEGImages` in a folder.

    The lists in `ImageSets/Main` say which is which: `test.txt` is tested on and `trainval.txt`
    trained on. Without `trainval.txt`, `train.txt` is trained on and `val.txt` is
    `train.validation`; without `test.txt`, `val.txt` is tested on. Without such lists,
    `BoxedImages.split` splits all images. Images may be of any format that `from_directory` takes.

    VOC counts pixels from 1 and includes the last, so a box becomes [xmin - 1, ymin - 1, xmax,
    ymax]. It lies in the upright image, or, where `size` tells the width and height of the pixels
    as stored, is turned with the image. A box that is partly outside is cut off. Objects marked as
    `difficult` are `BoxedImages.crowd`: neither trained on nor scored. Classes are the names of all
    objects to train on, sorted.

    Args:
        path: The folder; `~` and environment variables are replaced.
        test_fraction, seed: As in `BoxedImages.split`.
        bad_images, bad_boxes: As in `from_coco`.

    Raises:
        DataError: If files or folders are missing, a list names an image twice or one of another
            list, an XML file is of another image by its `filename` or `size`, an image is broken,
            an object is wrong (not finite, corners in the wrong order, outside the image), or a
            test class has no training objects.
    """
    parts, root = voc_annotations(path)
    return train_and_test(boxed_sets(parts, root, bad_images, bad_boxes), test_fraction, seed)


def voc_annotations(
    path: str | os.PathLike, only: str | None = None
) -> tuple[dict[str, Annotations], pathlib.Path]:
    """Returns the parts "all", or "train", "test" and maybe "validation", and the folder.

    Args:
        path: As in `from_voc`.
        only: A part to read alone, if there is one of that name; classes are then those of its own
            objects.
    """
    root = pathlib.Path(expanded(path)).absolute()
    for folder in (_ANNOTATIONS, _IMAGES):
        if not (root / folder).is_dir():
            raise DataError(
                f"{root} has no folder {folder}; give a folder with {_ANNOTATIONS}/*.xml and the "
                f"images in {_IMAGES}, as Pascal VOC has"
            )
    lists = _lists(root)
    lists = {only: lists[only]} if only in lists else lists
    return _annotations(root, {name: _read(root, names) for name, names in lists.items()}), root


def _lists(root):
    """{part: the names of its images}, "all" or "train", "test" and maybe "validation"."""
    found = {}
    for name in ("train", "val", "trainval", "test"):
        file = root / _LISTS / f"{name}.txt"
        if file.is_file():
            lines = read_text(file).splitlines()
            found[name] = [line.strip() for line in lines if line.strip()]
    train = "trainval" if {"trainval", "test"} <= found.keys() else "train"
    if train in found and "test" in found:
        parts = {"train": found[train], "test": found["test"]}
        if train == "train" and "val" in found:
            parts["validation"] = found["val"]
        return parts
    if {"train", "val"} <= found.keys():
        return {"train": found["train"], "test": found["val"]}
    if found.keys() & {"train", "test", "val"}:
        raise DataError(
            f"{root / _LISTS} has only {' and '.join(f'{name}.txt' for name in found)}; add a list "
            "of the images to train on (train.txt) and one of those to test on (test.txt or "
            "val.txt), or remove all to test on a part of all images"
        )
    everything = sorted(file.stem for file in (root / _ANNOTATIONS).glob("*.xml"))
    if not everything:
        raise DataError(f"{root / _ANNOTATIONS} has no XML files; add one for each image")
    return {"all": found.get("trainval", everything)}


def _read(root, names):
    """[(name, the root element of its XML file, the XML file)]"""
    read = []
    for name in names:
        file = root / _ANNOTATIONS / f"{name}.xml"
        try:
            read.append((name, xml.etree.ElementTree.parse(file).getroot(), file))
        except FileNotFoundError:
            raise DataError(
                f"a list in {root / _LISTS} names {name}, and there is no {file}; add it, or "
                "remove the line"
            ) from None
        except (xml.etree.ElementTree.ParseError, ValueError, LookupError) as error:  # encodings
            raise DataError(f"{file} is not an XML file ({error}); repair it") from None
        except OSError as error:  # a folder, or a name that is too long
            raise DataError(f"{file} cannot be read ({error.strerror}); repair it") from None
    return read


def _annotations(root, objects):
    """{part: its annotations}"""
    classes = {
        part: sorted({_class_name(o) for _, tree, _ in read for o in tree.iter("object")} - {""})
        for part, read in objects.items()
    }
    class_names = classes["train"] if "train" in classes else next(iter(classes.values()))
    for part, names in classes.items():
        if unknown := sorted({*names} - {*class_names}):
            raise DataError(
                f"{root.name}/{part} has classes that {root.name}/train lacks "
                f"({', '.join(map(repr, unknown[:5]))}{', ...' if len(unknown) > 5 else ''}); a "
                "model can only be tested on classes it was trained on: add images of them to train"
            )
    image_of = _images(root)
    parts = {}
    for part, read in objects.items():
        name = root.name if part == "all" else f"{root.name}/{part}"
        parts[part] = Annotations(name, class_names)
        for stem, tree, file in read:
            _add(parts[part], stem, tree, file, image_of)
    return parts


def _images(root):
    """{name without suffix: path} of the images."""
    image_of = {}
    for entry in sorted(os.scandir(root / _IMAGES), key=lambda entry: entry.name):
        if entry.name.startswith(".") or not is_image(entry.path):
            continue
        stem = pathlib.Path(entry.name).stem
        if stem in image_of:
            raise DataError(f"{image_of[stem]} and {entry.path} have one name; remove one of them")
        image_of[stem] = entry.path
    return image_of


def _class_name(element):
    return (element.findtext("name") or "").strip()


def _add(part, stem, tree, file, image_of):
    """Adds an image and its objects."""
    if stem not in image_of:
        raise DataError(
            f"{file} has no image: {_IMAGES} has no {stem}.jpg, nor any other image of that name; "
            "add it, or remove that file"
        )
    about = (tree.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
    if about and stem not in (about, pathlib.Path(about).stem):
        raise DataError(
            f"{file} is of another image by its filename, {about}; put the annotations of {stem} "
            "there"
        )
    label_of = {name: label for label, name in enumerate(part.class_names)}
    width, height = numbers(tree.findtext(f"size/{side}") or 0 for side in ("width", "height"))
    stated = ((height, width), os.path.join(_ANNOTATIONS, file.name)) if width and height else None
    image = part.add_image(image_of[stem], stem, stated)
    for i, element in enumerate(tree.iter("object")):
        name = _class_name(element)
        corners = [element.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        left, top, right, bottom = numbers(corners)
        fault = ""
        if not name:
            fault = "has no name"
        elif math.isnan(left + top + right + bottom):
            fault = f"must have a bndbox of 4 numbers, got {corners}"
        elif right < left or bottom < top:  # by 1 it would become a box without area
            fault = f"has its corners in the wrong order, {corners}"
        part.add_box(
            image,
            (left - 1, top - 1, right, bottom),
            label_of.get(name),
            f"object {i + 1} of {file}",
            crowd=(element.findtext("difficult") or "").strip() in ("1", "true", "True"),
            fault=fault,
        )
