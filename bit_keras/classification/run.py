"""A training run: from a model and batches to a tested, exported and reported one.

What `fine_tune` and `pretrain` share; they choose the model, the batches and the schedule.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from ..data import LabeledImages
from ..exporting import export as write_export
from ..metrics.classification import headline, score
from ..training import (
    RunFolder,
    TrainingError,
    fitting_split,
    is_chief,
    make_strategy,
    train,
    wait_for_all_workers,
)
from ..training.inference import NotFiniteError, predict
from .distillation import open_teacher
from .evaluation import Evaluation, check_testable
from .report import write_run_report

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
TEST_BATCH = 64
DIVERGED = (
    "the model's answers to test images are not finite; start a new run with a lower learning rate "
    "in another workdir."
)
PICTURES = 16  # augmented training images to look at, at most

LOSSES = {
    "softmax": tf.nn.softmax_cross_entropy_with_logits,
    # Every class is a question of its own; an image's loss is the sum of the answers'.
    "sigmoid": lambda labels, logits: tf.reduce_sum(
        tf.nn.sigmoid_cross_entropy_with_logits(labels, logits), axis=-1
    ),
}


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """What `fine_tune` and `pretrain` return.

    Attributes:
        model: The trained classifier, `[0, 1]` images to logits; float32, on one device.
        metrics: What `metrics.json` holds: the `score` of the test images (if there were any),
            `steps`, and `seconds` since the last start.
        workdir: The run's folder.
    """

    model: keras.Model
    metrics: dict[str, float | int]
    workdir: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Devices:
    """Where a run computes, and in what precision.

    Args:
        strategy: A name that `make_strategy` knows, or what it returned.
        precision: One of `PRECISIONS`.
        batch: Images a step, over all replicas and workers.
        batch_split: Pieces a replica's share of the batch is cut into, or "auto".

    Raises:
        ValueError: If one is unknown, or replicas times pieces do not divide the batch.
    """

    strategy: tf.distribute.Strategy
    precision: str
    batch: int
    batch_split: int | str

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}."
            )
        pieces = 1 if self.batch_split == "auto" else self.batch_split
        if not (isinstance(pieces, int) and pieces >= 1):
            raise ValueError(f'batch_split must be "auto", or 1 or more, got {pieces!r}.')
        if isinstance(self.strategy, str):
            object.__setattr__(self, "strategy", make_strategy(self.strategy))
        if self.batch % (self.replicas * pieces):
            raise ValueError(
                f"batch_split times {self.replicas} replicas must divide the batch of {self.batch} "
                f"images, got {pieces!r}."
            )

    @property
    def replicas(self) -> int:
        return self.strategy.num_replicas_in_sync

    @contextlib.contextmanager
    def scope(self):
        """Models and optimizers made inside live on these devices, in this precision."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.precision)
        try:
            with self.strategy.scope():
                yield
        finally:
            keras.config.set_dtype_policy(before)

    def split(self, model, loss, image_shape, num_classes, targets=None) -> tuple[int, int]:
        """Returns (pieces, bytes that a replica needs with them, by an estimate)."""
        return fitting_split(
            model,
            loss,
            image_shape=image_shape,
            num_classes=num_classes,
            batch=self.batch,
            strategy=self.strategy,
            targets=targets,
            pieces=None if self.batch_split == "auto" else self.batch_split,
        )


