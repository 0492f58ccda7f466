"""A folder of static files that classifies pictures in a browser.

`page/` holds the page itself. ONNX Runtime's build for browsers is downloaded from the npm registry
at the first such export, and stays in the cache of downloads.
"""

import json
import os
import pathlib
import shutil
import tarfile

import keras

from ..checkpoints import DownloadError, cache_dir, fetch
from ..models.spec import ModelSpec
from .artifact import has_head
from .errors import ExportError
from .onnx import write_onnx

_PAGE = pathlib.Path(__file__).parent / "page"
_PACKAGE = "onnxruntime-web-1.30.0.tgz"
_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_RUNTIME = {  # what is taken of the package, and its name beside the page
    "package/dist/ort.wasm.bundle.min.mjs": "onnxruntime.js",  # not every server knows .mjs
    "package/dist/ort-wasm-simd-threaded.wasm": "onnxruntime.wasm",
}


def write_web(model: keras.Model, path: pathlib.Path, *, spec: ModelSpec) -> None:
    """Writes the page, the runtime and the model."""
    if not has_head(model):
        raise ExportError(
            f"a page shows classes, and {model.name!r} has no head; fine-tune it first, or export "
            "it with format='onnx'."
        )
    package = _runtime_package()
    shutil.copytree(_PAGE, path)
    with tarfile.open(package) as archive:
        for member, name in _RUNTIME.items():
            (path / name).write_bytes(archive.extractfile(member).read())
    write_onnx(model, path / "model.onnx", spec=spec)
    about = {
        "size": spec.test_size,
        "resize": spec.test_resize,
        "labels": spec.own_names(),
        "loss": spec.loss,
        "bytes": {
            name: (path / name).stat().st_size for name in ("onnxruntime.wasm", "model.onnx")
        },
    }
    (path / "model.json").write_text(json.dumps(about, indent=2) + "\n")


def _runtime_package() -> pathlib.Path:
    """The npm package's archive, from npm's registry or that of `NPM_CONFIG_REGISTRY`."""
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or "https://registry.npmjs.org"
    source = f"{registry.rstrip('/')}/onnxruntime-web/-"
    try:
        return fetch(_PACKAGE, base_url=source, cache_dir=cache_dir(), sha256=_SHA256)
    except DownloadError as error:
        raise ExportError(
            f"a page needs {source}/{_PACKAGE}, which cannot be had ({error.__cause__ or error}); "
            "check the network, set NPM_CONFIG_REGISTRY to a mirror, or put the file by hand into "
            f"{cache_dir()}."
        ) from error
