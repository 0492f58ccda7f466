"""Opens a model in any format that `bit_keras.export` writes."""

import os
import pathlib

import keras

from .artifact import Artifact, keras_artifact
from .checks import check_packages
from .errors import reason
from .formats import FORMATS
from .weight_files import open_weights


def open_classifier(model: keras.Model | str | os.PathLike) -> Artifact:
    """Opens a model, an export, or what else `bit_keras.load` takes.

    Raises ValueError if there is none, it cannot be read, or it has no head.
    """
    if isinstance(model, keras.Model):
        title, artifact = model.name, keras_artifact(model)
    else:
        title, artifact = os.fspath(model), open_artifact(model)
    if artifact.num_classes is None:
        raise ValueError(
            f"{title} has no head, so it gives features and no classes; give a model with a head."
        )
    return artifact


def open_artifact(source: str | os.PathLike) -> Artifact:
    """Opens an export, or what else `bit_keras.load` takes.

    Raises ValueError if there is none, or it cannot be read.
    """
    path = pathlib.Path(source)
    found = (name for name, kind in FORMATS.items() if kind.matches(path))
    format = next(found, None)
    if format is None or FORMATS[format].open is open_weights:
        return open_weights(source)
    if not path.exists():
        raise ValueError(f"there is no file {path}; give a model that bit_keras.export wrote.")
    check_packages(format)
    try:
        return FORMATS[format].open(path)
    except Exception as error:  # runtimes raise whatever they meet in a damaged file
        raise ValueError(
            f"cannot read {path} ({reason(error)}); give a model that bit_keras.export wrote."
        ) from error
