"""The table of formats: how each is written and opened."""

import dataclasses
import pathlib
from collections.abc import Callable

from .artifact import Artifact
from .litert import open_litert, write_litert
from .onnx import open_onnx, write_onnx
from .openvino import OPENVINO_OPTIONS, open_openvino, write_openvino
from .saved_model import open_saved_model, write_saved_model
from .web import open_web, write_web
from .weight_files import open_weights, write_keras, write_npz, write_timm, write_transformers


@dataclasses.dataclass(frozen=True)
class Format:
    """How a format is written and opened.

    Attributes:
        name: The file's suffix with its dot; or, of a format that is a folder, the file in it that
            tells one from a folder of anything else.
        write: `(model, path, **options)`.
        open: For the comparison with the model, and for later use.
        options: What `write` takes beside `spec`, of "fixed_size", "frozen", "precision" and
            "calibration".
        packages: Python packages, by their modules' names, that writing and opening need.
        extra: The extra of bit-keras that installs them, if they are no part of it.
        runtime_options: What the runtime is told.
    """

    name: str
    write: Callable[..., None]
    open: Callable[[pathlib.Path], Artifact]
    options: tuple[str, ...] = ()
    packages: tuple[str, ...] = ("tensorflow",)
    extra: str = ""
    runtime_options: dict | None = None

    @property
    def is_folder(self) -> bool:
        """Whether an export is a folder, and not a file."""
        return not self.name.startswith(".")

    def matches(self, path: pathlib.Path) -> bool:
        """Whether a path is, by its suffix or by the files in it, an export in this format."""
        return (path / self.name).is_file() if self.is_folder else path.suffix == self.name


_INTEROP = {"packages": ("safetensors",), "extra": "interop"}
_ONNX = {"packages": ("onnxruntime", "onnx", "tf2onnx"), "extra": "runtimes"}

FORMATS = {
    "saved_model": Format(
        "saved_model.pb",
        write_saved_model,
        open_saved_model,
        options=("frozen",),
    ),
    "keras": Format(".keras", write_keras, open_weights, packages=("keras",)),
    "npz": Format(".npz", write_npz, open_weights),
    "timm": Format("model.safetensors", write_timm, open_weights, **_INTEROP),
    "transformers": Format("model.safetensors", write_transformers, open_weights, **_INTEROP),
    "litert": Format(
        ".tflite",
        write_litert,
        open_litert,
        options=("fixed_size", "precision", "calibration"),
        packages=("ai_edge_litert",),
        extra="runtimes",
    ),
    "onnx": Format(".onnx", write_onnx, open_onnx, **_ONNX),
    "openvino": Format(
        "model.xml",
        write_openvino,
        open_openvino,
        packages=("openvino",),
        extra="runtimes",
        runtime_options=OPENVINO_OPTIONS,
    ),
    "web": Format("onnxruntime.wasm", write_web, open_web, **_ONNX),
}
