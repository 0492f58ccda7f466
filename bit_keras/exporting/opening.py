"""Opens a model in any format that `bit_keras.export` writes, as one function.

The runtimes are told what they were told when the export was compared with its model, and are
imported where they are used: they are the extra `runtimes`.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from ..models.zoo import load
from .checks import check_packages
from .runtimes import OPENVINO_OPTIONS


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model that was opened, by whichever runtime.

    Attributes:
        logits: float32 RGB `[batch, size, size, 3]` in [0, 1] to `[batch, num_classes]`.
        num_classes: Of its head, or None if it has none.
        size: The one side of images it takes, in pixels, or None if it takes any.
        class_names: Those stored in it, if any.
        network: The Keras model, if it is one.
    """

    logits: Callable[[np.ndarray], np.ndarray]
    num_classes: int | None
    size: int | None = None
    class_names: Sequence[str] | None = None
    network: keras.Model | None = None


def open_classifier(model: keras.Model | str | os.PathLike) -> Classifier:
    """Opens a model, an export, or what else `bit_keras.load` takes.

    Raises:
        ValueError: If there is none, it cannot be read, or it has no head.
    """
    if isinstance(model, keras.Model):
        title, classifier = model.name, keras_classifier(model)
    else:
        title, classifier = os.fspath(model), open_artifact(model)
    if classifier.num_classes is None:
        raise ValueError(
            f"{title} has no head, so it gives features and no classes; give a model with a head."
        )
    return classifier


def open_artifact(model):
    path = pathlib.Path(model)
    if (path / "saved_model.pb").is_file():
        format, opener = "saved_model", open_saved_model
    elif (path / "model.xml").is_file():
        format, opener = "openvino", open_openvino
    elif (path / "onnxruntime.wasm").is_file():
        format, opener = "web", open_page
    elif path.suffix == ".tflite":
        format, opener = "litert", open_litert
    elif path.suffix == ".onnx":
        format, opener = "onnx", open_onnx
    else:
        return keras_classifier(load(model))
    if not path.exists():
        raise ValueError(f"there is no file {path}; give a model that bit_keras.export wrote.")
    check_packages(format)
    try:
        return opener(path)
    except Exception as error:  # runtimes raise whatever they meet in a damaged file
        raise ValueError(
            f"cannot read {path} ({reason(error)}); give a model that bit_keras.export wrote."
        ) from error


def keras_classifier(model):
    forward = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    has_head = "head" in {layer.name for layer in model.layers}
    return Classifier(
        lambda images: forward(tf.constant(images)),
        model.output_shape[-1] if has_head else None,
        model.input_shape[1],
        network=model,
    )


def open_saved_model(path):
    signatures = tf.saved_model.load(os.fspath(path)).signatures
    if "serve_encoded" not in signatures:  # not of our making, but its weights may be known
        return keras_classifier(load(path))
    serve = signatures["serving_default"]
    if "logits" not in serve.structured_outputs:
        return Classifier(serve, None)
    # The names are the one constant of strings that this signature needs.
    [names] = [x for x in signatures["serve_encoded"].captured_inputs if x.dtype == tf.string]
    return Classifier(
        lambda images: serve(images=tf.constant(images))["logits"],
        len(names),
        class_names=[name.decode() for name in names.numpy()],
    )


def open_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = {output.name: output.shape[-1] for output in session.get_outputs()}
    return Classifier(
        lambda images: session.run(["logits"], {"images": images})[0], outputs.get("logits")
    )


def open_page(path):
    about = json.loads((path / "model.json").read_text(encoding="utf-8"))
    opened = open_onnx(path / "model.onnx")
    return dataclasses.replace(opened, size=about["size"], class_names=about["labels"])


def open_openvino(path):
    import openvino

    compiled = openvino.Core().compile_model(path / "model.xml", "CPU", OPENVINO_OPTIONS)
    outputs = {output.any_name: output.partial_shape[-1] for output in compiled.outputs}
    return Classifier(
        lambda images: compiled(images)["logits"],
        outputs["logits"].get_length() if "logits" in outputs else None,
    )


def open_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(os.fspath(path), num_threads=os.cpu_count())
    serve = interpreter.get_signature_runner()
    size = int(serve.get_input_details()["images"]["shape_signature"][1])
    outputs = {name: int(part["shape"][-1]) for name, part in serve.get_output_details().items()}
    return Classifier(
        # One at a time, as a file of one size takes them.
        lambda images: np.concatenate([serve(images=image[None])["logits"] for image in images]),
        outputs.get("logits"),
        None if size == -1 else size,
    )


def reason(error):
    return str(error).strip().split("\n")[0][:300] or type(error).__name__
