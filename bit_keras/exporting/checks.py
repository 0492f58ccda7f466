"""Checks of the arguments of `export`, before anything is computed."""

import dataclasses
import importlib.util
import numbers
import pathlib
from collections.abc import Sequence

import keras
import numpy as np

from ..choices import EXPORT_PRECISIONS
from ..data import LabeledImages
from .artifact import has_head
from .errors import ExportError
from .formats import FORMATS

_MIN_SIZE = 32  # pixels


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """The arguments of `export` that say what to write, as they are described there."""

    format: str
    precision: str
    integer_io: bool
    frozen: bool
    labels: Sequence[str] | None
    multi_label: bool | None
    size: int | None
    images: LabeledImages | np.ndarray | None
    overwrite: bool


def check_export(model: keras.Model, path: pathlib.Path, options: ExportOptions) -> None:
    """Raises ExportError if an argument of `export` is wrong, or a package is missing."""
    if options.format not in FORMATS:
        raise ExportError(f"format must be one of {', '.join(FORMATS)}, got {options.format!r}.")
    _check_options(options)
    _check_images(options.images)
    _check_labels(options.labels, model.output_shape[-1] if has_head(model) else 0)
    if options.precision == "int8":
        if options.images is None or len(options.images) < 2:
            raise ExportError(
                "int8 is calibrated on one half of the images and compared on the other; give "
                "images like those to come, 2 or more."
            )
        if not has_head(model):
            raise ExportError(
                f"int8 is judged by the classes it finds, and {model.name!r} has no head; export "
                "it in float16."
            )
    check_target(path, options.format, options.overwrite)
    check_packages(options.format)


def _check_options(options):
    precision, size = options.precision, options.size
    if precision not in EXPORT_PRECISIONS:
        raise ExportError(
            f"precision must be one of {', '.join(EXPORT_PRECISIONS)}, got {precision!r}."
        )
    if size is not None and not (isinstance(size, numbers.Integral) and size >= _MIN_SIZE):
        raise ExportError(f"size must be {_MIN_SIZE} pixels or more, got {size!r}.")
    for option, given in (
        ("precision", precision != "float32"),
        ("integer_io", options.integer_io),
        ("frozen", options.frozen),
    ):
        if given and option not in FORMATS[options.format].options:
            takers = [name for name, kind in FORMATS.items() if option in kind.options]
            raise ExportError(
                f"{option} is an option of {', '.join(takers)}, not of {options.format}; "
                "leave it out."
            )
    if options.integer_io and precision != "int8":
        raise ExportError(
            f"integer_io is an option of int8, not of {precision}; leave it out, or give "
            "precision='int8' (--precision=int8) with images."
        )


def _check_images(images):
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


def _check_labels(labels, num_classes):
    if labels is None:
        return
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise ExportError(f"labels must be a list of names, got {labels!r:.100}.")
    if len(labels) != num_classes:
        raise ExportError(
            f"labels must name the {num_classes} classes of the model's head, got {len(labels)} "
            "names."
        )


def check_target(path: pathlib.Path, format: str, overwrite: bool) -> None:
    """Raises ExportError if no export in that format can be written to `path`."""
    kind = FORMATS[format]
    if not kind.is_folder and not kind.matches(path):
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
    if kind.is_folder and not kind.matches(path):
        raise ExportError(
            f"{path} is no {format} export, for it has no {kind.name}, and is not overwritten; "
            "choose another path."
        )
    if not kind.is_folder and not path.is_file():
        raise ExportError(f"{path} is no file and is not overwritten; choose another path.")


def check_packages(format: str) -> None:
    """Raises ExportError if a package that a format needs is missing."""
    kind = FORMATS[format]
    missing = [name for name in kind.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"format {format} needs {', '.join(missing)}, which is not installed; run "
            f'pip install "bit-keras[{kind.extra}]".'
        )