def conduct(
    devices: Devices,
    *,
    build: Callable[[], keras.Model],
    trained_part: Callable[[keras.Model], tuple[keras.Model, Callable]],
    crop: int,
    loss: str,
    teacher: keras.Model | str | os.PathLike | None,
    temperature: float,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    steps: int,
    weight_decay: float = 0.0,
    train_images: LabeledImages,
    test_images: LabeledImages | None,
    test_batches: Callable[..., tf.data.Dataset],
    workdir: str | os.PathLike,
    settings: dict,
    seed: int,
    evaluate_every: int | None,
    export: bool,
    command: str | None,
) -> TrainedModel:
    """Trains, tests, exports and reports; goes on with a run that was interrupted.

    Args:
        devices: Where.
        build: Makes the model, with a head for the classes of `train_images`; called in the scope
            of `devices`, and once more outside of it for a model that is handed on.
        trained_part: From the model, (what is trained of it, the function that `train` calls for
            batches).
        crop: Side of the images, in pixels.
        loss: A name in `LOSSES`.
        teacher, temperature: As in `fine_tune`.
        schedule, steps, weight_decay: The optimizer's.
        train_images, test_images: For their classes, their description and the report.
        test_batches: From labeled images and a keyword `batch`, one pass over them.
        workdir, seed, evaluate_every, export, command: As in `fine_tune`.
        settings: Those that only the caller knows, for `config.json`.
    """
    start = time.perf_counter()
    keras.utils.set_random_seed(seed)
    with devices.scope():
        model = build()
        trained, batches = trained_part(model)
        taught_by = open_teacher(teacher, temperature, images=train_images, crop=crop)
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9)
        if devices.precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    objective = taught_by.loss(loss) if taught_by else LOSSES[loss]
    targets = taught_by and taught_by.targets
    shape = tuple(crop if side is None else side for side in trained.input_shape[1:])
    pieces = devices.batch_split
    if pieces == "auto":
        pieces, need = devices.split(trained, objective, shape, train_images.num_classes, targets)
        share = devices.batch // devices.replicas // pieces
        if is_chief(devices.strategy):
            print(
                f"Batch split: {pieces} of {share} images, about {need / 2**20:,.0f} MiB a device.",
                file=sys.stderr,
                flush=True,
            )
    config = {
        **settings,
        "loss": loss,
        **({"teacher": taught_by.settings()} if taught_by else {}),
        "precision": devices.precision,
        "train": train_images.description(),
        "test": test_images and test_images.description(),
        "batch_split": pieces,
        "evaluate_every": evaluate_every,
        "seed": seed,
        "class_names": train_images.class_names,
    }

    def answers(model, strategy=None):
        try:
            return predict(model, test_images, test_batches, batch=TEST_BATCH, strategy=strategy)
        except NotFiniteError as error:  # a loss can be finite on the images that were trained on
            raise TrainingError(DIVERGED) from error

    with RunFolder(workdir, config, chief=is_chief(devices.strategy)) as run:

        def evaluate():
            scores = finite(score(answers(model, devices.strategy), test_images.labels))
            keep_if_best(run, model, scores)
            return prefixed(scores)

        first = some_images(batches, devices.batch)  # features are computed here, not in the loop
        if first.ndim == 4 and not run.last_checkpoint():
            run.log_picture("training images", square_of(first))
        train(
            trained,
            batches,
            batch=devices.batch,
            loss=objective,
            targets=targets,
            optimizer=optimizer,
            steps=steps,
            run=run,
            strategy=devices.strategy,
            micro_batches=pieces,
            weight_decay=weight_decay,
            log_every=max(1, min(50, steps // 50)),
            checkpoint_every=max(1, min(500, steps // 10)),
            evaluate=evaluate if test_images and evaluate_every else None,
            evaluate_every=evaluate_every,
        )
        logits = None
        if test_images and devices.precision == "float32":
            logits = answers(model, devices.strategy)
        if devices.replicas > 1 or devices.precision != "float32":
            final = build()  # on one device and in float32, for whoever uses it next
            final.set_weights(model.get_weights())
            model = final
        if test_images and logits is None:
            logits = answers(model)
        tested = Evaluation(test_images, logits, sigmoid=loss == "sigmoid") if test_images else None
        scores = finite(tested.metrics) if tested else {}
        metrics = {**scores, "steps": steps, "seconds": round(time.perf_counter() - start, 1)}
        if run.chief:
            if test_images and evaluate_every:
                keep_if_best(run, model, scores)
            if test_images and not any(name.startswith("test_") for name in run.history()[-1]):
                run.log(steps, **prefixed(scores))
            if export:
                hand_over(run, model, train_images.class_names, loss, crop)
            title = f"{config['model']} on {train_images.name}"
            write_run_report(
                run, tested, title=title, settings=config, metrics=metrics, command=command
            )
            metrics["seconds"] = round(time.perf_counter() - start, 1)
            run.finish(metrics)
        wait_for_all_workers(devices.strategy)
    return TrainedModel(model, metrics, run.path)


def hand_over(run, model, class_names, loss, size):
    """Exports a trained model with its classes, unless an earlier try did."""
    labels = "".join(f"{name}\n" for name in class_names)
    (run.path / "labels.txt").write_text(labels, encoding="utf-8", errors="replace")
    if not (run.path / "model").exists():
        write_export(
            model,
            run.path / "model",
            labels=class_names,
            multi_label=loss == "sigmoid",
            size=size,
        )


def check_classes(train: LabeledImages, test: LabeledImages | None) -> None:
    """Raises ValueError unless there are classes to tell apart, the same in both sets."""
    if train.num_classes < 2:
        raise ValueError(
            f"{train.name} has one class only, and 2 or more are needed; add images of another."
        )
    if test is None:
        return
    if test.class_names != train.class_names:
        raise ValueError(
            f"test must have the {train.num_classes} classes of train in the same order, "
            f"got {test.num_classes} classes that differ."
        )
    if test.multi_label != train.multi_label:
        raise ValueError("train and test must both have one label an image, or both several.")
    check_testable(test)


def one_machine(strategy: str | tf.distribute.Strategy) -> tf.distribute.Strategy:
    """Returns the strategy of that name for a suite of many runs.

    Raises:
        ValueError: If it has several workers, of whom only the first knows what was found already.
    """
    if isinstance(strategy, str):
        strategy = make_strategy(strategy)
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            "a suite of runs takes the devices of one machine; choose another strategy than "
            "multiworker, or start one suite on each."
        )
    return strategy


def check_every(evaluate_every: int | None) -> None:
    if evaluate_every is not None and evaluate_every < 1:
        raise ValueError(f"evaluate_every must be 1 or more, got {evaluate_every!r}.")


def keep_if_best(run, model, scores):
    """Keeps the model of the best test so far, as `checkpoints/best.keras`."""
    name = headline(scores)
    before = [line[f"test_{name}"] for line in run.history() if f"test_{name}" in line]
    if run.chief and scores[name] > max(before, default=-math.inf):
        folder = run.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        temporary = folder / "best.tmp.keras"
        model.save(temporary)
        os.replace(temporary, folder / "best.keras")


def some_images(batches, batch):
    """The first images of step 0, as they are trained on."""
    number = max(n for n in range(1, PICTURES + 1) if batch % n == 0)
    images, _ = next(iter(batches(0, (0, batch // number))))
    return images.numpy()


def square_of(images):
    """As many of the images as fill a square, as one picture."""
    side = math.isqrt(len(images))
    rows = images[: side * side].reshape(side, side, *images.shape[1:])
    return np.concatenate(np.concatenate(rows, axis=1), axis=1)


def finite(scores):
    if not all(map(math.isfinite, scores.values())):
        raise TrainingError(DIVERGED)
    return scores


def prefixed(scores):
    return {f"test_{name}": value for name, value in scores.items() if isinstance(value, float)}
