"""The optimizer of every training."""

import keras
import tensorflow as tf


class FusedSGD(keras.optimizers.SGD):
    """Keras's SGD with momentum, whose update of a variable is one operation.

    It reads and writes the weights once, where Keras takes several operations, which also have to
    be traced and optimized for each variable. Values are those of Keras but for rounding.
    """

    def __init__(self, learning_rate: float | keras.optimizers.schedules.LearningRateSchedule):
        super().__init__(learning_rate, momentum=0.9)

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Updates a variable and its momentum; Keras calls this on every replica."""
        momentum = self.momentums[self._get_variable_index(variable)].value
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=momentum.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=gradient,
            momentum=tf.cast(self.momentum, variable.dtype),
        )
