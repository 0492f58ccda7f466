"""LiteRT's format, written by TensorFlow's converter. The runtime is part of an extra."""

import pathlib
import tempfile
import zipfile

import keras
import numpy as np
import tensorflow as tf

from ..models.spec import ModelSpec
from ..training.tf_workarounds import quantized_with_integers
from .inference_graph import traced_inference_graph

# What stays float32 in an int8 file: normalization and the shortcuts. (All of it in int8 makes a
# file at which LiteRT 2.3 aborts, and eight bits cannot hold 1 / sqrt(variance).)
_FLOAT_OPS = ("MEAN", "SQUARED_DIFFERENCE", "RSQRT", "RESHAPE", "MUL", "SUB", "ADD")


def write_litert(
    model: keras.Model,
    path: pathlib.Path,
    *,
    spec: ModelSpec,
    fixed_size: int | None,
    precision: str,
    calibration: np.ndarray | None,
    integer_io: bool,
) -> None:
    """Writes a file for one image of `fixed_size`, or for any shape if that is None.

    With `integer_io` it takes pixels as bytes and answers in int8, both with scale and zero point.
    The facts are in a zip archive at its end, as LiteRT's own metadata keep files.
    """
    shape = (1, fixed_size, fixed_size, 3) if fixed_size else (None, None, None, 3)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        forward, module = traced_inference_graph(model, shape, of_bytes=integer_io)
        tf.saved_model.save(module, folder, signatures=forward)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            written = _int8(converter, calibration, integer_io)
        else:
            written = converter.convert()
    path.write_bytes(written)
    with zipfile.ZipFile(path, "a") as archive:
        files = {"bit_keras.json": spec.to_json()}
        if spec.class_names is not None:
            files["labels.txt"] = "".join(f"{name}\n" for name in spec.class_names)
        for name, text in files.items():
            # Of 1980, like every file without a date: the same model makes the same file.
            archive.writestr(zipfile.ZipInfo(name), text.encode(errors="replace"))


def _int8(converter, calibration, integer_io):
    converter.representative_dataset = lambda: (
        [image[None] / np.float32(255)] for image in calibration
    )
    # Only the debugger lets one choose which ops are quantized.
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=converter.representative_dataset,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=[*_FLOAT_OPS]),
    )
    if integer_io:
        return quantized_with_integers(debugger.calibrated_model, _FLOAT_OPS)
    return debugger.get_nondebug_quantized_model()
