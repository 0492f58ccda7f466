"""One training loop for every use: a model, a loss, an optimizer and batches by step number."""

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable

import keras
import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry
from tqdm import tqdm

from .run_folder import RunFolder

SECONDS_PER_CALL = 1.0  # of several steps in one tf.function: hides the call, yet can be watched
WORKERS_STEPS_PER_CALL = 10  # several workers must agree, and their clocks do not

# What TensorFlow raises in one worker when another is gone.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, and from where to start again."""


class Interrupted(RuntimeError):  # noqa: N818 (nothing is wrong)
    """A signal asked for an end: the step was finished and saved, and the run can go on later."""


@contextlib.contextmanager
def forgotten_gradients():
    """Drops the custom gradients that are made meanwhile; nobody must want them later.

    TensorFlow 2.21 never does. Every optimizer has one, which holds on to the graph of its steps,
    and that to all weights and their momenta.
    """
    before = set(gradient_registry.list())
    try:
        yield
    finally:
        for name in set(gradient_registry.list()) - before:
            if name.startswith("CustomGradient-"):
                del gradient_registry._registry[name]


@forgotten_gradients()
def train(
    model: keras.Model,
    batches: Callable[[int, tuple[int, int]], tf.data.Dataset],
    *,
    batch: int,
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    optimizer: keras.optimizers.Optimizer,
    steps: int,
    run: RunFolder,
    strategy: tf.distribute.Strategy | None = None,
    micro_batches: int = 1,
    targets: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    weight_decay: float = 0.0,
    log_every: int = 50,
    checkpoint_every: int = 500,
    evaluate: Callable[[], dict[str, float]] | None = None,
    evaluate_every: int | None = None,
) -> None:
    """Trains a model in place, going on from the run's last checkpoint where it has one.

    SIGTERM and SIGINT end it after a step, on all workers after the same one, with a checkpoint.

    Args:
        model: Takes a batch's images and returns float32 logits.
        batches: `batches(step, (k, n))` returns an endless data set of `(images, labels)` that
            begins with that step's batch, of which it holds the k-th of n equal slices; labels are
            what the loss takes.
        batch: Images a step, over all replicas and workers.
        loss: `loss(labels, logits)` returns one value an example, float32 `[batch]`.
        optimizer: Fresh, with a learning-rate schedule or a number.
        steps: The step to stop at, counted from the start of the run.
        run: Where scalars and checkpoints go.
        strategy: The one in whose scope model and optimizer were made; none by default.
        micro_batches: Pieces a replica's batch is cut into, to save memory; gradients are those of
            the whole.
        targets: `targets(images, labels)` returns what the loss takes in the place of labels, from
            the very images that the model is given, piece by piece; no gradient goes through it.
        weight_decay: L2 penalty's factor, added to the gradient of variables named `kernel`.
        log_every: Steps between two lines in the run's logs.
        checkpoint_every: Steps between two checkpoints; the last step always has one.
        evaluate: Returns scalars to log; called every `evaluate_every` steps, not after the last.

    Raises:
        ValueError: If replicas times `micro_batches` do not divide the batch.
        TrainingError: If the loss or a weight is not finite.
        Interrupted: After SIGTERM or SIGINT.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if batch % (replicas * micro_batches):
        raise ValueError(
            f"the batch must be divided by {replicas} replicas times {micro_batches} pieces, "
            f"got {batch} images."
        )
    variables = model.trainable_variables
    with strategy.scope():
        optimizer.build(variables)
    kernels = [variable.path.endswith("kernel") for variable in variables]

    def gradients(images, labels):
        if targets:
            labels = targets(images, labels)
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(loss(labels, model(images, training=True))) / batch
            scaled = optimizer.scale_loss(total)  # under float16; the optimizer undoes it
        return total, tape.gradient(scaled, [variable.value for variable in variables])

    def batch_gradients(images, labels):
        if micro_batches == 1:
            return gradients(images, labels)
        size = images.shape[0] // micro_batches
        pieces = [tf.reshape(x, (micro_batches, size, *x.shape[1:])) for x in (images, labels)]
        total = tf.zeros(())
        sums = [tf.zeros(variable.shape) for variable in variables]
        for m in tf.range(micro_batches):
            # One after another, or memory is that of several pieces.
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            part, gradient = gradients(*(piece[m] for piece in pieces))
            total += part
            sums = [a + b for a, b in zip(sums, gradient, strict=True)]
        return total, sums

    def step(images, labels):
        total, sums = batch_gradients(images, labels)
        if weight_decay:  # once in all, and the optimizer adds up the replicas' gradients
            decay = optimizer.scale_loss(tf.constant(weight_decay / replicas))
            sums = [
                gradient + decay * variable.value if is_kernel else gradient
                for gradient, variable, is_kernel in zip(sums, variables, kernels, strict=True)
            ]
        optimizer.apply(sums, variables)
        return total

    def over_replicas(value):
        return strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

    @tf.function
    def run_steps(iterator, count, asked_to_stop):
        losses = tf.TensorArray(tf.float32, count)
        for i in tf.range(count):
            losses = losses.write(i, over_replicas(strategy.run(step, args=next(iterator))))
        # Every worker learns what any of them was asked.
        stopping = over_replicas(strategy.run(lambda: tf.identity(asked_to_stop)))
        return losses.stack(), stopping

    def own_batches(context):
        part = (context.input_pipeline_id, context.num_input_pipelines)
        slices = batches(done, part)
        return slices if replicas == part[1] else slices.rebatch(batch // replicas)

    done = run.restore(model, optimizer)
    several_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if several_workers:  # or they would train from different weights without a word
        steps_of_all = strategy.gather(strategy.run(lambda: tf.constant([done])), axis=0).numpy()
        if len({*steps_of_all}) > 1:
            raise TrainingError(
                f"the workers would go on from different steps ({', '.join(map(str, steps_of_all))}"
                "); give all of them the same workdir, on storage that they share."
            )
    iterator = iter(strategy.distribute_datasets_from_function(own_batches))
    events = [log_every, checkpoint_every, *([evaluate_every] if evaluate else [])]
    per_call = WORKERS_STEPS_PER_CALL if several_workers else 1
    losses, seconds = [], 0.0
    optimizing = sums_left_alone() if micro_batches > 1 else contextlib.nullcontext()
    with Progress(steps, done) as progress, SignalFlag() as asked, optimizing:
        while done < steps:
            until = min(steps, done + per_call, *((done // e + 1) * e for e in events))
            start = time.perf_counter()
            count, flag = tf.constant(until - done), tf.constant(float(bool(asked.by)))
            try:
                new, stopping = (x.numpy().tolist() for x in run_steps(iterator, count, flag))
            except LOST as error:
                if not several_workers:
                    raise
                raise TrainingError(
                    f"another worker was lost between steps {done} and {until}; start all of them "
                    f"again: they go on from {run.last_checkpoint() or 'the first step'}."
                ) from error
            if not several_workers:  # who could only agree on what was asked before
                stopping = bool(asked.by)
            elapsed = time.perf_counter() - start
            if elapsed < SECONDS_PER_CALL and len(new) == per_call and not several_workers:
                per_call *= 2
            done = until
            losses, seconds = losses + new, seconds + elapsed
            lr = float(strategy.experimental_local_results(optimizer.learning_rate)[0])
            if not all(map(math.isfinite, new)):
                stop(run, f"the loss is not finite at step {done} or just before it", lr)
            saving = done % checkpoint_every == 0 or done == steps or stopping
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
            if stopping:
                raise Interrupted(f"stopped by a signal at step {done} of {steps}, which is saved")


@contextlib.contextmanager
def sums_left_alone():
    """Turns off the optimizer that makes sums share memory, which fails in loops within loops.

    TensorFlow 2.21 then finds a temporary variable of an earlier step (AlreadyExistsError).
    """
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True, **before})


def stop(run, what, lr):
    raise TrainingError(
        f"{what}, with a learning rate of {lr:g} (last good checkpoint: "
        f"{run.last_checkpoint() or 'none'}); start a new run with a lower rate in another workdir."
    )


class SignalFlag:
    """While it is entered, SIGTERM and SIGINT only set `by`; a second one acts as it used to."""

    def __enter__(self):
        self.by = None
        self.before = {}
        if threading.current_thread() is threading.main_thread():  # Python allows no other
            for number in (signal.SIGTERM, signal.SIGINT):
                self.before[number] = signal.signal(number, self.note)
        return self

    def note(self, number, frame):
        self.by = number
        self.__exit__()
        print("\nstopping after this step, then saving ...", file=sys.stderr, flush=True)

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)


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
