"""TensorFlow's own format, for TF-Hub's users, TensorFlow Serving and Keras 3."""

import os
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from ..data.sources.decoding import decode_rgb
from ..models.resnet_v2 import default_groups
from .inference_graph import inference_graph


def write_saved_model(
    model: keras.Model,
    path: os.PathLike,
    *,
    answer: str,
    size: int,
    labels: Sequence[str] | None,
    multi_label: bool,
    frozen: bool,
) -> None:
    """Writes a reusable SavedModel (https://www.tensorflow.org/hub/reusable_saved_models).

    Its object is called as `module(images, training=False)` and has the attributes that
    `hub.KerasLayer` reads. Keras's own `model.export` writes an object that cannot be called, which
    `hub.KerasLayer` refuses.
    """
    network = inference_graph(model) if frozen else model
    # With group normalization training is the same function, which is then traced and kept once.
    two_faced = not frozen and any("batch_norm" in variable.path for variable in model.variables)

    @tf.function
    def forward(images, training):
        return network(images, training=training)

    @tf.function
    def call(images, training=False):
        return forward(images, training=training and two_faced)

    def serve(images):
        return {answer: call(images, training=False)}

    def serve_uint8(images):
        return serve(tf.cast(images, tf.float32) / 255)

    def serve_encoded(encoded):
        def read(one):
            # As test images are resized: bilinear, without antialiasing.
            return tf.image.resize(decode_rgb(one), (size, size)) / 255

        images = tf.map_fn(read, encoded, fn_output_signature=tf.TensorSpec((size, size, 3)))
        outputs = serve(images)
        if answer == "logits":
            probabilities = (tf.sigmoid if multi_label else tf.nn.softmax)(outputs["logits"])
            order = tf.argsort(probabilities, direction="DESCENDING", stable=True)
            outputs["class_names"] = tf.gather(names, order)
            outputs["probabilities"] = tf.gather(probabilities, order, batch_dims=1)
        return outputs

    if answer == "logits":
        names = tf.constant(labels or [str(n) for n in range(model.output_shape[-1])])
    images = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")
    uint8 = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
    encoded = tf.TensorSpec((None,), tf.string, name="encoded")
    module = tf.train.Checkpoint()  # the plain object to which TensorFlow lets one add attributes
    module.__call__ = call
    for training in (True, False):
        call.get_concrete_function(images, training=training)
    module.variables = [variable.value for variable in network.variables]
    module.trainable_variables = [variable.value for variable in network.trainable_variables]
    module.regularization_losses = []
    if unusual := unusual_groups(model):
        # Weights alone do not tell; `bit_keras.load`, which reads no more, must refuse these.
        module.groups = tf.Variable(unusual, name="groups", trainable=False)
    signatures = {
        "serving_default": tf.function(serve).get_concrete_function(images),
        "serve_uint8": tf.function(serve_uint8).get_concrete_function(uint8),
        "serve_encoded": tf.function(serve_encoded).get_concrete_function(encoded),
    }
    tf.saved_model.save(module, os.fspath(path), signatures=signatures)


def unusual_groups(model):
    """The number of groups of a model's normalization, if it is not what its width implies."""
    if "group_norm" not in {layer.name for layer in model.layers}:
        return None
    groups = model.get_layer("group_norm").groups
    width = model.get_layer("root_block").output.shape[-1] / 64
    return groups if groups != default_groups(width) else None


def read_saved_model(path, answer, size):
    module = tf.saved_model.load(os.fspath(path))
    served = module.signatures

    def answers(images: np.ndarray) -> Iterator[np.ndarray]:
        scaled = tf.constant(images / np.float32(255))
        yield module(scaled)
        # One image is enough to see that the other signatures lead to the same network.
        yield served["serving_default"](images=scaled[:1])[answer]
        yield served["serve_uint8"](images=tf.constant(images[:1]))[answer]
        if images.shape[1:3] == (size, size):
            yield served["serve_encoded"](encoded=tf.io.encode_png(images[0])[None])[answer]

    return answers
