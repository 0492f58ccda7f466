"""Upstream pre-training: a BiT from random weights, or further from a checkpoint, by a recipe."""

import dataclasses
import datetime
import functools
import os

import keras
import tensorflow as tf

from ..data import LabeledImages, center_crop_batches, upstream_batches
from ..models.zoo import load, weights_crc32
from ..recipes.upstream import UpstreamRecipe
from ..recipes.upstream import recipe as recipe_named
from ..training import forward_flops
from .distillation import open_teacher
from .run import LOSSES, Devices, TrainedModel, check_classes, check_every, conduct


def pretrain(
    model: str,
    train: LabeledImages,
    test: LabeledImages | None = None,
    *,
    workdir: str | os.PathLike,
    recipe: str | UpstreamRecipe = "BiT-S",
    init: str | os.PathLike = "random",
    teacher: keras.Model | str | os.PathLike | None = None,
    temperature: float = 1.0,
    precision: str = "float32",
    strategy: str | tf.distribute.Strategy = "auto",
    seed: int = 0,
    batch_split: int | str = "auto",
    evaluate_every: int | None = None,
    export: bool = True,
    command: str | None = None,
) -> TrainedModel:
    """Pre-trains a model on labeled images: all weights, random-resized crops, weight decay.

    A run that was interrupted goes on when it is called again with the same arguments.

    Args:
        model: A name of `list_models()`, or an `.npz`, whose architecture is taken.
        train: The images to train on.
        test: Images to test on, by their center crop, with the classes of `train`.
        workdir: The run's folder, as `fine_tune` leaves it.
        recipe: "BiT-S", "BiT-M", "BiT-L" (the paper's protocols; with a teacher their
            `distillation()`), or a recipe, which is taken as it is.
        init: "random", or what `load` takes, to pre-train further from its body's weights.
        teacher, temperature: As in `fine_tune`.
        precision: As in `fine_tune`.
        strategy: As in `fine_tune`.
        seed: Of random weights, and of every batch.
        batch_split: As in `fine_tune`.
        evaluate_every: Steps between two tests during training; none by default.
        export: As in `fine_tune`.
        command: The command line to show in the report.

    Raises:
        ValueError: If an argument is wrong, or `workdir` holds another run; before any training,
            and with nothing written.
        TrainingError: If the loss is not finite.
    """
    check_classes(train, test)
    check_every(evaluate_every)
    protocol = checked_recipe(recipe, train, distilled=teacher is not None)
    devices = Devices(strategy, precision, protocol.batch, batch_split)

    def batches(step, part):
        return upstream_batches(
            train,
            batch=protocol.batch,
            crop=protocol.crop,
            seed=seed,
            start_step=step,
            mixup_alpha=protocol.mixup_alpha,
            part=part,
        )

    return conduct(
        devices,
        build=lambda: built(model, init, train.num_classes, protocol),
        trained_part=lambda built: (built, batches),
        crop=protocol.crop,
        loss=protocol.loss,
        teacher=teacher,
        temperature=temperature,
        schedule=protocol.schedule(len(train)),
        steps=protocol.steps(len(train)),
        weight_decay=protocol.weight_decay,
        train_images=train,
        test_images=test,
        test_batches=functools.partial(
            center_crop_batches, resize=protocol.test_resize, crop=protocol.crop
        ),
        workdir=workdir,
        settings={
            "model": os.fspath(model),
            "init": os.fspath(init),
            "weights": weights_crc32(init),
            "recipe": dataclasses.asdict(protocol),
            "augmentations": sorted(train.augmentations),
        },
        seed=seed,
        evaluate_every=evaluate_every,
        export=export,
        command=command,
    )


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a pre-training would take, as `plan` finds it.

    Attributes:
        parameters: Numbers that are trained.
        flops: Floating-point operations of one image's forward pass, two a multiply-add; training
            takes about three times as many.
        teacher_flops: Those of a teacher's forward pass, which training takes too.
        steps, epochs, batch: The recipe's, for the given images.
        pieces: The split of a replica's batch.
        memory: Bytes a replica needs, by an estimate.
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
        if self.seconds is not None:
            duration = datetime.timedelta(seconds=round(self.seconds))
            lines["Time"] = f"{duration} at {self.steps * self.batch / self.seconds:,.0f} images/s"
        else:
            lines["Time"] = "not known; give the images a second"
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
    images_per_second: float | None = None,
) -> Plan:
    """Finds what a pre-training would take, without training or writing anything.

    Args:
        model, train, recipe, init, teacher, temperature, precision, strategy, batch_split: As in
            `pretrain`.
        images_per_second: Of training, over all replicas, to tell the time from.

    Raises:
        ValueError: As `pretrain` would.
    """
    check_classes(train, None)
    protocol = checked_recipe(recipe, train, distilled=teacher is not None)
    devices = Devices(strategy, precision, protocol.batch, batch_split)
    with devices.scope():
        network = built(model, init, train.num_classes, protocol)
        taught_by = open_teacher(teacher, temperature, images=train, crop=protocol.crop)
    shape = (protocol.crop, protocol.crop, 3)
    objective = taught_by.loss(protocol.loss) if taught_by else LOSSES[protocol.loss]
    targets = taught_by and taught_by.targets
    pieces, memory = devices.split(network, objective, shape, train.num_classes, targets)
    steps = protocol.steps(len(train))
    return Plan(
        parameters=sum(v.shape.num_elements() for v in network.trainable_variables),
        flops=forward_flops(network, shape),
        teacher_flops=forward_flops(taught_by.model, shape) if taught_by else 0,
        steps=steps,
        epochs=protocol.epochs,
        batch=protocol.batch,
        replicas=devices.replicas,
        pieces=pieces,
        memory=memory,
        epoch_bytes=train.num_bytes,
        seconds=steps * protocol.batch / images_per_second if images_per_second else None,
    )


def checked_recipe(recipe, train, distilled):
    protocol = recipe
    if isinstance(recipe, str):
        protocol = recipe_named(recipe)
        protocol = protocol.distillation() if distilled else protocol
    steps = protocol.steps(len(train))
    if steps <= protocol.warmup_steps:
        raise ValueError(
            f"{len(train):,} images make {steps:,} steps of {protocol.batch}, fewer than the "
            f"{protocol.warmup_steps:,} of the warm-up; take a smaller batch or a shorter warm-up."
        )
    if train.multi_label and protocol.loss == "softmax":
        raise ValueError(
            f"{train.name} has several labels an image, which a softmax cannot learn; take a "
            "recipe with a sigmoid, such as BiT-M."
        )
    return protocol


def built(model, init, num_classes, protocol):
    if init == "random":
        network = load(model, num_classes=num_classes, init="random")
    else:
        network = load(init, num_classes=num_classes)
    bias = network.get_layer("head").conv.bias
    bias.assign(tf.fill(bias.shape, protocol.head_bias))
    return network
