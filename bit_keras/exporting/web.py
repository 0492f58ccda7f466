"""A folder of plain files that classifies pictures in a browser, wherever it is served from.

`page/` is what people see. ONNX Runtime's build for browsers comes from the npm registry with the
first such export, and stays in the cache of downloads.
"""

import json
import os
import pathlib
import shutil
import tarfile

from ..checkpoints import DownloadError, cache_dir, fetch
from .errors import ExportError
from .runtimes import read_onnx, write_onnx

PAGE = pathlib.Path(__file__).parent / "page"
PACKAGE = "onnxruntime-web-1.30.0.tgz"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
RUNTIME = {  # what is taken of the package, and its name beside the page
    "package/dist/ort.wasm.bundle.min.mjs": "onnxruntime.js",  # not every server knows .mjs
    "package/dist/ort-wasm-simd-threaded.wasm": "onnxruntime.wasm",
}


def write_web(model, path, *, answer, size, labels):
    if answer != "logits":
        raise ExportError(
            f"a page shows classes, and {model.name!r} has no head; fine-tune it first, or export "
            "it with format='onnx'."
        )
    package = runtime_package()
    shutil.copytree(PAGE, path)
    with tarfile.open(package) as archive:
        for member, name in RUNTIME.items():
            (path / name).write_bytes(archive.extractfile(member).read())
    write_onnx(model, path / "model.onnx", answer=answer)
    about = {
        "size": size,
        "labels": list(labels or map(str, range(model.output_shape[-1]))),
        "bytes": {
            name: (path / name).stat().st_size for name in ("onnxruntime.wasm", "model.onnx")
        },
    }
    (path / "model.json").write_text(json.dumps(about, indent=2) + "\n")


def runtime_package() -> pathlib.Path:
    """The npm package's archive, from npm's registry or that of `NPM_CONFIG_REGISTRY`."""
    registry = os.environ.get("NPM_CONFIG_REGISTRY") or "https://registry.npmjs.org"
    source = f"{registry.rstrip('/')}/onnxruntime-web/-"
    try:
        return fetch(PACKAGE, base_url=source, cache_dir=cache_dir(), sha256=SHA256)
    except DownloadError as error:
        raise ExportError(
            f"a page needs {source}/{PACKAGE}, which cannot be had ({error.__cause__ or error}); "
            "check the network, set NPM_CONFIG_REGISTRY to a mirror, or put the file by hand into "
            f"{cache_dir()}."
        ) from error


def read_web(path, answer, size):
    return read_onnx(path / "model.onnx", answer, size)
