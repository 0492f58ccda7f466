"""Boxed images from a folder in the layout of YOLO: a `data.yaml`, images, and a text for each."""

import collections
import math
import os
import pathlib
import reprlib

from ...files import expanded
from ..boxed_images import BoxedImages
from ..labeled_images import DataError
from .annotations import Annotations, boxed_sets, numbers, read_text, train_and_test
from .pillow_images import is_image

_ROUNDED = 1e-3  # what a coordinate may exceed its range by


def from_yolo(
    path: str | os.PathLike,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    bad_images: str = "error",
    bad_boxes: str = "error",
) -> tuple[BoxedImages, BoxedImages]:
    """Returns (train, test) from a `data.yaml`, as Ultralytics' programs read it.

    It has `names`, a list or {number: name}, and `train`, `val` and `test`: each a folder of
    images, a text file with a path on each line, or a list of these, from the folder `path`, or
    from that of the YAML file. `test` is tested on, and `val` is `train.validation`; without
    `test`, `val` is tested on, and without both, `BoxedImages.split` splits the images.

    The objects of `images/x.jpg` are in `labels/x.txt`: in place of the last folder `images` of its
    path, or, if there is none, beside it. Each line has the class's number, center x, center y,
    width and height, as fractions of the upright image's width and height, or the number and the
    corners of a polygon, of which the extent is taken. An image without a text, or with an empty
    one, has no objects and is kept. A box that is partly outside is cut off.

    Args:
        path: The YAML file, or the folder of a `data.yaml` or of a single other YAML file; `~` and
            environment variables are replaced.
        test_fraction, seed: As in `BoxedImages.split`.
        bad_images, bad_boxes: As in `from_coco`.

    Raises:
        DataError: If the YAML file is no such file, a folder, image or class is missing, an image
            comes twice or is broken, a line has another form, a class that has no name, or numbers
            outside [0, 1], or a part has no boxes.
    """
    parts, root = yolo_annotations(path)
    return train_and_test(boxed_sets(parts, root, bad_images, bad_boxes), test_fraction, seed)


def yolo_annotations(path: str | os.PathLike) -> tuple[dict[str, Annotations], pathlib.Path]:
    """Returns the parts "all", or "train", "test" and maybe "validation", and the folder."""
    file = _yaml_file(pathlib.Path(expanded(path)).absolute())
    settings = _settings(file)
    class_names, root = _class_names(file, settings), file.parent
    if path := settings.get("path"):
        root = root / expanded(_text(file, "path", path))
        root = root if os.path.isdir(root) else file.parent
    images = {
        key: _images(file, root, key, settings[key])
        for key in ("train", "val", "test")
        if settings.get(key)
    }
    if "train" not in images:
        raise DataError(f"{file} names no images to train on; add `train:` and their folder")
    if images.keys() == {"train"}:
        images = {"all": images["train"]}
    elif "val" in images:
        images["validation" if "test" in images else "test"] = images.pop("val")
    parts = {}
    for part, paths in images.items():
        name = file.parent.name if part == "all" else f"{file.parent.name}/{part}"
        parts[part] = Annotations(name, class_names, relative=True)
        for image in paths:
            _add(parts[part], image, root)
    return parts, root


def _yaml_file(path):
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"there is no {path}; give a YAML file, or a folder with a data.yaml")
    found = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    named = [file for file in found if file.stem == "data"]
    if len(named or found) != 1:
        raise DataError(
            f"{path} must be a YAML file, or a folder with a data.yaml that has names, train and "
            f"val, and has {len(found)} YAML files"
        )
    return (named or found)[0]


def _settings(file):
    try:
        import yaml
    except ImportError as error:
        raise DataError(
            'PyYAML is needed to read a data.yaml and is not installed: pip install "bit-keras'
            '[detection]"'
        ) from error

    class Loader(yaml.SafeLoader):
        def flatten_mapping(self, node):
            """Leaves `<<` as it is, an error: few lines of merged lists are endless content."""

    try:
        settings = yaml.load(read_text(file), Loader=Loader)
    except DataError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of a date, for instance
        reason = " ".join(str(error).split())
        raise DataError(f"{file} is not a YAML file ({reason}); repair it") from None
    if not isinstance(settings, dict):
        raise DataError(f"{file} must have names, train and val, got {type(settings).__name__}")
    return settings


