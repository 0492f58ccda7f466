"""One training loop for every use: a model, a loss, an optimizer and batches by step number."""

import math
import sys
import time
from collections.abc import Callable

import keras
import tensorflow as tf
from tqdm import tqdm

from .run_folder import RunFolder

STEPS_PER_CALL = 10  # steps in one tf.function call: enough to hide the call, few enough to watch


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, and from where to start again."""


def train(
    model: keras.Model,
    batches: Callable[[int], tf.data.Dataset],
    *,
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    optimizer: keras.optimizers.Optimizer,
    steps: int,
    run: RunFolder,
    micro_batches: int = 1,
    weight_decay: float = 0.0,
    log_every: int = 50,
    checkpoint_every: int = 500,
    evaluate: Callable[[], dict[str, float]] | None = None,
    evaluate_every: int | None = None,
) -> None:
    """Trains a model in place, going on from the run's last checkpoint where it has one.

    Args:
        model: Takes a batch's images and returns float32 logits.
        batches: From a step number to an endless data set of `(images, labels)` that begins with
            that step's batch; labels are what the loss takes.
        loss: `loss(labels, logits)` returns one value an example, float32 `[batch]`.
        optimizer: Fresh, with a learning-rate schedule or a number.
        steps: The step to stop at, counted from the start of the run.
        run: Where scalars and checkpoints go.
        micro_batches: Pieces a batch is cut into, to save memory; gradients are those of the whole.
        weight_decay: L2 penalty's factor, added to the gradient of variables named `kernel`.
        log_every: Steps between two lines in the run's logs.
        checkpoint_every: Steps between two checkpoints; the last step always has one.
        evaluate: Returns scalars to log; called every `evaluate_every` steps, not after the last.

    Raises:
        TrainingError: If the loss is not finite.
    """
    variables = model.trainable_variables
    optimizer.build(variables)
    kernels = [variable.path.endswith("kernel") for variable in variables]

    def gradients(images, labels, batch):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(loss(labels, model(images, training=True))) / batch
        return total, tape.gradient(total, [variable.value for variable in variables])

    def batch_gradients(images, labels):
        batch = tf.shape(images)[0]
        if micro_batches == 1:
            total, sums = gradients(images, labels, tf.cast(batch, tf.float32))
        else:
            piece = batch // micro_batches
            total = tf.zeros(())
            sums = [tf.zeros(variable.shape) for variable in variables]
            for m in tf.range(micro_batches):  # one after another: memory is that of one piece
                rows = slice(m * piece, (m + 1) * piece)
                part, gradient = gradients(images[rows], labels[rows], tf.cast(batch, tf.float32))
                total += part
                sums = [a + b for a, b in zip(sums, gradient, strict=True)]
        return total, sums

    def step(images, labels):
        total, sums = batch_gradients(images, labels)
        if weight_decay:
            sums = [
                gradient + weight_decay * variable.value if is_kernel else gradient
                for gradient, variable, is_kernel in zip(sums, variables, kernels, strict=True)
            ]
        optimizer.apply(sums, variables)
        return total

    strategy = tf.distribute.get_strategy()

    @tf.function
    def run_steps(iterator, count):
        losses = tf.TensorArray(tf.float32, count)
        for i in tf.range(count):
            total = strategy.run(step, args=next(iterator))
            total = strategy.reduce(tf.distribute.ReduceOp.SUM, total, axis=None)
            losses = losses.write(i, total)
        return losses.stack()

    done = run.restore(model, optimizer)
    iterator = iter(batches(done))
    batch = None
    clock, since, losses = time.perf_counter(), done, []
    with Progress(steps, done) as progress:
        while done < steps:
            events = [log_every, checkpoint_every, *([evaluate_every] if evaluate else [])]
            until = min(steps, done + STEPS_PER_CALL, *((done // e + 1) * e for e in events))
            losses += run_steps(iterator, tf.constant(until - done)).numpy().tolist()
            batch = batch or int(iterator.element_spec[0].shape[0])
            done = until
            lr = float(optimizer.learning_rate)
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"the loss became {losses[-1]} at or before step {done} with learning rate "
                    f"{lr:g}; lower the learning rate and start again from {run.last_checkpoint()}."
                )
            rate = batch * (done - since) / (time.perf_counter() - clock)
            progress.update(done, loss=losses[-1], lr=lr, rate=rate)
            if done % log_every == 0 or done == steps:
                mean = sum(losses) / len(losses)
                run.log(done, loss=mean, learning_rate=lr, images_per_second=rate)
                clock, since, losses = time.perf_counter(), done, []
            if done % checkpoint_every == 0 or done == steps:
                run.save(model, optimizer, done)
            if evaluate and done % evaluate_every == 0 and done < steps:
                scalars = evaluate()
                run.log(done, **scalars)
                progress.note(done, scalars)
                clock, since, losses = time.perf_counter(), done, []


class Progress:
    """A bar on a terminal; in a log file a line now and then."""

    def __init__(self, steps, done):
        self.bar = tqdm(
            total=steps,
            initial=done,
            unit="step",
            desc="train",
            mininterval=0.2 if sys.stderr.isatty() else 15,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def update(self, done, loss, lr, rate):
        text = f"loss {loss:.4f}, lr {lr:.2e}, {rate:.0f} images/s"
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(done - self.bar.n)

    def note(self, done, scalars):
        values = ", ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        self.bar.write(f"step {done}: {values}", file=sys.stderr)
