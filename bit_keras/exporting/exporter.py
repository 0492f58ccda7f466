"""Exports models: write, open, compare with the model, and only then move into place."""

import contextlib
import importlib.metadata
import logging
import math
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from ..checkpoints import CheckpointError, DownloadError, check_finite
from ..files import expanded
from ..models.spec import spec_of
from ..training.backends import on_tensorflow
from .artifact import forward_of, has_head
from .checks import ExportOptions, check_export
from .errors import ExportError
from .formats import FORMATS
from .inference_graph import computes_in_float32, float32_policy, inference_graph
from .placing import described, give_memory_back, put_in_place
from .proof import check_facts, compare, compare_pictures, own_images, photos
from .quiet import quiet

if TYPE_CHECKING:
    from ..data import LabeledImages

_DEFAULT_SIZE = 224
_TOP1_AGREEMENT = 0.98  # of an int8 file with its model


def export(
    model: keras.Model,
    path: str | os.PathLike,
    format: str = "saved_model",
    *,
    precision: str = "float32",
    integer_io: bool = False,
    frozen: bool = False,
    labels: Sequence[str] | None = None,
    multi_label: bool | None = None,
    size: int | None = None,
    images: "LabeledImages | np.ndarray | None" = None,
    overwrite: bool = False,
) -> float:
    """Writes a model to a file or folder, reads it back, compares, and moves it into place.

    What the use of the model needs, its `spec`, is written with it: class names, size and
    preparation of images, loss, source. `labels`, `multi_label` and `size` replace facts of it.

    The artifact's own runtime answers for images of that size and, if the artifact takes them, of
    an odd and an oblong size; and for encoded pictures, prepared and named by the facts that were
    read back. What came out is printed, and written to PATH.proof.json.

    Args:
        model: A model of `bit_keras.load`, `ResNetV2` or `fine_tune`.
        path: Where to.
        format: One of

            - "saved_model", a folder: a reusable TF2 SavedModel that takes float32 RGB in [0, 1] of
              any size and loads, and trains, in `hub.KerasLayer` and `hub.load`. Its signatures
              return `logits`, or `features` where the model has no head: "serving_default" of such
              `images`, "serve_uint8" of uint8 `images`, "serve_encoded" of `encoded`, strings
              `[batch]` that hold JPEG, PNG, WebP, BMP or GIF files, which are turned upright and
              laid over white, or refused where TensorFlow would decode them wrongly. The last adds
              `class_names` and `probabilities`, both `[batch, num_classes]` with the likeliest
              first,
            - "litert", a `.tflite` file: for one image of `size`; or, if that is None, for images
              of any size to which a runtime resizes its input first,
            - "onnx", an `.onnx` file, for images of any size,
            - "openvino", a folder with `model.xml` and `model.bin`, for images of any size. On
              processors that have bfloat16, OpenVINO uses it, and then differs by 1e-2 and more,
              unless it is told {"INFERENCE_PRECISION_HINT": "f32"}, as it is for the comparison,
            - "keras", a `.keras` file,
            - "npz", the weights by the names of the published files, for `load`,
            - "timm" and "transformers", folders with `model.safetensors` and `config.json`,
            - "web", a folder that any file server can serve: a page that classifies pictures in the
              browser, by ONNX Runtime, which is downloaded at first (33 MB, into the cache).

            All but "keras" and a SavedModel that is not frozen hold the model in float32.
        precision: Of a LiteRT file. "float16" halves it; "int8" quarters it, by convolutions of
            eight bits that are calibrated on `images`, between float32 normalizations.
        integer_io: An int8 file that takes bytes, uint8 of 0 to 255 as cameras give them (scale
            1/255, zero point 0), and answers in int8, whose scale and zero point are in the file.
            They cost next to nothing, for the convolutions between them have eight bits too.
        frozen: A SavedModel whose kernels were standardized once: a little faster, but it cannot
            be trained.
        labels: The classes' names; by default the model's, or else their numbers.
        multi_label: Whether every class has a probability of its own, by a sigmoid, and not a part
            of a softmax over all; by default as the model was trained.
        size: Side in pixels of the squares that pictures become, by default as the model was
            tested, or 224 if that is unknown; of a LiteRT file's input too, if it is given.
        images: What to calibrate and to compare on, at most 100 of them: labeled images, or
            uint8 or [0, 1] `[N, height, width, 3]`. By default 16 pieces of two photos. "int8" is
            calibrated on every other image, and compared on the rest.
        overwrite: Replace an older export at `path`, once the new one was compared.

    Returns:
        The largest absolute difference between the export's and the model's answers.

    Raises:
        ExportError: If an argument is wrong, the format cannot hold this model, a package is
            missing, the disk full, or a weight NaN or infinite; or the answers differ by more than
            1e-4 (or a part of 1e-5 of the largest answer, if that is more), with "float16" by more
            than a part of 2e-2; or with "int8" fewer than 98 % of the highest logits stay the
            highest. `path` is then as it was.
    """
    path = pathlib.Path(expanded(path))
    options = ExportOptions(
        *(format, precision, integer_io, frozen, labels, multi_label, size, images, overwrite)
    )
    check_export(model, path, options)
    _check_finite(model)
    spec = _facts(model, options)
    calibration, shown = _images(options, spec.test_size)

    def written_and_compared(written):
        with quiet(), described(model.name, format):
            _write(model, written, options, spec, calibration)
            return _proof(model, options, _compare(model, written, options, spec, shown))

    return put_in_place(path, written_and_compared, _verdict)["largest_difference"]


