"""LiteRT, ONNX and OpenVINO, each written by its own or Keras's exporter from the inference graph.

The runtimes are imported where they are used: they are the extra `runtimes`.
"""

import os
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from .inference_graph import inference_graph

# Where a processor has bfloat16, OpenVINO computes in it; a file cannot forbid that.
OPENVINO_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32"}

# What stays float32 in an int8 file: normalization and the shortcuts. (All of it in int8 makes a
# file at which LiteRT 2.3 aborts, and eight bits cannot hold 1 / sqrt(variance).)
FLOAT_OPS = ("MEAN", "SQUARED_DIFFERENCE", "RSQRT", "RESHAPE", "MUL", "SUB", "ADD")


def keras_export(model, path, format, answer, shape=(None, None, None, 3)):
    graph = inference_graph(model)
    keras.Model(graph.input, {answer: graph.output}).export(
        os.fspath(path),
        format=format,
        verbose=False,
        input_signature=[keras.InputSpec("float32", shape, name="images")],
    )


def write_onnx(model, path, *, answer):
    """Converts the graph with its weights as inputs, which then become constants.

    tf2onnx holds some thirty copies of what weights it sees: 3.5 GB for an R50x1.
    """
    import onnx
    import tf2onnx

    graph = inference_graph(model)
    variables = {f"weight{n}": variable for n, variable in enumerate(graph.variables)}

    @tf.function
    def forward(images, *weights):
        return {answer: graph.stateless_call([], weights, images)[0]}

    signature = [tf.TensorSpec((None, None, None, 3), tf.float32, name="images")]
    signature += [tf.TensorSpec(v.shape, tf.float32, name=name) for name, v in variables.items()]
    written, _ = tf2onnx.convert.from_function(forward, signature)
    inputs, nodes = written.graph.input, written.graph.node
    del inputs[[value.name for value in inputs].index("images") + 1 :]
    # Kernels are [height, width, in, out] here and [out, in, height, width] there.
    transposes = [n for n in nodes if n.op_type == "Transpose" and n.input[0] in variables]
    constants = {n.output[0]: (variables[n.input[0]], n.attribute[0].ints) for n in transposes}
    for node in transposes:
        nodes.remove(node)
    for name in {name for node in nodes for name in node.input} & variables.keys():
        constants[name] = (variables[name], None)

    def tensor(name):
        variable, axes = constants[name]
        array = np.ascontiguousarray(variable.numpy().transpose(axes))
        return onnx.numpy_helper.from_array(array, name)

    # As protobuf would serialize the whole, but one tensor at a time: a field is its number and
    # type in one byte, its size, and its bytes.
    lengths = {name: tensor(name).ByteSize() for name in constants}
    graph_bytes = written.graph.SerializeToString()
    heads = {name: b"\x2a" + varint(length) for name, length in lengths.items()}  # 5: initializer
    size = len(graph_bytes) + sum(len(heads[name]) + lengths[name] for name in constants)
    written.ClearField("graph")
    with open(path, "wb") as file:
        file.write(written.SerializeToString() + b"\x3a" + varint(size) + graph_bytes)  # 7: graph
        for name in constants:
            file.write(heads[name] + tensor(name).SerializeToString())


def varint(number):
    """Protobuf's integers: seven bits a byte, the lowest first, the eighth tells of more."""
    if number < 128:
        return bytes([number])
    return bytes([number & 127 | 128]) + varint(number >> 7)


def read_onnx(path, answer, size):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def answers(images):
        yield session.run([answer], {"images": images / np.float32(255)})[0]

    return answers


def write_openvino(model, path, *, answer):
    path.mkdir()
    keras_export(model, path / "model.xml", "openvino", answer)


def read_openvino(path, answer, size):
    import openvino

    compiled = openvino.Core().compile_model(path / "model.xml", "CPU", OPENVINO_OPTIONS)

    def answers(images):
        yield compiled(images / np.float32(255))[answer]

    return answers


def write_litert(model, path, *, answer, fixed_size, precision, calibration):
    """Writes a file for one image of `fixed_size`, or for any shape if that is None."""
    shape = (1, fixed_size, fixed_size, 3) if fixed_size else (None, None, None, 3)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        keras_export(model, folder, "tf_saved_model", answer, shape)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            converter.representative_dataset = lambda: (
                [image[None] / np.float32(255)] for image in calibration
            )
            # The only door to a choice of which ops are quantized.
            options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=[*FLOAT_OPS])
            debugger = tf.lite.experimental.QuantizationDebugger(
                converter=converter,
                debug_dataset=converter.representative_dataset,
                debug_options=options,
            )
            written = debugger.get_nondebug_quantized_model()
        else:
            written = converter.convert()
    pathlib.Path(path).write_bytes(written)


def read_litert(path, answer, size):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(os.fspath(path))
    [entrance] = interpreter.get_input_details()
    [exit_] = interpreter.get_output_details()

    def answers(images):
        if -1 in entrance["shape_signature"]:
            interpreter.resize_tensor_input(entrance["index"], (1, *images.shape[1:]))
        interpreter.allocate_tensors()
        rows = []
        for image in images:
            interpreter.set_tensor(entrance["index"], image[None] / np.float32(255))
            interpreter.invoke()
            rows.append(interpreter.get_tensor(exit_["index"])[0])
        yield np.stack(rows)

    return answers
