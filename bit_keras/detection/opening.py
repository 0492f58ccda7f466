"""Opens a detector that a run has left."""

import os
import pathlib

import keras

from ..files import expanded
from ..models.keras_file import load_keras
from ..models.spec import SpecifiedModel

_MODEL = "model.keras"  # in a run's folder


def open_detector(source: keras.Model | str | os.PathLike) -> SpecifiedModel:
    """Returns a detector: of a run's folder, a `.keras` file, or as it is given.

    Raises ValueError if there is none, or it cannot be read.
    """
    model = source
    if not isinstance(source, keras.Model):
        path = pathlib.Path(expanded(source))
        path = path / _MODEL if path.is_dir() else path
        if not path.is_file():
            raise ValueError(
                f"there is no detector {path}; give the folder of a run of bit-detect train, or a "
                ".keras file."
            )
        model = load_keras(path)
    if not isinstance(model, SpecifiedModel) or not model.spec.anchor_sizes:
        raise ValueError(f"{source} is no detector; give one that bit-detect train made.")
    return model
