"""The table of formats: how each is written and read back."""

import dataclasses
from collections.abc import Callable

from .runtimes import (
    OPENVINO_OPTIONS,
    read_litert,
    read_onnx,
    read_openvino,
    write_litert,
    write_onnx,
    write_openvino,
)
from .saved_model import read_saved_model, write_saved_model
from .web import read_web, write_web
from .weight_files import (
    read_keras,
    read_weights,
    write_keras,
    write_npz,
    write_timm,
    write_transformers,
)


@dataclasses.dataclass(frozen=True)
class Format:
    """How a format is written and read back.

    Attributes:
        name: The file's suffix with its dot; or, of a format that is a folder, the file in it that
            tells one from a folder of anything else.
        write: `(model, path, **options)`.
        read: `(path, answer, size)` to a function from uint8 images to answers.
        options: What `write` takes, of "answer" (the output's name, "logits" or "features"),
            "size", "fixed_size", "labels", "multi_label", "frozen", "precision" and "calibration".
        packages: Python packages, by their modules' names, that writing and reading need.
        extra: The extra of bit-keras that installs them, if they are no part of it.
        runtime_options: What the runtime was told when the export was compared.
    """

    name: str
    write: Callable
    read: Callable
    options: tuple[str, ...] = ()
    packages: tuple[str, ...] = ("tensorflow",)
    extra: str = ""
    runtime_options: dict | None = None

    @property
    def is_folder(self):
        return not self.name.startswith(".")


FORMATS = {
    "saved_model": Format(
        "saved_model.pb",
        write_saved_model,
        read_saved_model,
        options=("answer", "size", "labels", "multi_label", "frozen"),
    ),
    "keras": Format(".keras", write_keras, read_keras, packages=("keras",)),
    "npz": Format(".npz", write_npz, read_weights),
    "timm": Format(
        "model.safetensors", write_timm, read_weights, packages=("safetensors",), extra="interop"
    ),
    "transformers": Format(
        "model.safetensors",
        write_transformers,
        read_weights,
        packages=("safetensors",),
        extra="interop",
    ),
    "litert": Format(
        ".tflite",
        write_litert,
        read_litert,
        options=("answer", "fixed_size", "precision", "calibration"),
        packages=("ai_edge_litert",),
        extra="runtimes",
    ),
    "onnx": Format(
        ".onnx",
        write_onnx,
        read_onnx,
        options=("answer",),
        packages=("onnxruntime", "onnx", "tf2onnx"),
        extra="runtimes",
    ),
    "openvino": Format(
        "model.xml",
        write_openvino,
        read_openvino,
        options=("answer",),
        packages=("openvino",),
        extra="runtimes",
        runtime_options=OPENVINO_OPTIONS,
    ),
    "web": Format(
        "onnxruntime.wasm",
        write_web,
        read_web,
        options=("answer", "size", "labels"),
        packages=("onnxruntime", "onnx", "tf2onnx"),
        extra="runtimes",
    ),
}
