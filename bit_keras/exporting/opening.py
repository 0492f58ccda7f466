"""Opens a model in any format that `bit_keras.export` writes."""

import contextlib
import os
import pathlib

import keras

from .. import checkpoints
from ..models.resnet_v2 import with_head
from ..models.zoo import load
from ..training.reading_runs import model_of_run
from .artifact import Artifact, keras_artifact
from .checks import check_packages
from .errors import reason
from .formats import FORMATS
from .weight_files import open_weights


def open_classifier(model: keras.Model | str | os.PathLike) -> Artifact:
    """Opens a model, an export, or what else `bit_keras.load` takes.

    Raises ValueError if there is none, it cannot be read, or it has no head.
    """
    known = isinstance(model, keras.Model)
    return _with_classes(model, keras_artifact(model) if known else open_artifact(model))


def open_network(model: keras.Model | str | os.PathLike) -> Artifact:
    """Opens a model, or what `bit_keras.load` takes, as a Keras network with a head.

    Raises ValueError if there is none, it cannot be read, its format holds no weights, or it has
    no head.
    """
    if isinstance(model, keras.Model):
        return _with_classes(model, keras_artifact(model))
    check_has_weights(model)
    return _with_classes(model, keras_artifact(load(model)))


def open_body(model: keras.Model | str | os.PathLike) -> Artifact:
    """Opens a model, an export, or what else `bit_keras.load` takes, for its pooled features.

    Raises ValueError if there is none, it cannot be read, or it gives logits and its format holds
    no weights.
    """
    artifact = keras_artifact(model) if isinstance(model, keras.Model) else open_artifact(model)
    if artifact.output == "features":
        return artifact
    network = artifact.network
    if network is None:
        check_has_weights(model)
        network = load(model)
    return keras_artifact(with_head(network, 0))


def check_has_weights(model: str | os.PathLike) -> None:
    """Raises ValueError for an export that is a graph alone: frozen, or for another runtime."""
    path = pathlib.Path(model_of_run(model))
    format = _format_of(path)
    if format is None or FORMATS[format].opener is open_weights:
        return
    if format == "saved_model":
        with contextlib.suppress(checkpoints.CheckpointError):
            checkpoints.architecture(checkpoints.open_saved_model(path).shapes, path)
            return
    raise ValueError(
        f"{os.fspath(model)} gives logits alone, and this needs what is before them; give the "
        "model that it was exported from: a run's folder, a SavedModel that is not frozen, or a "
        ".keras or .npz file."
    )


def _with_classes(model, artifact):
    title = model.name if isinstance(model, keras.Model) else os.fspath(model)
    if artifact.num_classes is None:
        raise ValueError(
            f"{title} has no head, so it gives features and no classes; give a model with a head."
        )
    return artifact


def _format_of(path):
    """The name of the format of an export, or None."""
    return next((name for name, kind in FORMATS.items() if kind.matches(path)), None)


def open_artifact(source: str | os.PathLike) -> Artifact:
    """Opens an export, or what else `bit_keras.load` takes.

    Raises ValueError if there is none, or it cannot be read.
    """
    path = pathlib.Path(source)
    format = _format_of(path)
    if format is None or FORMATS[format].opener is open_weights:
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
