"""Writes a model for TensorFlow Serving, with requests that warm it up.

    pip install tensorflow-serving-api
    python export/make_serving_model.py --model=runs/photos --output=served

writes served/NAME/1/, or the next version if that is there: a SavedModel whose kernels were
standardized once, which was read back and compared with the model, and in its assets.extra/ one
request for each signature, which the server answers before it takes others (its first answers are
slow). Then

    tensorflow_model_server --model_name=NAME --model_base_path=/absolute/path/of/served/NAME
"""

import contextlib
import importlib.util
import io
import os
import pathlib
import tempfile
from typing import TYPE_CHECKING

from absl import flags

import bit_keras
from bit_keras.cli import application

if TYPE_CHECKING:  # commands quiet it when they start
    import tensorflow as tf

MODEL = flags.DEFINE_string("model", None, "A run, or what else bit_keras.load takes.")
NAME = flags.DEFINE_string("name", None, "The model's name in the server; by default its own.")
LABELS = flags.DEFINE_string("labels", None, "A file of class names; by default the model's.")
SIZE = flags.DEFINE_integer("size", None, "Side in pixels; by default the model's own.")
OUTPUT = flags.DEFINE_string("output", None, "The folder of served models.")
flags.mark_flags_as_required(["model", "output"])


def example_inputs(size: int) -> "dict[str, dict[str, tf.Tensor]]":
    """A photo as each signature takes it: signature -> input -> batch of one."""
    import sklearn.datasets
    import tensorflow as tf

    photo = sklearn.datasets.load_sample_image("china.jpg")
    pixels = tf.cast(tf.round(tf.image.resize(photo, [size, size])), tf.uint8)[tf.newaxis]
    return {
        "serving_default": {"images": tf.cast(pixels, tf.float32) / 255},
        "serve_uint8": {"images": pixels},
        "serve_encoded": {"encoded": tf.io.encode_jpeg(photo)[tf.newaxis]},
    }


def write_warmup(module: pathlib.Path, name: str, size: int) -> None:
    """Puts requests for all signatures where TensorFlow Serving looks for them.

    https://www.tensorflow.org/tfx/serving/saved_model_warmup
    """
    import tensorflow as tf
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    path = module / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for signature, inputs in example_inputs(size).items():
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=name, signature_name=signature),
                inputs={key: tf.make_tensor_proto(value) for key, value in inputs.items()},
            )
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


def next_version(folder: pathlib.Path) -> int:
    versions = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    return max(versions, default=0) + 1


def main():
    from bit_keras.models.spec import spec_of

    if importlib.util.find_spec("tensorflow_serving") is None:
        raise ValueError(
            "tensorflow-serving-api is not installed; run pip install tensorflow-serving-api."
        )
    bit_keras.models.check_source(MODEL.value)
    labels = bit_keras.classification.read_labels(LABELS.value) if LABELS.value else None
    model = bit_keras.load(MODEL.value)
    name = NAME.value or model.name
    folder = pathlib.Path(OUTPUT.value) / name
    folder.mkdir(parents=True, exist_ok=True)
    # A server takes up a version, a folder whose name is a number, as soon as it sees it.
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
        module = pathlib.Path(scratch) / "module"
        with contextlib.redirect_stdout(io.StringIO()):  # it names a folder that will be gone
            difference = bit_keras.export(
                model, module, frozen=True, labels=labels, size=SIZE.value
            )
        write_warmup(module, name, SIZE.value or spec_of(model).test_size or 224)
        version = folder / str(next_version(folder))
        os.replace(f"{module}.proof.json", f"{version}.proof.json")
        os.replace(module, version)
    print(f"{version}: answers within {difference:.2g} of the model, a request for each signature")


if __name__ == "__main__":
    application.run(main)
