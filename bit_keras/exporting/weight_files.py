"""Weights without a graph: for this package, for timm and for transformers."""

import os
import pathlib

import keras
import numpy as np

from ..checkpoints import architecture, save_npz, save_timm, save_transformers
from ..models.resnet_v2 import default_groups
from ..models.zoo import load
from .artifact import Artifact, keras_artifact
from .errors import ExportError


def write_keras(model: keras.Model, path: pathlib.Path) -> None:
    """Writes Keras's own format, architecture and weights."""
    model.save(path)


def write_npz(model: keras.Model, path: pathlib.Path) -> None:
    """Writes the weights by the names of the published files."""
    save_npz(path, _arrays(model, "an npz"))


def write_timm(model: keras.Model, path: pathlib.Path) -> None:
    """Writes the folder of a timm model."""
    save_timm(path, _arrays(model, "a timm checkpoint"))


def write_transformers(model: keras.Model, path: pathlib.Path) -> None:
    """Writes the folder of a transformers model."""
    weights = _arrays(model, "a transformers checkpoint")
    save_transformers(path, weights, groups=model.get_layer("group_norm").groups)


def open_weights(source: str | os.PathLike) -> Artifact:
    """Opens what `bit_keras.load` takes; errors as there."""
    return keras_artifact(load(source))


def _arrays(model: keras.Model, holder: str) -> dict[str, np.ndarray]:
    """The weights of a model whose architecture can be read off them again."""
    weights = {variable.path: variable.numpy() for variable in model.variables}
    paths = " ".join(weights)
    for found, what in (
        ("batch_norm/" in paths, "batch normalization"),
        ("/conv2d/" in paths.replace("head/conv2d/", ""), "plain convolutions"),
    ):
        if found:
            raise ExportError(
                f"{holder} cannot hold {what}, which {model.name!r} has; "
                "export it with format='keras'."
            )
    _, width, _ = architecture({k: v.shape for k, v in weights.items()}, f"model {model.name!r}")
    groups = model.get_layer("group_norm").groups
    if groups != default_groups(width):
        raise ExportError(
            f"{holder} does not record the number of groups, {groups} in {model.name!r} where "
            f"width {width:g} implies {default_groups(width)}; export it with format='keras'."
        )
    return weights
