"""Upstream pre-training: a BiT from random weights, or further from a checkpoint, by a recipe."""

import dataclasses
import functools
import math
import os
from typing import Any

import keras
import tensorflow as tf

from ..data import (
    LabeledImages,
    center_crop_batches,
    labeled_images,
    naming_lost_images,
    upstream_batches,
    with_validation,
)
from ..models.published import full_name
from ..models.zoo import load, weights_crc32
from ..recipes.upstream import UpstreamRecipe
from ..recipes.upstream import recipe as recipe_named
from ..reporting.texts import duration
from ..training import (
    Devices,
    Objective,
    RunOptions,
    TrainedModel,
    fitting_split,
    forward_flops,
    how_to_go_on,
    rematerialize,
    run_task,
)
from .task import ClassifierTask, check_classes

_LONGEST = 1e11  # seconds that are told: three thousand years


def pretrain(
    model: str,
    train: LabeledImages,
    test: LabeledImages | None = None,
    *,
    workdir: str | os.PathLike,
    validation: LabeledImages | str | float | None = None,
    recipe: str | UpstreamRecipe = "BiT-S",
    init: str | os.PathLike = "random",
    teacher: keras.Model | str | os.PathLike | None = None,
    temperature: float = 1.0,
    **options: Any,
) -> TrainedModel:
    """Pre-trains a model on labeled images: all weights, random-resized crops, weight decay.

    An interrupted run goes on when it is called again with the same arguments.

    Args:
        model: A name of `list_models()`, an architecture such as "R26x0.5", or an `.npz`; only the
            architecture is taken.
        train, workdir, validation, teacher, temperature: As in `fine_tune`.
        test: Images to test on, by their center crop, with the classes of `train`.
        recipe: "BiT-S", "BiT-M", "BiT-L": the paper's protocols, `fitted_to` the number of images,
            and with a teacher their `distillation()`; or a recipe, which is taken as it is.
        init: "random", or what `load` takes, to pre-train further from its body's weights.
        **options: As in `fine_tune`.

    Raises:
        ValueError, TrainingError: As `fine_tune` does.
    """
    options = RunOptions(workdir, **options)
    train = labeled_images(train, "train")
    test = test if test is None else labeled_images(test, "test")
    train = with_validation(train, validation)
    check_classes(train, test)
    task = _pretraining(model, train, test, recipe, init, teacher, temperature)
    then = functools.partial(how_to_go_on, workdir)
    with naming_lost_images(train, test, train.validation, then=then):
        return run_task(task, options)


@dataclasses.dataclass(kw_only=True)
class _Pretraining(ClassifierTask):
    recipe: UpstreamRecipe
    init: str | os.PathLike

    def network(self) -> tuple[keras.Model, dict[str, Any]]:
        if self.init == "random":
            model = load(self.name, num_classes=self.train.num_classes, init="random")
        else:
            model = load(self.init, num_classes=self.train.num_classes)
        bias = model.get_layer("head").conv.bias
        bias.assign(tf.fill(bias.shape, self.recipe.head_bias))
        source = f"{self.name} ({os.fspath(self.init)}), pre-trained on {self.train.name}"
        return model, {"native_size": self.crop, "source": source}

    def schedule(self) -> keras.optimizers.schedules.LearningRateSchedule:
        return self.recipe.schedule(len(self.train))

    def objective(self, model: keras.Model, seed: int) -> Objective:
        def batches(step, part):
            return upstream_batches(
                self.train,
                batch=self.batch,
                crop=self.crop,
                seed=seed,
                start_step=step,
                mixup_alpha=self.recipe.mixup_alpha,
                part=part,
            )

        return self.objective_of(model, batches, weight_decay=self.recipe.weight_decay)

    def settings(self) -> dict:
        return {
            **super().settings(),
            "init": os.fspath(self.init),
            "weights": weights_crc32(self.init),
            "recipe": dataclasses.asdict(self.recipe),
            "augmentations": sorted(self.train.augmentations),
        }


