"""Fine-tuning by BiT-HyperRule, from a name and labelled images to a tested, exported model."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import time
import zlib
from collections.abc import Collection

import keras
import tensorflow as tf

from .data import LabeledImages, feature_batches, test_batches, training_batches
from .evaluation import predict, score
from .exporting import export
from .hyperrule import HyperRule
from .reporting import write_report
from .resnet_v2 import freeze_before, with_head
from .training import RunFolder, is_chief, make_strategy, wait_for_all_workers
from .training import train as train_loop
from .zoo import load

TEST_BATCH = 64
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """What `fine_tune` returns.

    Attributes:
        model: The trained classifier, `[0, 1]` images to logits.
        metrics: What `metrics.json` holds: `accuracy`, `top5_accuracy`, `loss` and `num_test` (if
            there were test images), `steps`, and `seconds` since the last start.
        workdir: The run's folder.
    """

    model: keras.Model
    metrics: dict[str, float | int]
    workdir: pathlib.Path


def fine_tune(
    model: keras.Model | str | os.PathLike,
    train: LabeledImages,
    test: LabeledImages | None = None,
    *,
    workdir: str | os.PathLike,
    rule: HyperRule | None = None,
    examples_per_class: int | None = None,
    examples_per_class_seed: int = 0,
    augmentations: Collection[str] | None = None,
    init: str = "pretrained",
    trainable: str = "all",
    precision: str = "float32",
    strategy: str | tf.distribute.Strategy = "auto",
    seed: int = 0,
    batch_split: int = 1,
    evaluate_every: int | None = None,
    command: str | None = None,
) -> FineTuning:
    """Fine-tunes a model on labelled images: a new zero-initialised head, then all weights.

    SGD with momentum 0.9, no weight decay, everything else by the rule. The loss is the softmax
    cross-entropy. A run that was interrupted goes on when it is called again with the same
    arguments.

    Args:
        model: What `bit_keras.load` takes, or a model, whose body is trained in place.
        train: The images to train on, as `bit_keras.data` returns them.
        test: Images to test on, with the classes of `train`.
        workdir: The run's folder: `config.json`, `metrics.jsonl`, TensorBoard events,
            `checkpoints/`, `labels.txt` (the classes), the exported `model/`, `report.html`, and
            last `metrics.json`.
        rule: The settings; by default `default_rule(model, train)`.
        examples_per_class: Train on this many images of every class only, chosen as the reference
            code does by `examples_per_class_seed`.
        augmentations: The random changes that leave the labels true, of "crop" and "flip"; by
            default `train.augmentations`.
        init: "pretrained", or "random" for a model of the same architecture from scratch.
        trainable: "all"; "from:block4" or "from:block3/unit05", which freezes what comes before; or
            "head", which computes the features of the unchanged training images once and then
            trains on them: no augmentation, no mixup, and very fast.
        precision: "float32", "mixed_bfloat16" or "mixed_float16". Statistics, standardised kernels,
            logits and loss are float32 in all, and so is the model that comes out.
        strategy: A name that `bit_keras.make_strategy` knows, or what it returned. The batch is
            shared out; the result is the same as on one device but for rounding.
        seed: Of random weights, and of every batch; Keras's, NumPy's and Python's are set to it.
        batch_split: Pieces a batch is cut into, to save memory, with the gradient of the whole;
            must divide the rule's batch.
        evaluate_every: Steps between two tests during training; none by default.
        command: The command line to show in the report.

    Raises:
        ValueError: If an argument is wrong, or `workdir` holds another run; before any training,
            and with nothing written.
        TrainingError: If the loss is not finite.
    """
    start = time.perf_counter()
    if examples_per_class is not None:
        train = train.few_shot(examples_per_class, examples_per_class_seed)
    check_classes(train, test)
    if trainable not in ("all", "head") and not trainable.startswith("from:"):
        raise ValueError(f'trainable must be "all", "head" or "from:LAYER", got {trainable!r}.')
    augmentations = set(train.augmentations if augmentations is None else augmentations)
    if unknown := augmentations - {"crop", "flip"}:
        raise ValueError(f'augmentations must be of "crop" and "flip", got {sorted(unknown)}.')
    if evaluate_every is not None and evaluate_every < 1:
        raise ValueError(f"evaluate_every must be 1 or more, got {evaluate_every!r}.")
    name = model.name if isinstance(model, keras.Model) else os.fspath(model)
    rule = rule or default_rule(name, train)
    distribution = checked_strategy(strategy, rule.batch, batch_split, precision)
    replicas = distribution.num_replicas_in_sync
    if isinstance(model, keras.Model):
        if (init, precision) != ("pretrained", "float32"):
            raise ValueError("a model that is given has its own weights and its own precision.")
        given = with_head(model, train.num_classes)

        def build():
            return given if replicas == 1 else copied(given)
    else:

        def build():
            return load(name, num_classes=train.num_classes, init=init)

    def answers(model):
        return predict(model, test_batches(test, batch=TEST_BATCH, size=rule.crop))

    keras.utils.set_random_seed(seed)
    with distribution.scope(), dtype_policy(precision):
        model = build()
        optimizer = keras.optimizers.SGD(rule.schedule(), momentum=0.9)
        if precision == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        if trainable != "all":
            freeze_before(model, trainable.removeprefix("from:"))

    config = {
        "model": name,
        "init": init,
        "trainable": trainable,
        "precision": precision,
        "examples_per_class": examples_per_class,
        "examples_per_class_seed": examples_per_class_seed,
        "train": description(train),
        "test": test and description(test),
        "rule": dataclasses.asdict(rule),
        "augmentations": sorted(augmentations),
        "batch_split": batch_split,
        "evaluate_every": evaluate_every,
        "seed": seed,
        "class_names": train.class_names,
    }
    with RunFolder(workdir, config, chief=is_chief(distribution)) as run:
        if trainable == "head":
            # The body never changes, so its features are computed once, of unchanged images.
            unchanged = test_batches(train, batch=TEST_BATCH, size=rule.crop)
            features = predict(with_head(model, 0), unchanged)
            with distribution.scope():
                inputs = keras.Input(features.shape[1:])
                trained = keras.Model(inputs, model.get_layer("head")(inputs))
            batches = functools.partial(
                feature_batches, features, train.labels, num_classes=train.num_classes
            )
        else:
            trained = model
            batches = functools.partial(
                training_batches,
                train,
                resize=rule.resize,
                crop=rule.crop,
                mixup_alpha=rule.mixup_alpha,
                random_crop="crop" in augmentations,
                random_flip="flip" in augmentations,
            )
        train_loop(
            trained,
            lambda step, part: batches(batch=rule.batch, seed=seed, start_step=step, part=part),
            batch=rule.batch,
            loss=lambda labels, logits: tf.nn.softmax_cross_entropy_with_logits(labels, logits),
            optimizer=optimizer,
            steps=rule.steps,
            run=run,
            strategy=distribution,
            micro_batches=batch_split,
            log_every=max(1, min(50, rule.steps // 50)),
            checkpoint_every=max(1, min(500, rule.steps // 10)),
            evaluate=test and (lambda: prefixed(score(answers(model), test.labels))),
            evaluate_every=evaluate_every or rule.steps,
        )
        if replicas > 1 or precision != "float32":
            # On one device and in float32, for whoever uses it next.
            final = build()
            final.set_weights(model.get_weights())
            model = final
        metrics = conclude(run, model, train, test, answers, rule.steps, start, command, config)
        wait_for_all_workers(distribution)
    return FineTuning(model, metrics, run.path)


def check_classes(train, test):
    if train.num_classes < 2:
        raise ValueError(
            f"{train.name} has one class only, and 2 or more are needed; add images of another."
        )
    if test is not None and test.class_names != train.class_names:
        raise ValueError(
            f"test must have the {train.num_classes} classes of train in the same order, "
            f"got {test.num_classes} classes that differ."
        )


def checked_strategy(strategy, batch, batch_split, precision):
    """Makes the strategy if only its name is given, and checks what depends on it."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    strategy = make_strategy(strategy) if isinstance(strategy, str) else strategy
    replicas = strategy.num_replicas_in_sync
    if batch_split < 1 or batch % (batch_split * replicas):
        raise ValueError(
            f"batch_split times {replicas} replicas must divide the batch of {batch} images, "
            f"got {batch_split!r}."
        )
    return strategy


