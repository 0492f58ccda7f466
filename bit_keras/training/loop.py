"""One training loop for every task, strategy and size of batch."""

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable

import keras
import tensorflow as tf
from tqdm import tqdm

from .objective import Objective
from .run_folder import RunFolder
from .signals import SignalFlag
from .step import TrainStep
from .tf_workarounds import no_shared_sums, released_gradients

SECONDS_PER_CALL = 1.0  # of several steps: makes the overhead small, keeps the progress bar alive
WORKERS_STEPS_PER_CALL = 10  # fixed, because workers must run the same number of steps

# Images a second are told by `postfix`.
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}, {remaining} left{postfix}]"

# What TensorFlow raises in one worker when another is gone.
WORKER_LOST = (
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


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Steps between two lines of the log, two checkpoints and two tests (None for no tests).

    The last step always has a line and a checkpoint, and no test, as a run's own test follows.
    """

    log: int = 50
    checkpoint: int = 500
    evaluate: int | None = None

    def next_after(self, step: int) -> int:
        """Returns the first step after this one at which something happens."""
        every = (n for n in (self.log, self.checkpoint, self.evaluate) if n)
        return min((step // n + 1) * n for n in every)


@dataclasses.dataclass(frozen=True)
class Tests:
    """Tests of a model under training; every worker calls them alike.

    Attributes:
        after: Tests the model after a step; returns scalars to log.
        enough: Whether to end after a step: one with a test, or the one that a run goes on from.
    """

    after: Callable[[int], dict[str, float]]
    enough: Callable[[int], bool] = lambda step: False


@released_gradients()
def train(
    objective: Objective,
    optimizer: keras.optimizers.Optimizer,
    run: RunFolder,
    *,
    steps: int,
    strategy: tf.distribute.Strategy | None = None,
    pieces: int = 1,
    every: Intervals | None = None,
    tests: Tests | None = None,
) -> int:
    """Trains a model in place, going on from the run's last checkpoint where it has one.

    SIGTERM and SIGINT end it after a step, on all workers after the same one, with a checkpoint.

    Args:
        objective: What is minimized.
        optimizer: Fresh, with a learning-rate schedule or a number.
        run: Where scalars and checkpoints go.
        steps: The step to stop at, counted from the start of the run.
        strategy: The one in whose scope model and optimizer were made; none by default.
        pieces: Micro-batches that a replica's share of a batch is cut into, to save memory; the
            gradient is that of the whole.
        every: When to log, save and test.
        tests: What to do every `every.evaluate` steps.

    Returns:
        The step it ended at.

    Raises:
        ValueError: If replicas times `pieces` do not divide the batch.
        TrainingError: If the loss or a weight is not finite, or a worker is lost.
        Interrupted: After SIGTERM or SIGINT.
    """
    strategy = strategy or tf.distribute.get_strategy()
    step = TrainStep(objective, optimizer, strategy, pieces)
    optimizing = no_shared_sums() if pieces > 1 else contextlib.nullcontext()
    training = _Training(step, objective, optimizer, run, strategy, every or Intervals())
    with SignalFlag() as asked, optimizing:
        done = training.go_on(steps, asked, tests)
    if asked.by and not training.several_workers:  # it came after the last step
        raise _interrupted(done, steps)
    return done


def _interrupted(done, steps):
    return Interrupted(f"stopped by a signal at step {done} of {steps}, which is saved")


class _Training:
    """A training under way: reads batches, calls the step, and keeps the run's folder."""

    def __init__(self, step, objective, optimizer, run, strategy, every):
        self.step, self.objective, self.optimizer = step, objective, optimizer
        self.run, self.strategy, self.every = run, strategy, every
        self.several_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.per_call = WORKERS_STEPS_PER_CALL if self.several_workers else 1
        self.logged, self.seconds = [], 0.0  # losses and time since the last line of the log

    def go_on(self, steps, asked, tests):
        """Trains from the last checkpoint to `steps`, or until it is enough."""
        enough = tests.enough if tests else lambda done: False
        done = self.run.restore(self.objective.model, self.optimizer)
        self._check_workers_agree(done)
        iterator = iter(self.strategy.distribute_datasets_from_function(self._own_batches(done)))
        every = 0.2 if sys.stderr.isatty() else 15  # seconds; in a log file a line now and then
        common = {"desc": "train", "unit": " steps", "bar_format": BAR}
        with tqdm(total=steps, initial=done, mininterval=every, **common) as bar:
            while done < steps and not enough(done):
                until = min(steps, done + self.per_call, self.every.next_after(done))
                new, stopping = self._call(iterator, done, until, asked)
                done = until
                saving = done % self.every.checkpoint == 0 or done == steps or stopping
                self._check_finite(new, done, weights=saving)
                bar.set_postfix_str(self._shown(new[-1][0]), refresh=False)
                bar.update(done - bar.n)
                if done % self.every.log == 0 or done == steps:
                    self._log(done)
                if self.every.evaluate and done % self.every.evaluate == 0 and done < steps:
                    scalars = tests.after(done)
                    self.run.log(done, **scalars)
                    values = ", ".join(f"{name} {value:.4g}" for name, value in scalars.items())
                    bar.write(f"step {done}: {values}", file=sys.stderr)
                    saving |= enough(done)
                if saving:
                    self.run.save(self.objective.model, self.optimizer, done)
                if stopping:
                    raise _interrupted(done, steps)
        return done

    def _check_workers_agree(self, done):
        if not self.several_workers:
            return
        # Otherwise they would silently train from different weights.
        own = self.strategy.run(lambda: tf.constant([done]))
        steps = self.strategy.gather(own, axis=0).numpy()
        if len({*steps}) > 1:
            raise TrainingError(
                f"the workers would go on from different steps ({', '.join(map(str, steps))}); "
                "give all of them the same workdir, on storage that they share."
            )

    def _own_batches(self, done):
        def batches(context):
            part = (context.input_pipeline_id, context.num_input_pipelines)
            slices = self.objective.batches(done, part)
            replicas = self.strategy.num_replicas_in_sync
            if replicas == part[1]:
                return slices
            return slices.rebatch(self.objective.batch // replicas)

        return batches

    def _call(self, iterator, done, until, asked):
        """Runs the steps up to `until`; returns (their losses, whether to stop)."""
        start = time.perf_counter()
        count, flag = tf.constant(until - done), tf.constant(float(bool(asked.by)))
        try:
            new, stopping = (x.numpy().tolist() for x in self.step.run(iterator, count, flag))
        except WORKER_LOST as error:
            if not self.several_workers:
                raise
            raise TrainingError(
                f"another worker was lost between steps {done} and {until}; start all of them "
                f"again: they go on from {self.run.last_checkpoint() or 'the first step'}."
            ) from error
        elapsed = time.perf_counter() - start
        if not self.several_workers:
            stopping = asked.by  # workers can only agree on what was asked before the call
            if elapsed < SECONDS_PER_CALL and until - done == self.per_call:
                self.per_call *= 2
        self.logged += new
        self.seconds += elapsed
        return new, bool(stopping)

    @property
    def learning_rate(self):
        return float(self.strategy.experimental_local_results(self.optimizer.learning_rate)[0])

    @property
    def rate(self):
        return self.objective.batch * len(self.logged) / self.seconds

    def _shown(self, loss):
        rate = f"{self.rate:,.0f}" if self.rate >= 100 else f"{self.rate:.3g}"  # 12.3, or 1,240
        return f"loss {loss:.4f}, lr {self.learning_rate:.2e}, {rate} images/s"

    def _log(self, done):
        means = [sum(values) / len(values) for values in zip(*self.logged, strict=True)]
        losses = dict(zip(self.objective.loss_names, means, strict=True))
        self.run.log(done, **losses, learning_rate=self.learning_rate, images_per_second=self.rate)
        self.logged, self.seconds = [], 0.0

    def _check_finite(self, losses, done, weights):
        if not all(math.isfinite(value) for values in losses for value in values):
            self._raise_diverged(f"the loss is not finite at step {done} or just before it")
        finite = (bool(tf.reduce_all(tf.math.is_finite(v))) for v in self.step.variables)
        if weights and not all(finite):
            self._raise_diverged(f"weights are not finite after step {done}")

    def _raise_diverged(self, what):
        raise TrainingError(
            f"{what}, with a learning rate of {self.learning_rate:g} (last good checkpoint: "
            f"{self.run.last_checkpoint() or 'none'}); start a new run with a lower rate in "
            "another workdir."
        )
