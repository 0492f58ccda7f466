"""Weights without a graph: for this package, for timm and for transformers."""

import os
import pathlib

import keras
import numpy as np
import PIL.Image

from ..checkpoints import architecture, save_npz, save_timm, save_transformers
from ..models.resnet_v2 import default_groups
from ..models.spec import ModelSpec, SpecifiedModel
from ..models.spec_files import BESIDE
from ..models.zoo import load
from .artifact import Artifact, keras_artifact
from .errors import ExportError


def write_keras(model: keras.Model, path: pathlib.Path, *, spec: ModelSpec) -> None:
    """Writes Keras's own format, architecture and weights."""
    SpecifiedModel(model.input, model.output, name=model.name, spec=spec).save(path)


def write_npz(model: keras.Model, path: pathlib.Path, *, spec: ModelSpec) -> None:
    """Writes the weights by the names of the published files, and the facts beside them."""
    save_npz(path, _arrays(model, "an npz"))
    path.with_name(path.name + BESIDE).write_text(spec.to_json(), encoding="utf-8")


def write_timm(model: keras.Model, path: pathlib.Path, *, spec: ModelSpec) -> None:
    """Writes the folder of a timm model."""
    side = spec.test_size
    preparation = {
        "input_size": [3, side, side],
        "crop_pct": side / spec.test_resize if spec.test_resize else 1.0,
        "crop_mode": "center" if spec.test_resize else "squash",
    }
    if spec.class_names is not None:
        preparation["label_names"] = list(spec.class_names)
    arrays = _arrays(model, "a timm checkpoint")
    save_timm(path, arrays, config={"bit_keras": spec.as_dict()}, pretrained_cfg=preparation)


def write_transformers(model: keras.Model, path: pathlib.Path, *, spec: ModelSpec) -> None:
    """Writes the folder of a transformers model."""
    side = spec.test_size
    config = {"bit_keras": spec.as_dict()}
    if spec.class_names is not None:
        config["id2label"] = dict(enumerate(spec.class_names))
        config["label2id"] = {name: n for n, name in enumerate(spec.class_names)}
        several = spec.loss == "sigmoid"
        config["problem_type"] = f"{'multi' if several else 'single'}_label_classification"
    square = {"height": side, "width": side}
    pixels = {"do_resize": True, "size": square, "resample": PIL.Image.Resampling.BILINEAR}
    if spec.test_resize:
        pixels |= {"size": {"shortest_edge": spec.test_resize}, "crop_size": square}
        pixels["do_center_crop"] = True
    weights = _arrays(model, "a transformers checkpoint")
    groups = model.get_layer("group_norm").groups
    save_transformers(path, weights, groups=groups, config=config, preprocessor=pixels)


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
