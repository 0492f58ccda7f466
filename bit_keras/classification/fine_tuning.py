"""Fine-tuning by BiT-HyperRule, from a name and labeled images to a tested, exported model."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Collection

import keras
import tensorflow as tf

from ..data import LabeledImages, feature_batches, test_batches, training_batches
from ..models.resnet_v2 import copied, freeze_before, with_head
from ..models.zoo import load, weights_crc32
from ..recipes.hyperrule import HyperRule
from ..training.inference import predict
from .run import TEST_BATCH, Devices, TrainedModel, check_classes, check_every, conduct


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
    """Fine-tunes a model on labeled images: a new zero-initialized head, then all weights.

    SGD with momentum 0.9, no weight decay, everything else by the rule. The loss is the softmax
    cross-entropy; where images have several labels, the sum of the classes' sigmoid
    cross-entropies. With a teacher it is the divergence from that one's answers, and no label is
    learned (Beyer et al., 2022, https://arxiv.org/abs/2106.05237). A run that was interrupted goes
    on when it is called again with the same arguments.

    Args:
        model: What `bit_keras.load` takes, or a model, whose body is trained in place.
        train: The images to train on, as `bit_keras.data` returns them.
        test: Images to test on, with the classes of `train`.
        workdir: The run's folder: `config.json`, `metrics.jsonl`, TensorBoard events,
            `checkpoints/` (the last two, and `best.keras` of the tests during training),
            `labels.txt` (the classes), the exported `model/`, `report.html`, and last
            `metrics.json`.
        rule: The settings; by default `default_rule(model, train)`, and with a teacher its
            `distillation()`.
        examples_per_class: Train on this many images of every class only, chosen as the reference
            code does by `examples_per_class_seed`.
        augmentations: The random changes that leave the labels true, of "crop" and "flip"; by
            default `train.augmentations`.
        init: "pretrained", or "random" for a model of the same architecture from scratch.
        trainable: "all"; "from:block4" or "from:block3/unit05", which freezes what comes before; or
            "head", which computes the features of the unchanged training images once and then
            trains on them: no augmentation, no mixup, and very fast.
        teacher: A classifier to learn from, with the classes of `train`: what `bit_keras.load`
            takes, the folder of a finished run, or a model that returns logits. It sees every image
            as the student does, cropped and mixed, and is not trained.
        temperature: What the logits of teacher and student are divided by, for the loss alone;
            above 1 the teacher's small probabilities count for more.
        precision: "float32", "mixed_bfloat16" or "mixed_float16". Statistics, standardized kernels,
            logits and loss are float32 in all, and so is the model that comes out.
        strategy: A name that `bit_keras.make_strategy` knows, or what it returned. The batch is
            shared out; the result is the same as on one device but for rounding.
        seed: Of random weights, and of every batch; Keras's, NumPy's and Python's are set to it.
        batch_split: Pieces a replica's share of the batch is cut into, to save memory, with the
            gradient of the whole; "auto" finds and prints the fewest that fit.
        evaluate_every: Steps between two tests during training; none by default.
        export: Whether to write `model/`, which takes some seconds, and `labels.txt`.
        command: The command line to show in the report.

    Raises:
        ValueError: If an argument is wrong, or `workdir` holds another run; before any training,
            and with nothing written.
        TrainingError: If the loss is not finite.
    """
    if examples_per_class is not None:
        train = train.few_shot(examples_per_class, examples_per_class_seed)
    check_classes(train, test)
    check_every(evaluate_every)
    if trainable not in ("all", "head") and not trainable.startswith("from:"):
        raise ValueError(f'trainable must be "all", "head" or "from:LAYER", got {trainable!r}.')
    augmentations = set(train.augmentations if augmentations is None else augmentations)
    if unknown := augmentations - {"crop", "flip"}:
        raise ValueError(f'augmentations must be of "crop" and "flip", got {sorted(unknown)}.')
    if trainable == "head" and teacher is not None:
        raise ValueError(
            "a teacher must see the images, and a head alone is trained on their features; take "
            'trainable="all" or "from:LAYER".'
        )
    name = model.name if isinstance(model, keras.Model) else os.fspath(model)
    rule = rule or default_rule(name, train, distilled=teacher is not None)
    devices = Devices(strategy, precision, rule.batch, batch_split)
    if isinstance(model, keras.Model):
        if (init, precision) != ("pretrained", "float32"):
            raise ValueError("a model that is given has its own weights and its own precision.")
        given = with_head(model, train.num_classes)

        def build():
            return given if devices.replicas == 1 else copied(given)
    else:

        def build():
            return load(name, num_classes=train.num_classes, init=init)

    def trained_part(model):
        if trainable != "all":
            freeze_before(model, trainable.removeprefix("from:"))
        if trainable == "head":
            head = model.get_layer("head")
            inputs = keras.Input(head.input.shape[1:])
            return keras.Model(inputs, head(inputs)), feature_batches_of(model)
        augmented = functools.partial(
            training_batches,
            train,
            batch=rule.batch,
            resize=rule.resize,
            crop=rule.crop,
            seed=seed,
            mixup_alpha=rule.mixup_alpha,
            random_crop="crop" in augmentations,
            random_flip="flip" in augmentations,
        )
        return model, lambda step, part: augmented(start_step=step, part=part)

    def feature_batches_of(model):
        @functools.cache
        def features():  # computed once, of unchanged images, as the body never changes
            unchanged = functools.partial(test_batches, size=rule.crop)
            return predict(with_head(model, 0), train, unchanged, batch=TEST_BATCH)

        return lambda step, part: feature_batches(
            features(), train, batch=rule.batch, seed=seed, start_step=step, part=part
        )

    return conduct(
        devices,
        build=build,
        trained_part=trained_part,
        crop=rule.crop,
        loss="sigmoid" if train.multi_label else "softmax",
        teacher=teacher,
        temperature=temperature,
        schedule=rule.schedule(),
        steps=rule.steps,
        train_images=train,
        test_images=test,
        test_batches=functools.partial(test_batches, size=rule.crop),
        workdir=workdir,
        settings={
            "model": name,
            "weights": None if isinstance(model, keras.Model) else weights_crc32(model),
            "init": init,
            "trainable": trainable,
            "examples_per_class": examples_per_class,
            "examples_per_class_seed": examples_per_class_seed,
            "rule": dataclasses.asdict(rule),
            "augmentations": sorted(augmentations),
        },
        seed=seed,
        evaluate_every=evaluate_every,
        export=export,
        command=command,
    )


def default_rule(model: str, train: LabeledImages, distilled: bool = False) -> HyperRule:
    """Returns the release's HyperRule; for the embedded BiT-XS models at their own, smaller scale.

    Those were pre-trained on images of 32 pixels, a quarter of what the rule gives small images, so
    their sides are a quarter of the rule's, and their batch too. To be distilled, a model takes the
    rule's `distillation()`.
    """
    rule = HyperRule.release(len(train), train.image_size)
    if pathlib.Path(model).name.startswith("BiT-XS-"):
        rule = rule.replace(batch=128, resize=36, crop=32)
    return rule.distillation() if distilled else rule
