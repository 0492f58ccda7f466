"""OpenVINO's format, written by OpenVINO's converter. The runtime is part of an extra."""

import pathlib

import keras
import numpy as np

from .artifact import Artifact, single_output, unnamed
from .inference_graph import traced_inference_graph

# Where a processor has bfloat16, OpenVINO computes in it; a file cannot forbid that.
OPENVINO_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32"}


def write_openvino(model: keras.Model, path: pathlib.Path) -> None:
    """Writes a folder with `model.xml` and `model.bin`, for images of any size."""
    import openvino

    path.mkdir()
    forward, _variables = traced_inference_graph(model)
    converted = openvino.convert_model(forward)
    converted.inputs[0].get_node().set_friendly_name("images")
    converted.inputs[0].tensor.set_names({"images"})
    openvino.serialize(converted, path / "model.xml")


def open_openvino(path: pathlib.Path) -> Artifact:
    """Opens what `write_openvino` wrote."""
    import openvino

    compiled = openvino.Core().compile_model(path / "model.xml", "CPU", OPENVINO_OPTIONS)
    outputs = {output.any_name: output.partial_shape[-1] for output in compiled.outputs}

    def compute(images: np.ndarray):
        answers = compiled(images)
        return unnamed({name: answers[name] for name in outputs})

    return Artifact(
        compute,
        single_output(list(outputs)),
        outputs["logits"].get_length() if "logits" in outputs else None,
    )
