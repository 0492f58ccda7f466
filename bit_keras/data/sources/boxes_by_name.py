"""A detection data set from the name or path that a user types."""

import os
import pathlib

from ...files import expanded
from ..boxed_images import BoxedImages
from ..labeled_images import DataError
from .annotations import boxed_sets, train_and_test
from .coco import coco_annotations
from .scenes import scenes
from .tfds_boxes import from_boxed_tfds, tfds_test_boxes
from .tfds_builders import UnknownNameError
from .voc import voc_annotations
from .yolo import yolo_annotations

_KINDS = (
    '"scenes", a COCO file (or two, "train.json,test.json"), a folder with Annotations and '
    "JPEGImages (Pascal VOC), a data.yaml or its folder (YOLO), or a name of TensorFlow Datasets"
)


def boxes_from_name(
    name: str, *, bad_images: str = "error", bad_boxes: str = "error"
) -> tuple[BoxedImages, BoxedImages]:
    """Returns (train, test) of what a user may type.

    Args:
        name: "scenes" (`scenes`); a path that ends in ".json" (`from_coco`), or two of them with a
            comma between, the second to test on; a folder with `Annotations` (`from_voc`); a path
            that ends in ".yaml" or ".yml", or any other folder (`from_yolo`); anything else goes to
            `from_boxed_tfds`.
        bad_images, bad_boxes: As in `from_coco`; of files only.

    Raises:
        DataError: As these functions do, or if there is nothing of that name.
    """
    if name == "scenes":
        return scenes()
    if not (annotated := _annotations(name)):
        return _from_tfds(name, from_boxed_tfds)
    return train_and_test(boxed_sets(*annotated, bad_images, bad_boxes))


def evaluation_boxes(
    name: str, *, bad_images: str = "error", bad_boxes: str = "error"
) -> BoxedImages:
    """Loads only the test images of a data set that `boxes_from_name` takes.

    Training images are not read. Of a set without a part to test on, all images are returned.

    Args:
        name, bad_images, bad_boxes: As in `boxes_from_name`.

    Raises:
        DataError: As `boxes_from_name`.
    """
    if name == "scenes":
        return scenes()[1]
    if not (annotated := _annotations(name, only_test=True)):
        return _from_tfds(name, tfds_test_boxes)
    parts, folder = annotated
    part = "test" if "test" in parts else next(iter(parts))
    return boxed_sets({part: parts[part]}, folder, bad_images, bad_boxes)[part]


def _annotations(name, only_test=False):
    """(The annotations of each part, the folder of the images) of a path; None for other names."""
    path = pathlib.Path(expanded(name))
    if name.lower().endswith(".json"):
        first, _, second = name.partition(",")
        if not second or path.is_file():
            return coco_annotations(name)
        return coco_annotations(second) if only_test else coco_annotations(first, test=second)
    if path.suffix.lower() in (".yaml", ".yml"):
        return yolo_annotations(path)
    if path.is_dir():
        if (path / "Annotations").is_dir():
            return voc_annotations(path, "test" if only_test else None)
        if not [*path.glob("*.yaml"), *path.glob("*.yml")]:
            raise DataError(f"{path} is no detection data set; give {_KINDS}")
        return yolo_annotations(path)
    if name.startswith((".", "/", "~")) or name.endswith(os.sep):
        raise DataError(f"there is no {path}; give {_KINDS}")
    return None


def _from_tfds(name, read):
    try:
        return read(name)
    except UnknownNameError as error:
        raise DataError(f"there is no folder {name!r}, and {error}; give {_KINDS}") from error
