"""One training loop for every use: a model, a loss, an optimizer and batches by step number."""

import math
import sys
import time
from collections.abc import Callable

import keras
import tensorflow as tf
from tqdm import tqdm

from .run_folder import RunFolder

SECONDS_PER_CALL = 1.0  # of several steps in one tf.function: hides the call, yet can be watched


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
        batch = images.shape[0]
        if micro_batches == 1:
            return gradients(images, labels, batch)
        pieces = [
            tf.reshape(x, (micro_batches, batch // micro_batches, *x.shape[1:]))
            for x in (images, labels)
        ]
        total = tf.zeros(())
        sums = [tf.zeros(variable.shape) for variable in variables]
        for m in tf.range(micro_batches):  # one after another: memory is that of one piece
            part, gradient = gradients(*(piece[m] for piece in pieces), batch)
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

    @tf.function
    def run_steps(iterator, count):
        losses = tf.TensorArray(tf.float32, count)
        for i in tf.range(count):
            losses = losses.write(i, step(*next(iterator)))
        return losses.stack()

    done = run.restore(model, optimizer)
    iterator = iter(batches(done))
    batch = iterator.element_spec[0].shape[0]
    events = [log_every, checkpoint_every, *([evaluate_every] if evaluate else [])]
    per_call, losses, seconds = 1, [], 0.0
    with Progress(steps, done) as progress:
        while done < steps:
            until = min(steps, done + per_call, *((done // e + 1) * e for e in events))
            start = time.perf_counter()
            new = run_steps(iterator, tf.constant(until - done)).numpy().tolist()
            elapsed = time.perf_counter() - start
            if elapsed < SECONDS_PER_CALL and len(new) == per_call:
                per_call *= 2
            done = until
            losses, seconds = losses + new, seconds + elapsed
            lr = float(optimizer.learning_rate)
            if not all(map(math.isfinite, new)):
                stop(run, f"the loss is not finite at step {done} or just before it", lr)
            saving = done % checkpoint_every == 0 or done == steps
            if saving and not all(bool(tf.reduce_all(tf.math.is_finite(v))) for v in variables):
                stop(run, f"weights are not finite after step {done}", lr)
            rate = batch * len(losses) / seconds
            progress.update(done, loss=losses[-1], lr=lr, rate=rate)
            if done % log_every == 0 or done == steps:
                mean = sum(losses) / len(losses)
                run.log(done, loss=mean, learning_rate=lr, images_per_second=rate)
                losses, seconds = [], 0.0
            if evaluate and done % evaluate_every == 0 and done < steps:
                scalars = evaluate()
                run.log(done, **scalars)
                progress.note(done, scalars)
            if saving:
                run.save(model, optimizer, done)


def stop(run, what, lr):
    raise TrainingError(
        f"{what}, with a learning rate of {lr:g} (last good checkpoint: "
        f"{run.last_checkpoint() or 'none'}); start a new run with a lower rate in another workdir."
    )


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
