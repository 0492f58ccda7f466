"""A detection data set from the name or path that a user types."""

import os
import pathlib

from ...files import expanded
from ..boxed_images import BoxedImages
from ..labeled_images import DataError
from .coco import from_coco
from .scenes import scenes
from .tfds_boxes import from_boxed_tfds
from .tfds_builders import UnknownNameError
from .voc import from_voc
from .yolo import from_yolo

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
    options = {"bad_images": bad_images, "bad_boxes": bad_boxes}
    path = pathlib.Path(expanded(name))
    if name.lower().endswith(".json"):
        first, _, second = name.partition(",")
        if second and not path.is_file():
            return from_coco(first, test=second, **options)
        return from_coco(name, **options)
    if path.suffix.lower() in (".yaml", ".yml"):
        return from_yolo(path, **options)
    if path.is_dir():
        if (path / "Annotations").is_dir():
            return from_voc(path, **options)
        if not [*path.glob("*.yaml"), *path.glob("*.yml")]:
            raise DataError(f"{path} is no detection data set; give {_KINDS}")
        return from_yolo(path, **options)
    if name.startswith((".", "/", "~")) or name.endswith(os.sep):
        raise DataError(f"there is no {path}; give {_KINDS}")
    try:
        return from_boxed_tfds(name)
    except UnknownNameError as error:
        raise DataError(f"there is no folder {name!r}, and {error}; give {_KINDS}") from error
