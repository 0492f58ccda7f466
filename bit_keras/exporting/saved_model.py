"""TensorFlow's own format, for TF-Hub's users, TensorFlow Serving and Keras 3."""

import os
import pathlib
import re

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from ..data.sources.upright import decode_upright
from ..models.resnet_v2 import default_groups
from ..models.spec import ModelSpec
from ..models.spec_files import IN_SAVED_MODEL, read_spec
from ..training import inference_function
from .artifact import Artifact, named, output_name, single_output, unnamed
from .errors import ExportError
from .inference_graph import inference_graph
from .weight_files import open_weights

_IMAGES = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")
_PIXELS = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
# Operations that reach beyond the model, and functions that TensorFlow adds to save it.
_OUTSIDE = re.compile(
    "Checkpoint|Dataset|Debug|Dump|File|Iterator|Load|Print|PyFunc|Reader|Restore|Rpc|Save|Summary"
)
_SAVERS = ("__inference__traced_save_", "__inference__traced_restore_")
_ENCODED = tf.TensorSpec((None,), tf.string, name="encoded")


def write_saved_model(
    model: keras.Model,
    path: pathlib.Path,
    *,
    spec: ModelSpec,
    frozen: bool,
) -> None:
    """Writes a reusable SavedModel (https://www.tensorflow.org/hub/reusable_saved_models).

    Its object is called as `module(images, training=False)` and has the attributes that
    `hub.KerasLayer` reads. Keras's own `model.export` writes an object that cannot be called, which
    `hub.KerasLayer` refuses.
    """
    network = inference_graph(model) if frozen else model
    call = _call_function(network, model, frozen)
    module = tf.train.Checkpoint()  # the plain object to which TensorFlow lets one add attributes
    module.__call__ = call
    module.variables = [variable.value for variable in network.variables]
    module.trainable_variables = [variable.value for variable in network.trainable_variables]
    module.regularization_losses = []
    if unusual := _unusual_groups(model):
        # Weights alone do not tell; `bit_keras.load`, which reads no more, must refuse these.
        module.groups = tf.Variable(unusual, name="groups", trainable=False)
    signatures = _signatures(call, output_name(model), spec)
    tf.saved_model.save(module, os.fspath(path), signatures=signatures)
    (path / IN_SAVED_MODEL).parent.mkdir()
    (path / IN_SAVED_MODEL).write_text(spec.to_json(), encoding="utf-8")


def _call_function(network, model, frozen):
    """From images and `training` to answers, traced for both."""

    # Saving traces `call` again, but not what it calls.
    forward = train = inference_function(network).get_concrete_function()
    # With group normalization training is the same function.
    if not frozen and any("batch_norm" in variable.path for variable in model.variables):
        train = tf.function(lambda images: network(images, training=True), autograph=False)
        train = train.get_concrete_function(_IMAGES)

    @tf.function(autograph=False)
    def call(images, training=False):
        return (train if training else forward)(images)

    for training in (True, False):
        call.get_concrete_function(_IMAGES, training=training)
    return call


def _signatures(call, output, spec):
    """The functions for servers; only those of classifiers return names and probabilities."""
    side = spec.test_size
    names = tf.constant(spec.own_names()) if spec.num_classes else None

    def serving_default(images):
        return named(call(images, training=False), output)

    def serve_uint8(images):
        return serving_default(tf.cast(images, tf.float32) / 255)

    def serve_encoded(encoded):
        def read(one):
            return spec.prepared(decode_upright(one))

        images = tf.map_fn(read, encoded, fn_output_signature=tf.TensorSpec((side, side, 3)))
        outputs = serving_default(images)
        if names is not None:
            probabilities = spec.probabilities(outputs["logits"])
            order = tf.argsort(probabilities, direction="DESCENDING", stable=True)
            outputs["class_names"] = tf.gather(names, order)
            outputs["probabilities"] = tf.gather(probabilities, order, batch_dims=1)
        return outputs

    return {
        function.__name__: tf.function(function, autograph=False).get_concrete_function(inputs)
        for function, inputs in (
            (serving_default, _IMAGES),
            (serve_uint8, _PIXELS),
            (serve_encoded, _ENCODED),
        )
    }


def _unusual_groups(model):
    """The number of groups of a model's normalization, if it is not what its width implies."""
    if "group_norm" not in {layer.name for layer in model.layers}:
        return None
    groups = model.get_layer("group_norm").groups
    width = model.get_layer("root_block").output.shape[-1] / 64
    return groups if groups != default_groups(width) else None


def _checked_signatures(path):
    """The names of a SavedModel's signatures; its functions are checked before any is run.

    TensorFlow runs some as soon as it loads the file. None of one that it would load as of
    TensorFlow 1, which may run anything.
    """
    content = (path / "saved_model.pb").read_bytes()
    graphs = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        return set()
    # Those that save and restore variables are in every file, and nothing may call them.
    functions = graphs[0].graph_def.library.function
    savers = {f.signature.name for f in functions if f.signature.name.startswith(_SAVERS)}
    own = [f for f in functions if f.signature.name not in savers]
    known = {*graphs[0].object_graph_def.concrete_functions} & savers
    for node in (node for function in own for node in function.node_def):
        values = [v for value in node.attr.values() for v in (value, *value.list.func)]
        called = {getattr(value, "func", value).name for value in values} & savers
        if called or known or _OUTSIDE.search(node.op):
            raise ExportError(
                f"the graph of {path} has the operation {node.op}, and may touch files: give a "
                "SavedModel that bit_keras.export wrote"
            )
    return {*graphs[0].signature_def}


def open_saved_model(path: pathlib.Path) -> Artifact:
    """Opens what `write_saved_model` wrote; of another SavedModel only the weights are read.

    Raises ExportError for a graph that does more than compute.
    """
    if "serve_encoded" not in _checked_signatures(path):
        return open_weights(path)
    module = tf.saved_model.load(os.fspath(path))
    serve, serve_uint8, serve_encoded = (
        module.signatures[name] for name in ("serving_default", "serve_uint8", "serve_encoded")
    )
    outputs = list(serve.structured_outputs)

    def answers(served):
        return unnamed({name: served[name] for name in outputs})

    def compute(images: np.ndarray):
        return answers(serve(images=tf.constant(images)))

    def call(pixels):
        return module(tf.constant(pixels / np.float32(255)))

    def classify(encoded):
        served = serve_encoded(encoded=encoded)
        names = np.vectorize(bytes.decode, otypes=[object])(served["class_names"].numpy())
        return names, served["probabilities"].numpy()

    spec = read_spec(path) or ModelSpec()
    if not spec.num_classes and "logits" in outputs:
        # Of an older version: the one constant of strings that this signature needs.
        [names] = [x for x in serve_encoded.captured_inputs if x.dtype == tf.string]
        spec = spec.replace(class_names=[name.decode() for name in names.numpy()])
    return Artifact(
        compute,
        single_output(outputs),
        serve.structured_outputs["logits"].shape[-1] if "logits" in outputs else None,
        spec=spec,
        routes={
            "call": call,
            "serve_uint8": lambda pixels: answers(serve_uint8(images=tf.constant(pixels))),
        },
        compute_encoded=lambda encoded: answers(serve_encoded(encoded=encoded)),
        classify=classify if "logits" in outputs else None,
    )
