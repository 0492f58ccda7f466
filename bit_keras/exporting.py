"""Models into files that others run. An export appears only after it was read back and compared."""

import os
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from .checkpoints import save_npz
from .resnet_v2 import default_groups
from .zoo import architecture, load

TOLERANCE = 1e-4  # on logits or features, against the model itself


class ExportError(ValueError):
    """A model cannot be exported, or its export does not answer as the model does."""


def export(model: keras.Model, path: str | os.PathLike, format: str = "saved_model") -> float:
    """Writes a model to a file or folder, reads it back, compares, and moves it into place.

    Args:
        model: A model of `bit_keras.load`, `ResNetV2` or `fine_tune`.
        path: Where to; must not exist yet.
        format: One of
            "saved_model", a folder: a reusable TF2 SavedModel that takes float32 RGB in [0, 1] of
            any size and loads, and trains, in `hub.KerasLayer` and `hub.load`;
            "keras", a `.keras` file;
            "npz", the weights by the names of the published files, for `load` and for timm.

    Returns:
        The largest absolute difference between the export's and the model's answers.

    Raises:
        ExportError: If `path` exists, or the format is unknown or cannot hold this model, or the
            answers differ by more than 1e-4. Nothing is left at `path` then.
    """
    formats = {
        "saved_model": (write_saved_model, difference_of_answers(read_saved_model)),
        "keras": (write_keras, difference_of_answers(load)),
        "npz": (write_npz, difference_of_weights),
    }
    if format not in formats:
        raise ExportError(f"format must be one of {', '.join(formats)}, got {format!r}.")
    path = pathlib.Path(path)
    if path.exists():
        raise ExportError(f"{path} exists already; choose another path or delete it first.")
    if format != "saved_model" and path.suffix != f".{format}":
        raise ExportError(f"a {format} file's name must end in .{format}, got {path.name!r}.")
    if set("*?[]") & set(str(path.absolute())):
        raise ExportError(f"path must not hold any of * ? [ ], which TensorFlow expands: {path}.")
    write, compare = formats[format]
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that the last act is a rename.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        written = pathlib.Path(folder) / path.name
        write(model, written)
        difference = compare(model, written)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"the {format} export of {model.name!r} answers differently from the model, by up "
                f"to {difference:.2g} where {TOLERANCE:g} was allowed; nothing was written to "
                f"{path}."
            )
        os.replace(written, path)
    return difference


def difference_of_answers(read):
    """Compares answers to noise at three sizes, one of them odd and one of them oblong."""

    def compare(model, path):
        exported = read(path)
        rng = np.random.default_rng(0)
        differences = []
        for height, width in ((32, 32), (65, 65), (64, 96)):
            images = tf.constant(rng.uniform(size=(2, height, width, 3)).astype("float32"))
            expected = model(images, training=False).numpy()
            differences.append(np.max(np.abs(np.array(exported(images)) - expected)))
        return float(np.max(differences))

    return compare


def difference_of_weights(model, path):
    """Compares arrays: the same weights may answer differently under another dtype policy."""
    return max(
        float(np.max(np.abs(a.numpy() - b.numpy())))
        for a, b in zip(model.variables, load(path).variables, strict=True)
    )


def write_npz(model, path):
    """Writes the weights of a model whose architecture can be read off them again."""
    arrays = {variable.path: variable.numpy() for variable in model.variables}
    paths = " ".join(arrays)
    for found, reason in (
        ("batch_norm/" in paths, "batch normalisation"),
        ("/conv2d/" in paths.replace("head/conv2d/", ""), "plain convolutions"),
    ):
        if found:
            raise ExportError(
                f"an npz cannot hold {reason}, which {model.name!r} has; "
                "export it with format='keras'."
            )
    _, width, _ = architecture({k: v.shape for k, v in arrays.items()}, f"model {model.name!r}")
    groups = model.get_layer("group_norm").groups
    if groups != default_groups(width):
        raise ExportError(
            f"an npz does not record the number of groups, {groups} in {model.name!r} where width "
            f"{width:g} implies {default_groups(width)}; export it with format='keras'."
        )
    save_npz(path, arrays)


def write_keras(model, path):
    model.save(path)


def write_saved_model(model, path):
    """Writes a reusable SavedModel (https://www.tensorflow.org/hub/reusable_saved_models).

    Its object is called as `module(images, training=False)` and has the attributes that
    `hub.KerasLayer` reads; its signature "serving_default" takes `images` and returns a dictionary
    with `logits`, or `features` where the model has no head. Keras's own `model.export` writes an
    object that cannot be called, which `hub.KerasLayer` refuses.
    """
    images = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")
    call = tf.function(lambda images, training=False: model(images, training=training))
    for training in (True, False):
        call.get_concrete_function(images, training=training)
    answer = "logits" if "head" in {layer.name for layer in model.layers} else "features"
    serve = tf.function(lambda images: {answer: model(images, training=False)})
    module = tf.train.Checkpoint()  # the plain object to which TensorFlow lets one add attributes
    module.__call__ = call
    module.variables = [variable.value for variable in model.variables]
    module.trainable_variables = [variable.value for variable in model.trainable_variables]
    module.regularization_losses = []
    signatures = {"serving_default": serve.get_concrete_function(images)}
    tf.saved_model.save(module, path, signatures=signatures)


def read_saved_model(path):
    return tf.saved_model.load(os.fspath(path))
