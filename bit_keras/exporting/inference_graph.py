"""A model as runtimes get it: in float32, with plain convolutions."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
from keras import ops

from ..layers import standardize
from ..models.blocks import Block, Root
from ..models.spec import spec_of
from .artifact import named, output_name

if TYPE_CHECKING:
    import tensorflow as tf


def inference_graph(model: keras.Model) -> keras.Model:
    """Returns a float32 copy of a model and its facts, whose kernels are standardized already."""
    with float32_policy():
        graph = keras.models.clone_model(model, clone_function=_inference_layer)
    for target, source in zip(graph.variables, model.variables, strict=True):
        # Only the kernels of layers that became plain have another path than before.
        became_plain = target.path != source.path and source.name == "kernel"
        target.assign(standardize(source.value) if became_plain else source.value)
    graph.trainable = False
    graph.spec = spec_of(model)  # not copied by Keras
    return graph


def traced_inference_graph(
    model: keras.Model,
    shape: tuple[int | None, ...] = (None, None, None, 3),
    *,
    of_bytes: bool = False,
) -> "tuple[tf.types.experimental.ConcreteFunction, tf.Module]":
    """Returns the inference graph of a model as converters take it, traced once.

    (Keras's own `export` of such a graph traces it three times.)

    Args:
        model: What to trace.
        shape: Of its images.
        of_bytes: Round images to the 256 levels of bytes, which tells a converter that 255 is 1.

    Returns:
        A function of float32 `images` of `shape` to a dictionary of the outputs, and an object that
        holds the variables it uses, for as long as the function is to be used.
    """
    import tensorflow as tf

    graph, output = inference_graph(model), output_name(model)

    @tf.function(autograph=False)
    def forward(images):
        if of_bytes:
            images = tf.quantization.fake_quant_with_min_max_args(images, 0.0, 1.0)
        return named(graph(images, training=False), output)

    module = tf.Module()
    module.weights = [variable.value for variable in graph.variables]
    images = tf.TensorSpec(shape, tf.float32, name="images")
    return forward.get_concrete_function(images), module


def _inference_layer(layer):
    if layer.name == "root_pad":
        return _UnfoldableZeroPadding2D(name=layer.name)
    config = layer.get_config()
    if "dtype" in config:
        config["dtype"] = "float32"
    if isinstance(layer, (Root, Block)):
        # Zeros, because drawing kernels that are overwritten next takes time.
        config["style"] = {**config["style"], "conv": "plain", "kernel_initializer": "zeros"}
    return layer.__class__.from_config(config)


class _UnfoldableZeroPadding2D(keras.layers.Layer):
    """Pads by one zero on every side, in a way that no optimizer merges into the pool after it.

    ONNX Runtime merges a padding into the max-pool that follows, which then pads with -inf; but
    values are negative here, before any ReLU, and the model was trained with the zeros winning.
    One zero too many, cut off again, stands between the two.
    """

    def call(self, x):
        return ops.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))[:, 1:-1, 1:-1]


def computes_in_float32(model: keras.Model) -> bool:
    """Whether no layer of a model computes in a type of fewer bits."""
    return not {layer.compute_dtype for layer in model.layers} & {"float16", "bfloat16"}


@contextlib.contextmanager
def float32_policy() -> Iterator[None]:
    """Builds float32 layers inside: composite layers give their parts the global policy."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
