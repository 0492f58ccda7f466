"""Mistakes in what is asked for, found before anything is computed."""

import importlib.util
import numbers

import numpy as np

from ..data import LabeledImages
from .errors import ExportError
from .formats import FORMATS

PRECISIONS = ("float32", "float16", "int8")
MIN_SIZE = 32  # pixels


def check(model, path, format, precision, frozen, labels, multi_label, size, images, overwrite):
    """Checks the arguments of `export`; returns "logits" or "features", what the model answers."""
    if format not in FORMATS:
        raise ExportError(f"format must be one of {', '.join(FORMATS)}, got {format!r}.")
    check_options(format, precision, frozen, labels, multi_label, size)
    check_images(images)
    has_head = "head" in {layer.name for layer in model.layers}
    check_labels(labels, model.output_shape[-1] if has_head else 0)
    if precision == "int8":
        if images is None or len(images) < 2:
            raise ExportError(
                "int8 is calibrated on one half of the images and compared on the other; give "
                "images like those to come, 2 or more."
            )
        if not has_head:
            raise ExportError(
                f"int8 is judged by the classes it finds, and {model.name!r} has no head; export "
                "it in float16."
            )
    check_target(path, format, overwrite)
    check_packages(format)
    return "logits" if has_head else "features"


def check_options(format, precision, frozen, labels, multi_label, size):
    if precision not in PRECISIONS:
        raise ExportError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    if size is not None and not (isinstance(size, numbers.Integral) and size >= MIN_SIZE):
        raise ExportError(f"size must be {MIN_SIZE} pixels or more, got {size!r}.")
    for option, given in (
        ("precision", precision != "float32"),
        ("frozen", frozen),
        ("labels", labels is not None),
        ("multi_label", multi_label),
    ):
        if given and option not in FORMATS[format].options:
            takers = [name for name, kind in FORMATS.items() if option in kind.options]
            raise ExportError(
                f"{option} is an option of {', '.join(takers)}, not of {format}; leave it out."
            )


def check_images(images):
    if images is None or isinstance(images, LabeledImages):
        return
    described = f"{type(images).__name__} of {getattr(images, 'dtype', 'no dtype')}"
    if isinstance(images, np.ndarray):
        described = f"{images.dtype} of shape {list(images.shape)}"
        if images.ndim == 4 and len(images) and images.shape[3] == 3:
            if images.dtype == np.uint8:
                return
            if images.dtype.kind == "f":
                if images.min() >= 0 and images.max() <= 1:
                    return
                described += f" in [{images.min():g}, {images.max():g}]"
    raise ExportError(
        "images must be labeled images of bit_keras.data, or uint8 or floats in [0, 1] of shape "
        f"[N, height, width, 3], got {described}."
    )


def check_labels(labels, num_classes):
    if labels is None:
        return
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise ExportError(f"labels must be a list of names, got {labels!r:.100}.")
    if len(labels) != num_classes:
        raise ExportError(
            f"labels must name the {num_classes} classes of the model's head, got {len(labels)} "
            "names."
        )


def check_target(path, format, overwrite):
    kind = FORMATS[format]
    if not kind.is_folder and path.suffix != kind.name:
        raise ExportError(f"a {format} file's name must end in {kind.name}, got {path.name!r}.")
    if set("*?[]") & set(str(path.absolute())):
        raise ExportError(f"path must not hold any of * ? [ ], which TensorFlow expands: {path}.")
    if not path.exists():
        return
    if not overwrite:
        raise ExportError(
            f"{path} exists already; choose another path, or say overwrite to replace it once the "
            "new export is proven."
        )
    if kind.is_folder and not (path / kind.name).is_file():
        raise ExportError(
            f"{path} is no {format} export, for it has no {kind.name}, and is not overwritten; "
            "choose another path."
        )
    if not kind.is_folder and not path.is_file():
        raise ExportError(f"{path} is no file and is not overwritten; choose another path.")


def check_packages(format):
    kind = FORMATS[format]
    missing = [name for name in kind.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"format {format} needs {', '.join(missing)}, which is not installed; run "
            f'pip install "bit-keras[{kind.extra}]".'
        )
