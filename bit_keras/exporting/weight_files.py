"""Weights without a graph: for this package, for timm and for transformers."""

import numpy as np

from ..checkpoints import architecture, save_npz, save_timm, save_transformers
from ..models.resnet_v2 import default_groups
from ..models.zoo import load
from .errors import ExportError
from .inference_graph import float32_policy


def write_keras(model, path):
    model.save(path)


def write_npz(model, path):
    save_npz(path, arrays(model, "an npz"))


def write_timm(model, path):
    save_timm(path, arrays(model, "a timm checkpoint"))


def write_transformers(model, path):
    weights = arrays(model, "a transformers checkpoint")
    save_transformers(path, weights, groups=model.get_layer("group_norm").groups)


def arrays(model, holder):
    """The weights of a model whose architecture can be read off them again."""
    weights = {variable.path: variable.numpy() for variable in model.variables}
    paths = " ".join(weights)
    for found, reason in (
        ("batch_norm/" in paths, "batch normalization"),
        ("/conv2d/" in paths.replace("head/conv2d/", ""), "plain convolutions"),
    ):
        if found:
            raise ExportError(
                f"{holder} cannot hold {reason}, which {model.name!r} has; "
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


def read_keras(path, answer, size):
    model = load(path)

    def answers(images):
        yield model(images / np.float32(255), training=False)

    return answers


def read_weights(path, answer, size):
    with float32_policy():
        return read_keras(path, answer, size)
