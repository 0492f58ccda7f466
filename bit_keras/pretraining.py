"""Upstream pre-training: a BiT from random weights, or further from a checkpoint, by a recipe."""

import dataclasses
import os
import time

import keras
import tensorflow as tf

from .data import LabeledImages, centre_crop_batches, upstream_batches
from .evaluation import predict, score
from .fine_tuning import (
    TEST_BATCH,
    FineTuning,
    check_classes,
    checked_strategy,
    conclude,
    description,
    dtype_policy,
    prefixed,
)
from .recipes import UpstreamRecipe
from .recipes import recipe as recipe_named
from .training import RunFolder, is_chief, wait_for_all_workers
from .training import train as train_loop
from .zoo import load

LOSSES = {
    "softmax": tf.nn.softmax_cross_entropy_with_logits,
    # Every class is a question of its own; an image's loss is the sum of the answers'.
    "sigmoid": lambda labels, logits: tf.reduce_sum(
        tf.nn.sigmoid_cross_entropy_with_logits(labels, logits), axis=-1
    ),
}


def pretrain(
    model: str,
    train: LabeledImages,
    test: LabeledImages | None = None,
    *,
    workdir: str | os.PathLike,
    recipe: str | UpstreamRecipe = "BiT-S",
    init: str | os.PathLike = "random",
    precision: str = "float32",
    strategy: str | tf.distribute.Strategy = "auto",
    seed: int = 0,
    batch_split: int = 1,
    evaluate_every: int | None = None,
    command: str | None = None,
) -> FineTuning:
    """Pre-trains a model on labelled images: all weights, random-resized crops, weight decay.

    A run that was interrupted goes on when it is called again with the same arguments.

    Args:
        model: A name of `list_models()`, or an `.npz`, whose architecture is taken.
        train: The images to train on.
        test: Images to test on, by their centre crop, with the classes of `train`.
        workdir: The run's folder, as `fine_tune` leaves it.
        recipe: "BiT-S", "BiT-M", "BiT-L" (the paper's protocols), or a recipe.
        init: "random", or what `load` takes, to pre-train further from its body's weights.
        precision: As in `fine_tune`.
        strategy: As in `fine_tune`.
        seed: Of random weights, and of every batch.
        batch_split: As in `fine_tune`.
        evaluate_every: Steps between two tests during training; none by default.
        command: The command line to show in the report.

    Raises:
        ValueError: If an argument is wrong, or `workdir` holds another run; before any training,
            and with nothing written.
        TrainingError: If the loss is not finite.
    """
    start = time.perf_counter()
    protocol = recipe_named(recipe) if isinstance(recipe, str) else recipe
    steps = protocol.steps(len(train))
    if steps <= protocol.warmup_steps:
        raise ValueError(
            f"{len(train):,} images make {steps:,} steps of {protocol.batch}, fewer than the "
            f"{protocol.warmup_steps:,} of the warm-up; take a smaller batch or a shorter warm-up."
        )
    check_classes(train, test)
    distribution = checked_strategy(strategy, protocol.batch, batch_split, precision)
    replicas = distribution.num_replicas_in_sync

    def build():
        if init == "random":
            built = load(model, num_classes=train.num_classes, init="random")
        else:
            built = load(init, num_classes=train.num_classes)
        bias = built.get_layer("head").conv.bias
        bias.assign(tf.fill(bias.shape, protocol.head_bias))
        return built

    keras.utils.set_random_seed(seed)
    with distribution.scope(), dtype_policy(precision):
        built = build()
        optimizer = keras.optimizers.SGD(protocol.schedule(len(train)), momentum=0.9)
        if precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)

    def batches(step, part):
        return upstream_batches(
            train, batch=protocol.batch, crop=protocol.crop, seed=seed, start_step=step, part=part
        )

    def answers(trained):
        centre = centre_crop_batches(
            test, batch=TEST_BATCH, resize=protocol.test_resize, crop=protocol.crop
        )
        return predict(trained, centre)

    config = {
        "model": os.fspath(model),
        "init": os.fspath(init),
        "precision": precision,
        "train": description(train),
        "test": test and description(test),
        "recipe": dataclasses.asdict(protocol),
        "augmentations": sorted(train.augmentations),
        "batch_split": batch_split,
        "evaluate_every": evaluate_every,
        "seed": seed,
        "class_names": train.class_names,
    }
    with RunFolder(workdir, config, chief=is_chief(distribution)) as run:
        train_loop(
            built,
            batches,
            batch=protocol.batch,
            loss=LOSSES[protocol.loss],
            optimizer=optimizer,
            steps=steps,
            run=run,
            strategy=distribution,
            micro_batches=batch_split,
            weight_decay=protocol.weight_decay,
            log_every=max(1, min(50, steps // 50)),
            checkpoint_every=max(1, min(500, steps // 10)),
            evaluate=test and (lambda: prefixed(score(answers(built), test.labels))),
            evaluate_every=evaluate_every or steps,
        )
        if replicas > 1 or precision != "float32":
            final = build()
            final.set_weights(built.get_weights())
            built = final
        metrics = conclude(run, built, train, test, answers, steps, start, command, config)
        wait_for_all_workers(distribution)
    return FineTuning(built, metrics, run.path)
