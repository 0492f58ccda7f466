"""What every task's run does: train, test, export, report."""

import abc
import dataclasses
import math
import os
import pathlib
import sys
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..choices import KEEP
from .devices import Devices
from .inference import NotFiniteError
from .loop import Intervals, Tests, TrainingError, train
from .memory import fitting_split, rematerialize
from .objective import Objective
from .optimizer import FusedSGD
from .run_folder import RunFolder
from .selection import Selection
from .strategies import wait_for_all_workers
from .tf_workarounds import released_gradients

DIVERGED = (
    "the model's answers to test images are not finite; start a new run with a lower learning rate "
    "in another workdir."
)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What every entry point that trains takes, whatever the task.

    Attributes:
        workdir: The run's folder.
        precision: "float32", "mixed_bfloat16" or "mixed_float16". Statistics, standardized kernels,
            outputs and loss are float32 in all, and so is the model that comes out.
        strategy: A name that `make_strategy` knows, or what it returned. Replicas share every
            batch; the result is the same as on one device but for rounding.
        seed: Of random weights, and of every batch; Keras's, NumPy's and Python's are set to it.
        batch_split: Pieces a replica's share of the batch is cut into, to save memory, with the
            gradient of the whole; "auto" finds and prints the fewest that fit.
        remat: Whether to keep of each unit of the model only what enters it, and to compute the
            unit once more for its gradient: the same weights to the last bit, with a third of the
            memory for activations, in about a third more time.
        evaluate_every: Steps between two tests during training: of the validation images, or else
            of the test images. By default a tenth of all steps if they choose a model or an end;
            otherwise none.
        keep: "last", or "best" for the model that was best on the validation images; by default
            "best" if there are some. Test images never choose.
        patience: End after so many tests of the validation images in a row without a new best; by
            default never.
        export: Whether to write `model/`, which takes some seconds.
        command: The command line to show in the report.

    Raises:
        ValueError: If `evaluate_every` or `patience` is below 1, or `keep` unknown; `run_task`
            checks the others.
    """

    workdir: str | os.PathLike
    precision: str = "float32"
    strategy: str | tf.distribute.Strategy = "auto"
    seed: int = 0
    batch_split: int | str = "auto"
    remat: bool = False
    evaluate_every: int | None = None
    keep: str | None = None
    patience: int | None = None
    export: bool = True
    command: str | None = None

    def __post_init__(self):
        for name in ("evaluate_every", "patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value!r}.")
        if self.keep not in (None, *KEEP):
            raise ValueError(f'keep must be "best" or "last", got {self.keep!r}.')

    def choosing(self, task: "Task") -> "RunOptions":
        """Returns the options with those filled in that depend on the task's validation images.

        Raises ValueError if some were to choose, and there are none.
        """
        if task.has_validation:
            keep, every = self.keep or "best", self.evaluate_every
            if every is None and (keep == "best" or self.patience):
                every = max(1, task.steps // 10)
            return dataclasses.replace(self, keep=keep, evaluate_every=every)
        if self.keep == "best" or self.patience:
            option = "patience" if self.patience else "keep='best'"
            raise ValueError(
                f"{option} needs images to choose by, and test images never choose: give "
                "validation=0.1 (--validation=0.1), or a folder with train, validation and test."
            )
        return dataclasses.replace(self, keep="last")


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """What a training returns.

    Attributes:
        model: The trained model, `[0, 1]` images to the task's answers; float32, on one device.
        metrics: What `metrics.json` holds: the scores of the test images (if there were any),
            `steps`, `seconds` since the last start; and with validation images the score by which
            models were compared, and the `kept_step`.
        workdir: The run's folder.
    """

    model: keras.Model
    metrics: dict[str, float | int]
    workdir: pathlib.Path


class Task(abc.ABC):
    """What a run trains. `run_task` calls the methods in the order they have here.

    Attributes:
        steps: The optimizer steps of a run.
        batch: Examples per step, over all replicas.
        best_by: The metric, the higher the better, by which models are compared.
        has_test: Whether there is anything to test on.
        has_validation: Whether there is anything to compare models by; then `validate` is there.
    """

    steps: int
    batch: int
    best_by: str
    has_test: bool
    has_validation: bool = False

    @abc.abstractmethod
    def build(self) -> keras.Model:
        """Makes the model; called in the scope of the devices, and maybe once more outside."""

    @abc.abstractmethod
    def objective(self, model: keras.Model, seed: int) -> Objective:
        """Says what is minimized, of this model or of a part of it; called in the scope."""

    @abc.abstractmethod
    def schedule(self) -> keras.optimizers.schedules.LearningRateSchedule:
        """Returns the learning rate by step."""

    @abc.abstractmethod
    def settings(self) -> dict:
        """Returns all that tells this run from another, for `config.json`."""

    def picture(self, objective: Objective) -> np.ndarray | None:
        """Returns examples as they are trained on, float32 [height, width, 3] in [0, 1]."""
        return None

    @abc.abstractmethod
    def test(self, model: keras.Model, strategy: tf.distribute.Strategy | None) -> Any:
        """Tests a model made in the scope of `strategy`; returns an object with `metrics`."""

    def validate(self, model: keras.Model, strategy: tf.distribute.Strategy | None) -> Any:
        """As `test`, on the validation images."""
        raise NotImplementedError

    @abc.abstractmethod
    def export(self, model: keras.Model, run: RunFolder) -> None:
        """Writes what others need to use the model, unless an earlier try did."""

    @abc.abstractmethod
    def report(self, model: keras.Model, run: RunFolder, tested: Any, **page: Any) -> None:
        """Writes `report.html`; `page` has its `settings`, `metrics` and `command`.

        The model is on one device. What `test` returned is `tested`, or None.
        """


@released_gradients()
def run_task(task: Task, options: RunOptions) -> TrainedModel:
    """Trains, tests, exports and reports; goes on with a run that was interrupted.

    Raises:
        ValueError: If an option is wrong, or the workdir holds another run; before any training,
            and with nothing written.
        TrainingError: If a loss, a weight or an answer is not finite, or a worker is lost.
    """
    start = time.perf_counter()
    options = options.choosing(task)
    devices = Devices(options.strategy, options.precision)
    devices.check_batch(task.batch, options.batch_split)
    devices.warn_of_slow_precision()
    keras.utils.set_random_seed(options.seed)
    with devices.scope():
        model = task.build()
        if options.remat:
            rematerialize(model)
        objective = task.objective(model, options.seed)
        optimizer = FusedSGD(task.schedule())
        if options.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    pieces = _find_split(objective, devices, options.batch_split)
    settings = {
        **task.settings(),
        "precision": options.precision,
        "batch_split": pieces,
        "evaluate_every": options.evaluate_every,
        "seed": options.seed,
    }
    if task.has_validation:
        settings |= {"keep": options.keep, "patience": options.patience}
    with RunFolder(options.workdir, settings, chief=devices.is_chief) as run:
        picture = task.picture(objective)
        if picture is not None and not run.last_checkpoint():
            run.log_picture("training images", picture)
        choice = _Choice(task, model, devices, run, options)
        done = train(
            objective,
            optimizer,
            run,
            steps=task.steps,
            strategy=devices.strategy,
            pieces=pieces,
            every=Intervals(
                log=max(1, min(50, task.steps // 50)),
                checkpoint=max(1, min(500, task.steps // 10)),
                evaluate=options.evaluate_every if task.has_test or task.has_validation else None,
            ),
            tests=Tests(choice.after, choice.enough),
        )
        chosen = choice.choose(done)
        model, tested = _test_final(task, model, devices)
        scores = tested.metrics if tested else {}
        if run.chief:
            if tested and not any(name.startswith("test_") for name in run.history()[-1]):
                run.log(done, **_as_scalars("test", scores))
            if options.export:
                task.export(model, run)
        seconds = round(time.perf_counter() - start, 1)
        metrics = {**scores, **chosen, "steps": done, "seconds": seconds}
        if run.chief:
            page = {"settings": settings, "metrics": metrics, "command": options.command}
            task.report(model, run, tested, **page)
            run.finish(metrics)
        wait_for_all_workers(devices.strategy)
    return TrainedModel(model, metrics, run.path)


def _find_split(objective, devices, batch_split):
    """Returns the number of pieces; "auto" finds and prints it."""
    if batch_split != "auto":
        return batch_split
    pieces, need = fitting_split(objective, devices.strategy)
    if devices.is_chief:
        print(
            f"Batch split: {pieces} of {objective.batch // devices.replicas // pieces} images, "
            f"about {need / 2**20:,.0f} MiB a device.",
            file=sys.stderr,
            flush=True,
        )
    return pieces


class _Choice:
    """The tests during a run, and the choice among its models."""

    def __init__(self, task, model, devices, run, options):
        self.task, self.model, self.devices, self.run = task, model, devices, run
        self.keep, self.selection = options.keep, None
        if task.has_validation:
            self.selection = Selection(run, f"validation_{task.best_by}", options.patience)

    def after(self, step):
        """Tests the model after a step; returns what is logged of it."""
        if not self.selection:
            scores = _scores(self.task.test, self.model, self.devices.strategy).metrics
            return _as_scalars("test", scores)
        scores = _scores(self.task.validate, self.model, self.devices.strategy).metrics
        if self.selection.add(step, scores[self.task.best_by]) and self.run.chief:
            self.run.save_best(_as_float32(self.task, self.model, self.devices))
        return _as_scalars("validation", scores)

    def enough(self, step):
        return bool(self.selection) and self.selection.exhausted(step)

    def choose(self, done):
        """Gives the model the weights to keep; returns what `metrics.json` says of the choice."""
        if not self.selection:
            return {}
        if done not in self.selection.scores(done):
            self.run.log(done, **self.after(done))
        step = self.selection.best_step(done) if self.keep == "best" else done
        if step < done:
            wait_for_all_workers(self.devices.strategy)
            self.model.set_weights(self.run.best().get_weights())
        return {self.selection.metric: self.selection.scores(done)[step], "kept_step": step}


def _scores(test, model, strategy):
    # The answers may be infinite where the loss of the training images is finite.
    try:
        tested = test(model, strategy)
    except NotFiniteError as error:
        raise TrainingError(DIVERGED) from error
    if not all(map(math.isfinite, tested.metrics.values())):
        raise TrainingError(DIVERGED)
    return tested


def _test_final(task, model, devices):
    """Returns (the model on one device and in float32, what testing it found or None)."""
    float32 = devices.precision == "float32"
    tested = _scores(task.test, model, devices.strategy) if task.has_test and float32 else None
    model = _as_float32(task, model, devices)
    if task.has_test and tested is None:
        tested = _scores(task.test, model, None)
    return model, tested


def _as_float32(task, model, devices):
    """Returns a model, or its copy, on one device and in float32."""
    if devices.replicas == 1 and devices.precision == "float32":
        return model
    copy = task.build()
    copy.set_weights(model.get_weights())
    return copy


def _as_scalars(kind, scores):
    return {f"{kind}_{name}": value for name, value in scores.items() if isinstance(value, float)}
