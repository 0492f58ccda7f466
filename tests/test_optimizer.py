"""The update of weights in one operation, against Keras's own in several."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bit_keras.training.optimizer import FusedSGD

STEPS = 6


def updated(optimizer, shapes=((3, 3, 4, 8), (8,)), compiled=False):
    """Weights and momenta after some steps, with random gradients."""
    rng = np.random.default_rng(0)
    variables = [keras.Variable(rng.normal(size=shape).astype("float32")) for shape in shapes]
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    optimizer.build(variables)
    apply = tf.function(
        lambda *gradients: optimizer.apply(gradients, variables) or 0, jit_compile=compiled
    )
    for _ in range(STEPS):
        gradients = [rng.normal(size=shape).astype("float32") for shape in shapes]
        apply(*map(optimizer.scale_loss, map(tf.constant, gradients)))
    assert int(inner.iterations) == STEPS
    return [np.array(variable) for variable in (*variables, *inner.momentums)]


def plain(rate):
    return keras.optimizers.SGD(rate, momentum=0.9)


@pytest.mark.parametrize("wrapped", [lambda x: x, keras.optimizers.LossScaleOptimizer])
def test_an_update_is_that_of_keras(wrapped):
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([2, 4], [0.1, 0.05, 0.01])
    ours, theirs = (updated(wrapped(kind(rate))) for kind in (FusedSGD, plain))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_xla_compiles_an_update():
    """On TPUs everything is compiled so."""
    for a, b in zip(updated(FusedSGD(0.1), compiled=True), updated(plain(0.1)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_a_variable_is_updated_by_one_operation():
    variables = [keras.Variable(np.ones(3, "float32")) for _ in range(10)]
    counts = []
    for kind in (FusedSGD, plain):
        optimizer = kind(0.1)
        optimizer.build(variables)
        gradients = [tf.ones(3)] * len(variables)
        apply = tf.function(lambda o=optimizer, g=gradients: o.apply(g, variables) or 0)
        graph = apply.get_concrete_function().graph
        counts.append(
            sum("Apply" in op.type or "Assign" in op.type for op in graph.get_operations())
        )
    assert counts == [len(variables) + 1, 2 * len(variables) + 1]  # and the number of steps
