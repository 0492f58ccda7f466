"""Kernels that are standardized once for several calls of their layers."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras

from ..layers import standardized_in_training, taken_as_standardized


@contextlib.contextmanager
def standardized_once(variables: Sequence[keras.Variable]) -> Iterator[Callable]:
    """Standardizes the kernels among some variables, for all calls of their layers inside.

    Inside, the `value` of such a kernel is the standardized one, and gradients are those of it. For
    TensorFlow, where a step adds up the gradients of several calls.

    Args:
        variables: Those of a model. Kernels are known by their names in checkpoints.

    Yields:
        A function from the gradients that were found inside, one for each variable, to those of the
        variables.
    """
    import tensorflow as tf

    kernels = [v for v in variables if v.path.endswith("standardized_conv2d/kernel")]
    values = [kernel.value for kernel in kernels]
    with tf.GradientTape() as tape:
        standardized = [standardized_in_training(keras.ops.convert_to_tensor(v)) for v in values]

    def gradients_of_variables(gradients):
        found = {id(v): gradient for v, gradient in zip(variables, gradients, strict=True)}
        of_standardized = [found[id(kernel)] for kernel in kernels]
        own = tape.gradient(standardized, values, output_gradients=of_standardized)
        found |= {id(kernel): gradient for kernel, gradient in zip(kernels, own, strict=True)}
        return [found[id(v)] for v in variables]

    given = keras.StatelessScope(zip(kernels, standardized, strict=True))
    with taken_as_standardized(kernels), given:
        yield gradients_of_variables
