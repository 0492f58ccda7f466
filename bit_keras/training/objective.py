"""What a training minimizes."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """A model, its batches and its loss. Inputs, labels and outputs are any nested structure.

    Functions are traced as written, without AutoGraph: a branch on a tensor is a `tf.cond`.

    Attributes:
        model: What is trained: a batch's inputs to float32 outputs.
        batches: `batches(step, (k, n))` returns an endless data set of `(inputs, labels)` that
            begins with that step's batch, of which it holds the k-th of n equal slices. Every
            tensor has one row per example, and a static shape.
        batch: Examples per step, over all replicas and workers.
        loss: `loss(labels, outputs)` returns one value per example, float32 `[batch]`; or a
            dictionary of such, `parts`, whose sum is minimized and which are logged by name.
        parts: The names in that dictionary.
        targets: `targets(inputs, labels)` returns what the loss takes in place of labels, from the
            inputs that the model is given, micro-batch by micro-batch; it has no gradient.
        weight_decay: Factor of the L2 penalty, added to the gradient of variables named `kernel`.
        clip_norm: Gradients whose norm over all variables is larger are shortened to it; 0 for no
            clipping.
        once: `once(variables)` is a context in which what depends on weights alone was computed
            already, for all micro-batches of a step, and the variables' values and gradients are
            those of the result; it gives a function from these gradients to the variables'.
        spec: The `element_spec` of a batch, where making `batches` takes long.
    """

    model: keras.Model
    batches: Callable[[int, tuple[int, int]], tf.data.Dataset]
    batch: int
    loss: Callable[[Any, Any], tf.Tensor | dict[str, tf.Tensor]]
    parts: tuple[str, ...] = ()
    targets: Callable[[Any, Any], Any] | None = None
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    once: Callable[[Sequence[keras.Variable]], contextlib.AbstractContextManager] | None = None
    spec: Any = None

    def element_spec(self, examples: int) -> tuple[Any, Any]:
        """Returns the `tf.TensorSpec`s of the inputs and labels of so many examples."""
        return tf.nest.map_structure(
            lambda one: tf.TensorSpec((examples, *one.shape[1:]), one.dtype), self._batch_spec
        )

    @functools.cached_property
    def _batch_spec(self):
        """Of a batch: making the data set for it takes a quarter of a second."""
        return self.spec or self.batches(0, (0, 1)).element_spec

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The loss and its parts."""
        return ("loss", *self.parts)

    @functools.cached_property
    def gradients(self) -> tf.types.experimental.PolymorphicFunction:
        """From inputs, what `loss` takes as labels, and a factor of the loss to two tensors.

        They are float32 `[len(loss_names)]`, sums over the examples of the loss and its parts, and
        the gradients of the sum of the loss times that factor. It is one function, so that the
        estimate of its memory and the training share its trace, which takes seconds.
        """

        @tf.function(autograph=False)
        def gradients(inputs, labels, factor):
            # Tensors, and not variables, where kernels are standardized beforehand.
            values = [variable.value for variable in self.model.trainable_variables]
            with tf.GradientTape() as tape:
                tape.watch(values)
                found = self.loss(labels, self.model(inputs, training=True))
                sums = tf.nest.map_structure(tf.reduce_sum, found)
                if self.parts:
                    parts = [sums[name] for name in self.parts]
                    sums = tf.stack([tf.add_n(parts), *parts])
                else:
                    sums = sums[tf.newaxis]
                scaled = sums[0] * factor
            return sums, tape.gradient(scaled, values)

        return gradients
