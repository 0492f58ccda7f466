"""Boxed images from COCO's JSON files."""

import collections
import json
import math
import os
import pathlib
import reprlib

from ...files import expanded
from ..boxed_images import BoxedImages
from ..labeled_images import DataError
from .annotations import Annotations, boxed_sets, numbers, train_and_test
from .segments import read_segment


def from_coco(
    path: str | os.PathLike,
    image_folder: str | os.PathLike | None = None,
    *,
    test: tuple[str | os.PathLike, str | os.PathLike | None] | str | os.PathLike | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    bad_images: str = "error",
    bad_boxes: str = "error",
) -> tuple[BoxedImages, BoxedImages]:
    """Returns (train, test) from a JSON file in COCO's format ("instances") and its images.

    Every `bbox` is [left, top, width, height] in pixels. Classes are the `categories` in the order
    of their ids, as in pycocotools, and may be without boxes. Annotations with `iscrowd` 1 are
    `BoxedImages.crowd`. Images without annotations are kept. Where `width` and `height` of an image
    are those of the upright image, so are the boxes; where they are those of the pixels as stored,
    boxes are turned with the image. A box that is partly outside is cut off.

    Every `segmentation`, polygons or a run-length code, compressed or not, becomes a mask in
    `BoxedImages.masks`, as pycocotools makes it; without pycocotools it is only checked. An object
    whose segmentation is missing or empty has no mask. Areas are those of the file.

    Args:
        path: The JSON file to train on; `~` and environment variables are replaced.
        image_folder: Where the `file_name` of each image begins. By default the first of these
            folders in which the first image is: that of the JSON file, `images` in it, the folder
            above, `images` in that, and beside the folder of `instances_NAME.json` a folder `NAME`.
        test: The JSON file to test on, or (file, image folder); without it, `BoxedImages.split`
            splits the images.
        test_fraction, seed: As in `BoxedImages.split`.
        bad_images: "error" to list all images that cannot be read, and stop; "skip" to leave them
            out.
        bad_boxes: "error" to count the annotations that cannot be used, name the first and stop;
            "skip" to leave them out. COCO itself has a few boxes without area.

    Raises:
        DataError: If a file is no such JSON, categories, images or files come twice, images are
            missing, broken or of another size than stated, annotations are wrong (not finite,
            without area, outside the image, of an unknown image or category; polygons of fewer than
            3 points or an odd number of coordinates; run-length codes of another size or sum), or
            the test file has other class names.
    """
    parts, folder = coco_annotations(path, image_folder, test)
    return train_and_test(boxed_sets(parts, folder, bad_images, bad_boxes), test_fraction, seed)


def coco_annotations(
    path: str | os.PathLike,
    image_folder: str | os.PathLike | None = None,
    test: tuple[str | os.PathLike, str | os.PathLike | None] | str | os.PathLike | None = None,
) -> tuple[dict[str, Annotations], pathlib.Path]:
    """Returns the parts "all", or "train" and "test", and the folder of their images."""
    path = pathlib.Path(expanded(path)).absolute()
    if test is None:
        whole = _read(path, image_folder, path.stem)
        return {"all": whole}, _common_folder([whole])
    test_path, test_folder = test if isinstance(test, tuple) else (test, None)
    test_path = pathlib.Path(expanded(test_path)).absolute()
    names = [path.stem, test_path.stem]
    if names[0] == names[1]:  # such as train/_annotations.coco.json and test/...
        names = [f"{file.parent.name}/{file.stem}" for file in (path, test_path)]
    parts = {"train": _read(path, image_folder, names[0])}
    parts["test"] = _read(test_path, test_folder, names[1], parts["train"])
    return parts, _common_folder(parts.values())


def _common_folder(parts):
    return pathlib.Path(os.path.commonpath([os.path.dirname(f) for p in parts for f in p.files]))


def _read(path, image_folder, name, train=None):
    """The annotations of a file, by the classes of `train` if it is given."""
    content = _content(path)
    ids, class_names = _categories(path, content["categories"])
    if train is not None:
        if differing := sorted({*train.class_names} ^ {*class_names}):
            raise DataError(
                f"{name} and {train.name} must have categories of the same names, but only one has "
                f"{', '.join(map(repr, differing[:5]))}{', ...' if len(differing) > 5 else ''}; "
                "their ids may differ"
            )
        id_of = dict(zip(class_names, ids, strict=True))
        class_names, ids = train.class_names, [id_of[name] for name in train.class_names]
    part = Annotations(name, class_names, ids)
    number_of = _add_images(part, path, content["images"], image_folder)
    label_of = {category_id: label for label, category_id in enumerate(ids)}
    for i, annotation in enumerate(content["annotations"]):
        _add_annotation(part, path.name, i, annotation, number_of, label_of)
    return part


