"""The table of formats: how each is written and opened."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator

from ..choices import EXPORT_FORMATS
from ..training.backends import on_tensorflow
from .artifact import Artifact, runtime_artifact
from .runtimes import OPENVINO_OPTIONS, open_apart, open_here
from .weight_files import open_weights, write_keras, write_npz, write_timm, write_transformers


@dataclasses.dataclass(frozen=True)
class Format:
    """How a format is written and opened.

    Attributes:
        name: The file's suffix with its dot; or, of a format that is a folder, the file in it that
            tells one from a folder of anything else.
        write: `(model, path, **options)`.
        opener: What opens it; or the name in `runtimes` of the runtime that does.
        graph: The file in the folder that a runtime opens, if it is not the folder.
        options: What `write` takes beside `spec`, of "fixed_size", "frozen", "precision",
            "calibration" and "integer_io".
        packages: Python packages, by their modules' names, that writing and opening need.
        extra: The extra of bit-keras that installs them, if they are no part of it.
        runtime_options: What the runtime is told.
        compared: Whose answers are compared with the model's.
        not_compared: Who uses such exports otherwise, without being compared; empty for nobody.
    """

    name: str
    write: Callable[..., None]
    opener: Callable[[pathlib.Path], Artifact] | str
    graph: str = ""
    options: tuple[str, ...] = ()
    packages: tuple[str, ...] = ("tensorflow",)
    extra: str = ""
    runtime_options: dict | None = None
    compared: str = "Keras, with the weights and facts that were read back"
    not_compared: str = ""

    def open(self, path: pathlib.Path) -> Artifact:
        """Opens an export in this format."""
        if isinstance(self.opener, str):
            return runtime_artifact(open_here(self.opener, path / self.graph))
        return self.opener(path)

    @contextlib.contextmanager
    def open_apart(self, path: pathlib.Path) -> Iterator[Artifact]:
        """Opens one, with its runtime, if it has one, in a process that ends with the block."""
        if isinstance(self.opener, str):
            with open_apart(self.opener, path / self.graph) as opened:
                yield runtime_artifact(opened)
        else:
            yield self.open(path)

    @property
    def is_folder(self) -> bool:
        """Whether an export is a folder, and not a file."""
        return not self.name.startswith(".")

    def matches(self, path: pathlib.Path) -> bool:
        """Whether a path is, by its suffix or by the files in it, an export in this format."""
        return (path / self.name).is_file() if self.is_folder else path.suffix == self.name


_INTEROP = {"packages": ("safetensors",), "extra": "interop"}
_PEER = "{} itself, with its own preparation of pictures (make test-peers compares it)"
_ONNX = {"packages": ("onnxruntime", "onnx", "tf2onnx"), "extra": "runtimes"}

_WEIGHTS = {
    "keras": Format(".keras", write_keras, open_weights, packages=("keras",)),
    "npz": Format(".npz", write_npz, open_weights, packages=("keras",)),
    "timm": Format(
        "model.safetensors",
        write_timm,
        open_weights,
        **_INTEROP,
        not_compared=_PEER.format("timm"),
    ),
    "transformers": Format(
        "model.safetensors",
        write_transformers,
        open_weights,
        **_INTEROP,
        not_compared=_PEER.format("transformers"),
    ),
}


def _graphs() -> dict[str, Format]:
    """The formats that hold a graph, which TensorFlow traces."""
    from .litert import write_litert
    from .onnx import write_onnx
    from .openvino import write_openvino
    from .saved_model import open_saved_model, write_saved_model
    from .web import write_web

    return {
        "saved_model": Format(
            "saved_model.pb",
            write_saved_model,
            open_saved_model,
            options=("frozen",),
            compared="TensorFlow, by every signature",
        ),
        "litert": Format(
            ".tflite",
            write_litert,
            "litert",
            options=("fixed_size", "precision", "calibration", "integer_io"),
            packages=("ai_edge_litert",),
            extra="runtimes",
            compared="LiteRT",
        ),
        "onnx": Format(".onnx", write_onnx, "onnx", **_ONNX, compared="ONNX Runtime"),
        "openvino": Format(
            "model.xml",
            write_openvino,
            "openvino",
            packages=("openvino",),
            extra="runtimes",
            runtime_options=OPENVINO_OPTIONS,
            compared="OpenVINO, told to compute in float32",
            not_compared="OpenVINO in bfloat16, which it takes by itself where a processor has it",
        ),
        "web": Format(
            "onnxruntime.wasm",
            write_web,
            "onnx",
            "model.onnx",
            **_ONNX,
            compared="ONNX Runtime, outside of a browser",
            not_compared="the page in a browser",
        ),
    }


_KNOWN = {**_WEIGHTS, **(_graphs() if on_tensorflow() else {})}
FORMATS = {name: _KNOWN[name] for name in EXPORT_FORMATS if name in _KNOWN}