def _class_names(file, settings):
    names = settings.get("names")
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(
                f"the names in {file} must be numbered 0 to {len(names) - 1}, got "
                f"{reprlib.repr([*names])}"
            )
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{file} must have names, a list of the classes, got {reprlib.repr(names)}")
    names = [_text(file, "names", name) for name in names]
    if len({*names}) != len(names):
        twice = next(name for name, n in collections.Counter(names).items() if n > 1)
        raise DataError(f"the names in {file} must differ, and {twice!r} comes twice")
    if settings.get("nc") not in (None, len(names)):
        raise DataError(
            f"{file} has nc: {reprlib.repr(settings['nc'])} and {len(names)} names; correct one"
        )
    return names


def _text(file, key, value):
    """A text, or a number, as text; lists that hold others many times would be endless as such."""
    if not isinstance(value, str | int | float):
        raise DataError(f"{key} in {file} must be text, got a {type(value).__name__}; correct it")
    return str(value).replace("\0", "")


def _images(file, root, key, given):
    """The paths of the images of one part."""
    paths = []
    for entry in given if isinstance(given, list) else [given]:
        entry = _text(file, key, entry)
        place = root / entry
        if not os.path.exists(place) and entry.startswith("../"):  # as Roboflow writes it
            place = root / entry[3:]
        if os.path.isdir(place):
            below = sorted(pathlib.Path(os.path.normpath(place)).rglob("*"))
            paths += [str(f) for f in below if not f.name.startswith(".") and is_image(str(f))]
        elif os.path.isfile(place):
            lines = map(str.strip, read_text(place).splitlines())
            paths += [
                os.path.normpath(os.path.join(place.parent if line[:2] == "./" else root, line))
                for line in lines
                if line
            ]
        else:
            raise DataError(f"{key} of {file} is {entry}, and there is no {place}; correct it")
    if not paths:
        shown = given if isinstance(given, str) else reprlib.repr(given)
        raise DataError(f"{key} of {file} has no images in {shown}; correct it")
    return paths


def _label_file(image):
    """`labels/x.txt` for `images/x.jpg`, or `x.txt`."""
    folder, name = os.path.split(image)
    parts = folder.split(os.sep)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        parts[last] = "labels"
    return pathlib.Path(os.sep.join(parts), f"{os.path.splitext(name)[0]}.txt")


def _add(part, image, root):
    """Adds an image and its objects."""
    number = part.add_image(image, pathlib.Path(os.path.relpath(image, root)).as_posix())
    file = _label_file(image)
    if not os.path.isfile(file):
        return
    for i, line in enumerate(read_text(file).splitlines()):
        if cells := line.split():
            box, label, fault = _parsed(cells, len(part.class_names))
            part.add_box(number, box, label, f"line {i + 1} of {file}", fault=fault)


def _parsed(cells, num_classes):
    """((left, top, right, bottom) as fractions, class, what is wrong) of a line."""
    label, *values = numbers(cells)
    nothing = [math.nan] * 4
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        return nothing, None, f"must have 5 numbers, or a class and a polygon, got {len(cells)}"
    if not all(map(math.isfinite, (label, *values))):
        return nothing, None, f"must have finite numbers, got {' '.join(cells[:5])}"
    if label not in range(num_classes):
        return nothing, None, f"has the class {cells[0]}, and names has 0 .. {num_classes - 1}"
    if not -_ROUNDED <= min(values) <= max(values) <= 1 + _ROUNDED:
        shown = " ".join(cells[1:5])
        return nothing, None, f"must have coordinates in [0, 1], as fractions, got {shown}"
    if len(values) == 4:
        x, y, width, height = values
        return (x - width / 2, y - height / 2, x + width / 2, y + height / 2), int(label), ""
    across, down = values[::2], values[1::2]
    return (min(across), min(down), max(across), max(down)), int(label), ""
