"""What a model costs in arithmetic, read off its graph."""

import keras
import tensorflow as tf


def forward_flops(model: keras.Model, image_shape: tuple[int, ...]) -> int:
    """Returns the floating-point operations of one image's way through the model.

    Multiplications and additions of convolutions and dense layers, two for each weight used, which
    is how hardware counts; papers often print half of it, multiply-adds.
    """
    forward = tf.function(lambda images: model(images, training=False))
    graph = forward.get_concrete_function(tf.TensorSpec((1, *image_shape))).graph
    # Each output is a sum over all of the kernel but its last axis.
    return sum(
        2 * op.outputs[0].shape.num_elements() * op.inputs[1].shape[:-1].num_elements()
        for op in graph.get_operations()
        if op.type in ("Conv2D", "MatMul")
    )