def _pretraining(model, train, test, recipe, init, teacher, temperature):
    """The task; ValueError if the recipe does not fit the images."""
    if isinstance(recipe, str):
        recipe = recipe_named(recipe).fitted_to(len(train))
        recipe = recipe if teacher is None else recipe.distillation()
    steps = recipe.steps(len(train))
    if steps <= recipe.warmup_steps:
        raise ValueError(
            f"{len(train):,} images make {steps:,} steps of {recipe.batch}, fewer than the "
            f"{recipe.warmup_steps:,} of the warm-up; take more epochs, or fewer "
            "warm-up steps (--warmup_steps)."
        )
    if train.multi_label and recipe.loss == "softmax":
        raise ValueError(
            f"{train.name} has several labels an image, which a softmax cannot learn; take a "
            "recipe with a sigmoid, such as BiT-M."
        )
    return _Pretraining(
        name=full_name(model),
        train=train,
        test_images=test,
        prepare=functools.partial(center_crop_batches, resize=recipe.test_resize, crop=recipe.crop),
        steps=steps,
        batch=recipe.batch,
        crop=recipe.crop,
        loss=recipe.loss,
        test_resize=recipe.test_resize,
        teacher=teacher,
        temperature=temperature,
        recipe=recipe,
        init=full_name(init),
    )


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a pre-training would take, as `plan` finds it.

    Attributes:
        parameters: Number of trainable ones.
        flops: Floating-point operations of one image's forward pass, two per multiply-add;
            training takes about three times as many, and the `teacher_flops`.
        pieces: The split of a replica's batch.
        memory: Estimated bytes per replica.
        epoch_bytes: Bytes of image files, or arrays, read in an epoch.
        seconds: Of training, at the given throughput; None without one.
    """

    parameters: int
    flops: int
    teacher_flops: int
    steps: int
    epochs: int
    batch: int
    replicas: int
    pieces: int
    memory: int
    epoch_bytes: int
    seconds: float | None

    def __str__(self):
        a_replica = self.batch // self.replicas
        lines = {
            "Parameters": f"{self.parameters:,}",
            "FLOPs an image": f"{self.flops / 1e9:.2f} G forward, some "
            f"{(3 * self.flops + self.teacher_flops) / 1e9:.1f} G in training",
            "Steps": f"{self.steps:,} of {self.batch:,} images: {self.epochs} epochs",
            "Replicas": f"{self.replicas} of {a_replica:,} images, "
            f"{a_replica // self.pieces:,} at a time",
            "Memory a replica": f"{self.memory / 2**20:,.0f} MiB",
            "Read an epoch": f"{self.epoch_bytes / 2**20:,.1f} MiB",
        }
        lines["Time"] = "not known; give the images a second"
        if self.seconds is not None:
            time = duration(min(self.seconds, _LONGEST))
            more = "more than " * (self.seconds > _LONGEST)
            rate = self.steps * self.batch / self.seconds
            lines["Time"] = f"{more}{time} at {rate:,.0f} images/s"
        return "\n".join(f"{name + ':':18}{value}" for name, value in lines.items())


def plan(
    model: str,
    train: LabeledImages,
    *,
    recipe: str | UpstreamRecipe = "BiT-S",
    init: str | os.PathLike = "random",
    teacher: keras.Model | str | os.PathLike | None = None,
    temperature: float = 1.0,
    precision: str = "float32",
    strategy: str | tf.distribute.Strategy = "auto",
    batch_split: int | str = "auto",
    remat: bool = False,
    images_per_second: float | None = None,
) -> Plan:
    """Finds what a pre-training would take, without training or writing anything.

    Arguments and errors are those of `pretrain`; `images_per_second`, over all replicas, gives the
    time.
    """
    check_classes(train, None)
    if images_per_second is not None and not 0 < images_per_second < math.inf:
        raise ValueError(
            f"images_per_second (--throughput) must be a number above 0, got {images_per_second!r}."
        )
    task = _pretraining(model, train, None, recipe, init, teacher, temperature)
    devices = Devices(strategy, precision)
    devices.check_batch(task.batch, batch_split)
    with devices.scope():
        network = task.build()
        if remat:
            rematerialize(network)
        objective = task.objective(network, seed=0)
    split = None if batch_split == "auto" else batch_split
    pieces, memory = fitting_split(objective, devices.strategy, split)
    shape = (task.crop, task.crop, 3)
    teacher = task.opened_teacher
    return Plan(
        parameters=sum(v.shape.num_elements() for v in network.trainable_variables),
        flops=forward_flops(network, shape),
        teacher_flops=forward_flops(teacher.model, shape) if teacher else 0,
        steps=task.steps,
        epochs=task.recipe.epochs,
        batch=task.batch,
        replicas=devices.replicas,
        pieces=pieces,
        memory=memory,
        epoch_bytes=train.num_bytes,
        seconds=task.steps * task.batch / images_per_second if images_per_second else None,
    )
