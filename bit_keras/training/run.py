"""What every task's run does: train, test, export, report."""

import abc
import dataclasses
import math
import os
import pathlib
import sys
import time
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from .devices import PRECISIONS, Devices
from .inference import NotFiniteError
from .loop import Intervals, TrainingError, train
from .memory import fitting_split
from .objective import Objective
from .run_folder import RunFolder
from .strategies import wait_for_all_workers

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
        evaluate_every: Steps between two tests during training; none by default.
        export: Whether to write `model/`, which takes some seconds.
        command: The command line to show in the report.

    Raises:
        ValueError: If one of them is out of its range.
    """

    workdir: str | os.PathLike
    precision: str = "float32"
    strategy: str | tf.distribute.Strategy = "auto"
    seed: int = 0
    batch_split: int | str = "auto"
    evaluate_every: int | None = None
    export: bool = True
    command: str | None = None

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}."
            )
        if self.evaluate_every is not None and self.evaluate_every < 1:
            raise ValueError(f"evaluate_every must be 1 or more, got {self.evaluate_every!r}.")


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """What a training returns.

    Attributes:
        model: The trained model, `[0, 1]` images to the task's answers; float32, on one device.
        metrics: What `metrics.json` holds: the scores of the test images (if there were any),
            `steps`, and `seconds` since the last start.
        workdir: The run's folder.
    """

    model: keras.Model
    metrics: dict[str, float | int]
    workdir: pathlib.Path


class Tested(Protocol):
    """What a task found out about a model on its test images."""

    @property
    def metrics(self) -> dict[str, float | int]: ...


class Task(abc.ABC):
    """What a run trains. `run_task` calls the methods in the order they have here.

    Attributes:
        steps: The optimizer steps of a run.
        batch: Examples per step, over all replicas.
        best_by: The metric, the higher the better, by which `checkpoints/best.keras` is chosen.
        has_test: Whether there is anything to test on.
    """

    steps: int
    batch: int
    best_by: str
    has_test: bool

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
    def test(self, model: keras.Model, strategy: tf.distribute.Strategy | None) -> Tested:
        """Tests a model that was made in the scope of `strategy`."""

    @abc.abstractmethod
    def export(self, model: keras.Model, run: RunFolder) -> None:
        """Writes what others need to use the model, unless an earlier try did."""

    @abc.abstractmethod
    def report(
        self,
        run: RunFolder,
        tested: Tested | None,
        *,
        settings: dict,
        metrics: dict,
        command: str | None,
    ) -> None:
        """Writes `report.html` and tables."""


def run_task(task: Task, options: RunOptions) -> TrainedModel:
    """Trains, tests, exports and reports; goes on with a run that was interrupted.

    Raises:
        ValueError: If an option is wrong, or the workdir holds another run; before any training,
            and with nothing written.
        TrainingError: If a loss, a weight or an answer is not finite, or a worker is lost.
    """
    return _Run(task, options).result()


class _Run:
    def __init__(self, task: Task, options: RunOptions):
        self.task, self.options = task, options
        self.start = time.perf_counter()
        self.devices = Devices(options.strategy, options.precision)
        self.devices.check_batch(task.batch, options.batch_split)

    def result(self) -> TrainedModel:
        task, options = self.task, self.options
        keras.utils.set_random_seed(options.seed)
        with self.devices.scope():
            model = task.build()
            objective = task.objective(model, options.seed)
            optimizer = keras.optimizers.SGD(task.schedule(), momentum=0.9)
            if options.precision == "mixed_float16":
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        pieces = self.find_split(objective)
        settings = {
            **task.settings(),
            "precision": options.precision,
            "batch_split": pieces,
            "evaluate_every": options.evaluate_every,
            "seed": options.seed,
        }
        with RunFolder(options.workdir, settings, chief=self.devices.is_chief) as run:
            self.train(run, model, objective, optimizer, pieces)
            model, tested = self.test_final(model)
            scores = tested.metrics if tested else {}
            metrics = {**scores, "steps": task.steps, "seconds": self.seconds()}
            if run.chief:
                self.finish(run, model, tested, settings, metrics)
            wait_for_all_workers(self.devices.strategy)
        return TrainedModel(model, metrics, run.path)

    def find_split(self, objective: Objective) -> int:
        if self.options.batch_split != "auto":
            return self.options.batch_split
        pieces, need = fitting_split(objective, self.devices.strategy)
        if self.devices.is_chief:
            print(
                f"Batch split: {pieces} of {self.task.batch // self.devices.replicas // pieces} "
                f"images, about {need / 2**20:,.0f} MiB a device.",
                file=sys.stderr,
                flush=True,
            )
        return pieces

    def train(self, run, model, objective, optimizer, pieces) -> None:
        task, options = self.task, self.options

        def evaluate():
            scores = self.test(model, self.devices.strategy).metrics
            self.keep_if_best(run, model, scores)
            return _as_test_scalars(scores)

        picture = task.picture(objective)
        if picture is not None and not run.last_checkpoint():
            run.log_picture("training images", picture)
        train(
            objective,
            optimizer,
            run,
            steps=task.steps,
            strategy=self.devices.strategy,
            pieces=pieces,
            every=Intervals(
                log=max(1, min(50, task.steps // 50)),
                checkpoint=max(1, min(500, task.steps // 10)),
                evaluate=options.evaluate_every if task.has_test else None,
            ),
            evaluate=evaluate,
        )

    def test_final(self, model: keras.Model) -> tuple[keras.Model, Tested | None]:
        """(the model on one device and in float32, what testing it found)"""
        float32 = self.options.precision == "float32"
        tested = None
        if self.task.has_test and float32:
            tested = self.test(model, self.devices.strategy)
        if self.devices.replicas > 1 or not float32:
            final = self.task.build()
            final.set_weights(model.get_weights())
            model = final
        if self.task.has_test and tested is None:
            tested = self.test(model, None)
        return model, tested

    def test(self, model: keras.Model, strategy: tf.distribute.Strategy | None) -> Tested:
        # The answers may be infinite where the loss of the training images is finite.
        try:
            tested = self.task.test(model, strategy)
        except NotFiniteError as error:
            raise TrainingError(DIVERGED) from error
        if not all(map(math.isfinite, tested.metrics.values())):
            raise TrainingError(DIVERGED)
        return tested

    def finish(self, run, model, tested, settings, metrics) -> None:
        options, steps = self.options, self.task.steps
        if tested:
            if options.evaluate_every:
                self.keep_if_best(run, model, tested.metrics)
            if not any(name.startswith("test_") for name in run.history()[-1]):
                run.log(steps, **_as_test_scalars(tested.metrics))
        if options.export:
            self.task.export(model, run)
        self.task.report(run, tested, settings=settings, metrics=metrics, command=options.command)
        metrics["seconds"] = self.seconds()
        run.finish(metrics)

    def keep_if_best(self, run, model, scores) -> None:
        """Keeps the model of the best test so far, as `checkpoints/best.keras`."""
        name = self.task.best_by
        before = [line[f"test_{name}"] for line in run.history() if f"test_{name}" in line]
        if run.chief and scores[name] > max(before, default=-math.inf):
            run.save_best(model)

    def seconds(self) -> float:
        return round(time.perf_counter() - self.start, 1)


def _as_test_scalars(scores: dict[str, Any]) -> dict[str, float]:
    return {f"test_{name}": value for name, value in scores.items() if isinstance(value, float)}
