"""OpenVINO's format, written by OpenVINO's converter. The runtime is part of an extra."""

import pathlib

import keras
import numpy as np

from ..models.spec import ModelSpec
from .artifact import Artifact, single_output, unnamed
from .inference_graph import traced_inference_graph

# Where a processor has bfloat16, OpenVINO computes in it; a file cannot forbid that.
OPENVINO_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32"}


def write_openvino(model: keras.Model, path: pathlib.Path, *, spec: ModelSpec) -> None:
    """Writes `model.xml`, with the facts in its `rt_info`, and `model.bin`, for any size."""
    import openvino

    path.mkdir()
    forward, _variables = traced_inference_graph(model)
    converted = openvino.convert_model(forward)
    converted.inputs[0].get_node().set_friendly_name("images")
    converted.inputs[0].tensor.set_names({"images"})
    converted.set_rt_info(spec.to_json(), ["bit_keras"])
    openvino.serialize(converted, path / "model.xml")


def open_openvino(path: pathlib.Path) -> Artifact:
    """Opens what `write_openvino` wrote."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path / "model.xml")
    spec = None
    if model.has_rt_info(["bit_keras"]):
        spec = ModelSpec.from_json(model.get_rt_info(["bit_keras"]).astype(str))
    compiled = core.compile_model(model, "CPU", OPENVINO_OPTIONS)
    outputs = {output.any_name: output.partial_shape[-1] for output in compiled.outputs}

    def compute(images: np.ndarray):
        answers = compiled(images)
        return unnamed({name: answers[name] for name in outputs})

    return Artifact(
        compute,
        single_output(list(outputs)),
        outputs["logits"].get_length() if "logits" in outputs else None,
        spec=spec,
    )