def _content(path):
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a JSON file in COCO's format")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # of JSON, of UTF-8, or nested without end
        raise DataError(f"{path} is not a JSON file ({error}); give one in COCO's format") from None
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise DataError(
                f"{path} must have a list of objects {key!r}, as COCO's instances_train2017.json "
                "has; files of captions, results or other formats cannot be used"
            )
    for key, needed in (("images", ("id", "file_name")), ("categories", ("id", "name"))):
        for i, entry in enumerate(content[key]):
            missing = [field for field in needed if not isinstance(entry.get(field), int | str)]
            if missing:
                raise DataError(
                    f"entry {i} of {key!r} in {path} has no {' and no '.join(missing)}; add it"
                )
    return content


def _categories(path, categories):
    """(The ids, the names) of a file's categories, in the order of the ids."""
    for key in ("id", "name"):
        values = [str(c[key]) if key == "name" else c[key] for c in categories]
        for value, count in collections.Counter(values).items():
            if count > 1:
                raise DataError(
                    f"{path} has {count} categories with the {key} {value!r}; every category needs "
                    "one of its own"
                )
    if wrong := [c["id"] for c in categories if not isinstance(c["id"], int)]:
        raise DataError(f"the ids of categories in {path} must be integers, got {wrong[0]!r}")
    if not categories:
        raise DataError(f"{path} has no categories; add one for each class")
    pairs = sorted((c["id"], str(c["name"])) for c in categories)
    return [category_id for category_id, _ in pairs], [name for _, name in pairs]


def _add_images(part, path, images, image_folder):
    """Adds a file's images and returns {id: number}."""
    if not images:
        raise DataError(f"{path} has no images; add an entry for each")
    folder = _image_folder(path, images, image_folder)
    number_of, file_of = {}, {}
    for image in images:
        image_id, name = image["id"], image["file_name"]
        if image_id in number_of:
            raise DataError(
                f"{path} has two images with the id {image_id!r}, {file_of[image_id]} and {name}; "
                "give every image an id of its own"
            )
        height, width = numbers(image.get(key) or 0 for key in ("height", "width"))
        stated = ((height, width), path.name) if height and width else None
        file_of[image_id] = name
        number_of[image_id] = part.add_image(os.path.join(folder, str(name)), image_id, stated)
    return number_of


def _image_folder(path, images, given):
    if given is not None:
        folders = [pathlib.Path(expanded(given)).absolute()]
    else:
        beside = path.parent.parent
        folders = [path.parent, path.parent / "images", beside, beside / "images"]
        folders.append(beside / path.stem.rpartition("_")[2])
    for folder in folders:
        if os.path.isfile(folder / str(images[0]["file_name"])):
            return folder
    for image in images[1:]:  # the first alone may be missing, which is told with all others
        for folder in folders:
            if os.path.isfile(folder / str(image["file_name"])):
                return folder
    raise DataError(
        f"none of the {len(images):,} images of {path} is in {' or '.join(map(str, folders))}; "
        "give the folder in which file_name begins as image_folder"
    )


def _add_annotation(part, file, i, annotation, number_of, label_of):
    number = annotation.get("id")
    number = number if isinstance(number, int | str) else f"number {i}"
    place = f"annotation {number!s:.60} of {file}"
    image = _found(number_of, annotation.get("image_id"))
    label = _found(label_of, annotation.get("category_id"))
    bbox, fault = annotation.get("bbox"), ""
    area = annotation.get("area")
    area = math.nan if area is None else numbers([area])[0]
    segment, segment_fault = read_segment(annotation.get("segmentation"))
    if image is None:
        fault = (
            f"is of the image {reprlib.repr(annotation.get('image_id'))}, which is not among its "
            "images"
        )
    elif label is None:
        fault = (
            f"has the category {reprlib.repr(annotation.get('category_id'))}, which is not among "
            "its categories"
        )
    elif not isinstance(bbox, list) or len(bbox) != 4:
        fault = f"must have a bbox of 4 numbers, got {reprlib.repr(bbox)}"
    elif annotation.get("area") is not None and not 0 <= area < math.inf:
        fault = f"must have an area of 0 or more, got {reprlib.repr(annotation['area'])}"
    else:
        fault = segment_fault
    if image is not None:
        place += f" ({part.files[image]})"
    left, top, width, height = numbers(bbox) if not fault else [math.nan] * 4
    part.add_box(
        image or 0,
        (left, top, left + width, top + height),
        label,
        place,
        crowd=bool(annotation.get("iscrowd")),
        area=area,
        segment=segment,
        fault=fault,
    )


def _found(table, key):
    return table.get(key) if isinstance(key, int | str) else None
