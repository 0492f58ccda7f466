"""ONNX Runtime, OpenVINO and LiteRT: a file as one function, in this process or one of its own.

A process of its own keeps the caller alive when a runtime aborts at a file, and its memory apart.
This file is its program. It imports neither Keras nor TensorFlow, so that it starts at once.
"""

import contextlib
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

# Where a processor has bfloat16, OpenVINO computes in it; a file cannot forbid that.
OPENVINO_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32"}
# The modules that this needs are found where the caller finds them.
_START = "import runpy, sys; sys.path[:] = {path!r}; runpy.run_path({file!r}, run_name='__main__')"


class Opened(NamedTuple):
    """A file that a runtime has opened.

    Attributes:
        compute: float32 images `[batch, height, width, 3]` to arrays `[batch, ...]` by name.
        outputs: From the name of each of them to its last axis.
        size: The one side of images it takes, in pixels, or None if it takes any.
        facts: The JSON text of the facts in the file, or None.
    """

    compute: Callable[[np.ndarray], dict[str, np.ndarray]]
    outputs: dict[str, int]
    size: int | None
    facts: str | None


def open_here(runtime: str, path: pathlib.Path) -> Opened:
    """Opens a file by "onnx", "openvino" or "litert". Runtimes raise whatever they meet in it."""
    return {"onnx": _onnx, "openvino": _openvino, "litert": _litert}[runtime](path)


@contextlib.contextmanager
def open_apart(runtime: str, path: pathlib.Path) -> Iterator[Opened]:
    """The same in a process of its own, which ends with the block.

    Raises RuntimeError for what the runtime raises, and if its process ends.
    """
    start = _START.format(path=sys.path, file=__file__)
    command = [sys.executable, "-c", start, runtime, os.fspath(path)]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):

        def answer():
            try:
                found = pickle.load(process.stdout)
            except EOFError:
                code = process.wait()
                said.seek(0)
                lines = [line for line in said.read().splitlines() if line.strip()]
                last = f": {lines[-1]}" if lines else ""
                raise RuntimeError(f"the process of {runtime} ended with {code}{last}") from None
            if isinstance(found, Exception):
                raise found
            return found

        def compute(images):
            with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                pickle.dump(np.asarray(images), process.stdin, protocol=5)
                process.stdin.flush()
            return answer()

        try:
            yield Opened(compute, *answer())
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # images that it has not read
                process.stdin.close()


def _onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = {output.name: output.shape[-1] for output in session.get_outputs()}

    def compute(images):
        return dict(zip(outputs, session.run(list(outputs), {"images": images}), strict=True))

    facts = session.get_modelmeta().custom_metadata_map.get("bit_keras")
    return Opened(compute, outputs, None, facts)


def _openvino(path):
    import openvino

    core = openvino.Core()
    model = core.read_model(pathlib.Path(path, "model.xml"))
    known = model.has_rt_info(["bit_keras"])
    facts = model.get_rt_info(["bit_keras"]).astype(str) if known else None
    compiled = core.compile_model(model, "CPU", OPENVINO_OPTIONS)
    outputs = {output.any_name: output.partial_shape[-1] for output in compiled.outputs}
    outputs = {name: axis.get_length() for name, axis in outputs.items()}

    def compute(images):
        answers = compiled(images)
        return {name: answers[name] for name in outputs}

    return Opened(compute, outputs, None, facts)


def _litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(os.fspath(path), num_threads=os.cpu_count())
    serve = interpreter.get_signature_runner()
    taken, given = serve.get_input_details()["images"], serve.get_output_details()
    size = int(taken["shape_signature"][1])
    outputs = {name: int(part["shape"][-1]) for name, part in given.items()}

    def compute(images):
        # One at a time, as a file of one size takes them.
        answers = [serve(images=_as_taken(image[None], taken)) for image in images]
        answers = {name: np.concatenate([one[name] for one in answers]) for name in outputs}
        return {name: _as_floats(answers[name], given[name]) for name in outputs}

    facts = None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            facts = archive.read("bit_keras.json").decode()
    return Opened(compute, outputs, None if size == -1 else size, facts)


def _as_taken(images, details):
    """Floats in the type of an input: an integer n is (n - zero point) * scale."""
    if np.issubdtype(details["dtype"], np.floating):
        return images
    scale, zero_point = details["quantization"]
    limits = np.iinfo(details["dtype"])
    numbers = np.rint(images / scale + zero_point)
    return numbers.clip(limits.min, limits.max).astype(details["dtype"])


def _as_floats(answers, details):
    if np.issubdtype(details["dtype"], np.floating):
        return answers
    scale, zero_point = details["quantization"]
    return (answers.astype(np.float32) - zero_point) * np.float32(scale)


def _serve(runtime, path):
    """Answers on standard output what the file says of itself, and every batch that comes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a runtime prints

    def tell(what):
        pickle.dump(what, answers, protocol=5)
        answers.flush()

    try:
        opened = open_here(runtime, path)
        tell(opened[1:])
        while True:
            tell(opened.compute(pickle.load(sys.stdin.buffer)))
    except EOFError:
        pass
    except Exception as error:
        tell(RuntimeError("".join(traceback.format_exception_only(error)).strip()))


if __name__ == "__main__":
    _serve(*sys.argv[1:])
