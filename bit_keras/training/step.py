"""One step of a training, of every task, strategy and size of batch."""

import contextlib

import keras
import tensorflow as tf

from .objective import Objective


class TrainStep:
    """One optimizer step on all replicas: gradients by pieces, weight decay, update.

    Its arguments are those of `train`; the optimizer is built here.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: keras.optimizers.Optimizer,
        strategy: tf.distribute.Strategy,
        pieces: int = 1,
    ):
        self._objective, self._optimizer, self._strategy = objective, optimizer, strategy
        self._replicas, self._pieces = strategy.num_replicas_in_sync, pieces
        if objective.batch % (self._replicas * pieces):
            raise ValueError(
                f"the batch must be divided by {self._replicas} replicas times {pieces} pieces, "
                f"got {objective.batch} images."
            )
        self.variables = objective.model.trainable_variables
        self._is_kernel = [variable.path.endswith("kernel") for variable in self.variables]
        with strategy.scope():
            optimizer.build(self.variables)
        # Loops are written with `tf.while_loop`: AutoGraph takes half a second to translate them.
        self.run = tf.function(self._run, autograph=False)

    def _run(self, iterator, count, asked_to_stop):
        """`count` steps: (the losses of each `[count, losses]`, how many workers shall stop)."""

        def take_step(i, losses):
            of_replicas = self._strategy.run(self._step, args=next(iterator))
            return i + 1, losses.write(i, self._sum_over_replicas(of_replicas))

        _, losses = tf.while_loop(
            lambda i, _: i < count, take_step, (0, tf.TensorArray(tf.float32, count))
        )
        # Summed over workers, so that all of them stop after the same step.
        asked = self._strategy.run(lambda: tf.identity(asked_to_stop))
        return losses.stack(), self._sum_over_replicas(asked)

    def _sum_over_replicas(self, value):
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

    def _step(self, inputs, labels):
        """One replica's part of a step; returns its share of the losses."""
        losses, gradients = self._gradients_of_pieces(inputs, labels)
        if self._objective.weight_decay:
            # A part on each replica, because the optimizer adds up the replicas' gradients.
            decay = tf.constant(self._objective.weight_decay / self._replicas)
            decay = self._optimizer.scale_loss(decay)
            gradients = [
                gradient + decay * variable.value if is_kernel else gradient
                for gradient, variable, is_kernel in zip(
                    gradients, self.variables, self._is_kernel, strict=True
                )
            ]
        if self._objective.clip_norm:
            gradients = self._clipped(gradients)
        self._optimizer.apply(gradients, self.variables)
        return losses

    def _clipped(self, gradients):
        """Shortens the gradient of the whole batch, and not that of a replica's part."""
        if self._replicas > 1:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        # Under float16 gradients are those of the scaled loss.
        longest = self._optimizer.scale_loss(tf.constant(self._objective.clip_norm))
        gradients, _ = tf.clip_by_global_norm(gradients, longest)
        # The optimizer adds up the replicas' gradients.
        return [gradient / self._replicas for gradient in gradients]

    def _gradients_of_pieces(self, inputs, labels):
        if self._pieces == 1:
            return self._gradients(inputs, labels)

        def cut(x):
            return tf.reshape(x, (self._pieces, x.shape[0] // self._pieces, *x.shape[1:]))

        pieces = tf.nest.map_structure(cut, (inputs, labels))
        losses = tf.zeros((len(self._objective.loss_names),))
        sums = [tf.zeros(variable.shape) for variable in self.variables]
        once = self._objective.once or _nothing
        with once(self.variables) as gradients_of_variables:

            def add_piece(m, losses, sums):
                piece = tf.nest.map_structure(lambda x: x[m], pieces)
                part, gradients = self._gradients(*piece)
                return m + 1, losses + part, [a + b for a, b in zip(sums, gradients, strict=True)]

            # One after another, or memory is that of several pieces.
            _, losses, sums = tf.while_loop(
                lambda m, *_: m < self._pieces, add_piece, (0, losses, sums), parallel_iterations=1
            )
        return losses, gradients_of_variables(sums)

    def _gradients(self, inputs, labels):
        """(losses, gradients) of some examples, as parts of the means over the whole batch."""
        if self._objective.targets:
            labels = self._objective.targets(inputs, labels)
        compute = self._objective.gradients
        # A function within a strategy cannot update what replicas share, and one that was traced
        # for the estimate of its memory knows nothing of what was computed once.
        if self._replicas > 1 or (self._pieces > 1 and self._objective.once):
            compute = compute.python_function
        # Under float16 the loss is scaled; the optimizer undoes it.
        factor = self._optimizer.scale_loss(tf.constant(1 / self._objective.batch))
        sums, gradients = compute(inputs, labels, factor)
        return sums / self._objective.batch, gradients


@contextlib.contextmanager
def _nothing(_):
    yield lambda gradients: gradients
