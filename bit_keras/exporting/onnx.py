"""ONNX, written by tf2onnx. Converter and runtime are part of an extra."""

import os
import pathlib
from collections.abc import Callable
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from ..models.spec import ModelSpec
from .artifact import named, output_name
from .inference_graph import inference_graph


def write_onnx(
    model: keras.Model,
    path: pathlib.Path,
    *,
    spec: ModelSpec,
    answers: Callable[[Callable, tf.Tensor], dict[str, tf.Tensor]] | None = None,
) -> None:
    """Writes an `.onnx` file for images of any size, with the facts in its metadata.

    The graph is converted with its weights as inputs, which then become constants: tf2onnx holds
    some thirty copies of what weights it sees, 3.5 GB for an R50x1.

    Args:
        model: The model.
        path: The file.
        spec: The facts.
        answers: From the model's inference graph, as a function, and images, float32 `[batch,
            height, width, 3]`, to the file's outputs; by default those of the model, by name.
    """
    graph = inference_graph(model)
    variables = {f"weight{n}": variable for n, variable in enumerate(graph.variables)}
    if answers is None:

        def answers(network, images):
            return named(network(images), output_name(model))

    written = _converted(graph, variables, answers)
    written.metadata_props.add(key="bit_keras", value=spec.to_json())
    _write(path, written, _take_constants(written.graph, variables))


def _converted(graph, variables, answers):
    """The graph and what is around it, as an ONNX model with inputs `images` and all weights."""
    import tf2onnx

    @tf.function(autograph=False)
    def forward(images, *weights):
        return answers(lambda inputs: graph.stateless_call([], weights, inputs)[0], images)

    signature = [tf.TensorSpec((None, None, None, 3), tf.float32, name="images")]
    signature += [tf.TensorSpec(v.shape, tf.float32, name=name) for name, v in variables.items()]
    # Otherwise it copies the whole graph before each of three dozen passes.
    with mock.patch.dict(os.environ, {"TF2ONNX_CATCH_ERRORS": "FALSE"}):
        return tf2onnx.convert.from_function(forward, signature)[0]


def _take_constants(graph, variables):
    """Drops the weights from a graph's inputs.

    Returns the constants that the graph then lacks: name -> (variable, how to transpose it).
    """
    inputs, nodes = graph.input, graph.node
    del inputs[[value.name for value in inputs].index("images") + 1 :]
    # Kernels are [height, width, in, out] here and [out, in, height, width] there.
    transposes = [n for n in nodes if n.op_type == "Transpose" and n.input[0] in variables]
    constants = {n.output[0]: (variables[n.input[0]], n.attribute[0].ints) for n in transposes}
    for node in transposes:
        nodes.remove(node)
    for name in {name for node in nodes for name in node.input} & variables.keys():
        constants[name] = (variables[name], None)
    return constants


def _write(path, written, constants):
    """Writes a model as protobuf would serialize the whole, but one constant at a time.

    A field is its number and type in one byte, its size, and its bytes.
    """
    import onnx

    def tensor(name):
        variable, axes = constants[name]
        array = np.ascontiguousarray(variable.numpy().transpose(axes))
        return onnx.numpy_helper.from_array(array, name)

    lengths = {name: tensor(name).ByteSize() for name in constants}
    graph_bytes = written.graph.SerializeToString()
    heads = {name: b"\x2a" + _varint(length) for name, length in lengths.items()}  # 5: initializer
    size = len(graph_bytes) + sum(len(heads[name]) + lengths[name] for name in constants)
    written.ClearField("graph")
    with open(path, "wb") as file:
        file.write(written.SerializeToString() + b"\x3a" + _varint(size) + graph_bytes)  # 7: graph
        for name in constants:
            file.write(heads[name] + tensor(name).SerializeToString())


def _varint(number):
    """Protobuf's integers: seven bits a byte, the lowest first; the eighth bit: more follow."""
    if number < 128:
        return bytes([number])
    return bytes([number & 127 | 128]) + _varint(number >> 7)