def _check_finite(model):
    for variable in model.variables:
        try:
            check_finite(variable.numpy(), variable.path, model.name)
        except CheckpointError as error:
            raise ExportError(str(error)) from None


def _facts(model, options):
    """The facts to write: the model's, and what the options replace."""
    spec = spec_of(model)
    if options.size or not spec.test_size:
        spec = spec.replace(test_size=options.size or _DEFAULT_SIZE, test_resize=None)
    if options.multi_label is not None:
        spec = spec.replace(loss="sigmoid" if options.multi_label else "softmax")
    spec = spec.replace(num_classes=model.output_shape[-1] if has_head(model) else 0)
    if options.labels is not None:
        return spec.replace(class_names=options.labels)
    if spec.published and spec.class_names is None and spec.num_classes:
        try:
            return spec.replace(class_names=spec.names())
        except DownloadError as error:
            logging.getLogger(__name__).warning(
                "the export calls its classes by their numbers: %s", error
            )
    return spec


def _images(options, size):
    """The images to calibrate on, or None, and those to compare on."""
    images = photos(size) if options.images is None else own_images(options.images, size)
    return (images[::2], images[1::2]) if options.precision == "int8" else (None, images)


def _write(model, path, options, spec, calibration):
    known = {
        "fixed_size": options.size,
        "frozen": options.frozen,
        "precision": options.precision,
        "calibration": calibration,
        "integer_io": options.integer_io,
    }
    kind = FORMATS[options.format]
    kind.write(model, path, spec=spec, **{name: known[name] for name in kind.options})
    give_memory_back()


def _compare(model, path, options, spec, images):
    kind, reference = FORMATS[options.format], forward_of(model)
    # Other files are float32, whatever policy the model was trained with.
    keeps_policy = options.format == "keras" or (
        options.format == "saved_model" and not options.frozen
    )
    if not keeps_policy and not computes_in_float32(model):
        reference = forward_of(inference_graph(model))
    one_size = options.precision == "int8" or (options.size and "fixed_size" in kind.options)
    with contextlib.ExitStack() as stack:
        with contextlib.nullcontext() if keeps_policy else float32_policy():
            artifact = stack.enter_context(kind.open_apart(path))
        found = compare(reference, artifact, images, all_sizes=not one_size, spec=spec)
        if artifact.num_classes:
            check_facts(artifact, spec)
        if artifact.num_classes and on_tensorflow():  # which is what decodes pictures
            allowed = _allowed_difference(options.precision, found["scale"]) or 0.0
            found |= compare_pictures(reference, spec, artifact, images, allowed)
    return found


def _proof(model, options, compared):
    """The content of `PATH.proof.json`."""
    kind, precision = FORMATS[options.format], options.precision
    allowed = _allowed_difference(precision, compared["scale"])
    if allowed is None:
        passed = math.isfinite(compared["largest_difference"])
        passed &= compared["top1_agreement"] >= _TOP1_AGREEMENT
    else:
        differences = [compared["largest_difference"]]
        differences.append(compared.get("largest_probability_difference", 0.0))
        passed = all(difference <= allowed for difference in differences)  # not so if one is nan
        passed &= compared.get("classes_agreement", 1.0) == 1
    return {
        "format": options.format,
        "precision": precision,
        "integer_io": options.integer_io,
        "model": model.name,
        "notice": spec_of(model).notice,
        **compared,
        "allowed_difference": allowed,
        "passed": passed,
        "proven": _proven(kind, precision, compared),
        "not_proven": kind.not_compared and f"Not compared: answers of {kind.not_compared}.",
        "versions": {name: importlib.metadata.version(name) for name in kind.packages},
        "runtime_options": kind.runtime_options,
    }


def _proven(kind, precision, compared):
    """What a proof that passed says, in sentences."""
    told = "are those of the model, within the allowed difference"
    if precision == "int8":
        told = f"keep the class of at least {_TOP1_AGREEMENT:.0%} of the images"
    told = f"Answers of {kind.compared} {told}."
    if "pictures" in compared:
        told += " Class names, loss, size and preparation of pictures were read back from it."
    return told


def _allowed_difference(precision, scale):
    """Of logits, the largest of which is `scale`; None for int8, which is judged by classes."""
    return {"float32": max(1e-4, 1e-5 * scale), "float16": 2e-2 * scale}.get(precision)


def _verdict(proof):
    """What was measured, in words that suit whether it passed."""
    kind = f"{proof['precision']} {proof['format']} export"
    if proof["integer_io"]:
        kind += " with integer input and output"
    if proof["precision"] == "int8":
        share, number = f"{proof['top1_agreement']:.1%}", proof["images"]
        measured = f"{share} of {number} images keep their class, and {_TOP1_AGREEMENT:.0%} must"
    else:
        measured = (
            f"answers are within {proof['largest_difference']:.2g} of those of {proof['model']!r}, "
            f"and {proof['allowed_difference']:.2g} is allowed"
        )
    if proof.get("pictures"):
        alike = round(proof["classes_agreement"] * proof["pictures"])
        measured += f"; {alike} of {proof['pictures']} pictures get the same class"
    if proof["passed"] and (other := FORMATS[proof["format"]].not_compared):
        measured += f"; not compared: answers of {other}"
    return f"{kind} {'proven' if proof['passed'] else 'refused'}: {measured}"