def conclude(run, model, train, test, answers, steps, start, command, config):
    """Tests, exports and reports a trained model; what an earlier try did is not done again."""
    metrics, probabilities = {}, None
    if test is not None:
        logits = answers(model)
        metrics = score(logits, test.labels)
        probabilities = tf.nn.softmax(logits).numpy()
    metrics |= {"steps": steps, "seconds": round(time.perf_counter() - start, 1)}
    if not run.chief:
        return metrics
    if test is not None and "test_accuracy" not in run.history()[-1]:
        run.log(steps, **prefixed(metrics))
    (run.path / "labels.txt").write_text("".join(f"{name}\n" for name in train.class_names))
    if not (run.path / "model").exists():
        export(model, run.path / "model")
    metrics["seconds"] = round(time.perf_counter() - start, 1)
    write_report(
        run.path / "report.html",
        title=f"{config['model']} on {train.name}",
        settings={"command": command, **config} if command else config,
        history=run.history(),
        metrics=metrics,
        labels=None if test is None else test.labels,
        probabilities=probabilities,
        class_names=train.class_names,
        read_image=test and (lambda index: test.read(tf.constant(index, tf.int64)).numpy()),
    )
    run.finish(metrics)
    return metrics


def default_rule(model: str, train: LabeledImages) -> HyperRule:
    """Returns the release's HyperRule; for the embedded BiT-XS models at their own, smaller scale.

    Those were pre-trained on images of 32 pixels, a quarter of what the rule gives small images, so
    their sides are a quarter of the rule's, and their batch too.
    """
    rule = HyperRule.release(len(train), train.image_size)
    if pathlib.Path(model).name.startswith("BiT-XS-"):
        return rule.replace(batch=128, resize=36, crop=32)
    return rule


def copied(model):
    """A copy of a model, with weights of its own, under the strategy that is in scope."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


@contextlib.contextmanager
def dtype_policy(name):
    """What is built inside has this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def description(images):
    """What tells one set of images from another in a run's settings."""
    return {
        "name": images.name,
        "num_images": len(images),
        "image_size": images.image_size,
        "fingerprint": zlib.crc32(images.labels.tobytes(), images.fingerprint),
    }


def prefixed(metrics):
    return {f"test_{name}": metrics[name] for name in ("accuracy", "top5_accuracy", "loss")}
