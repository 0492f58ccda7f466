"""OpenVINO's format, written by OpenVINO's converter. The runtime is part of an extra."""

import contextlib
import pathlib
import sys
from unittest import mock

import keras
import tensorflow as tf

from ..models.spec import ModelSpec
from .inference_graph import traced_inference_graph


def write_openvino(model: keras.Model, path: pathlib.Path, *, spec: ModelSpec) -> None:
    """Writes `model.xml`, with the facts in its `rt_info`, and `model.bin`, for any size."""
    import openvino

    path.mkdir()
    forward, _variables = traced_inference_graph(model)
    with _version_of_tensorflow_known():
        converted = openvino.convert_model(forward)
    converted.inputs[0].get_node().set_friendly_name("images")
    converted.inputs[0].tensor.set_names({"images"})
    converted.set_rt_info(spec.to_json(), ["bit_keras"])
    openvino.serialize(converted, path / "model.xml")


def _version_of_tensorflow_known():
    """OpenVINO 2026.4 asks for it by an `exec` whose names Python 3.13 does not keep, and fails."""
    if sys.version_info < (3, 13):
        return contextlib.nullcontext()
    return mock.patch(
        "openvino.frontend.tensorflow.utils.get_environment_setup",
        return_value={"tensorflow": tf.__version__},
    )
