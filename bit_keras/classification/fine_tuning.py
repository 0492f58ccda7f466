"""Fine-tuning by BiT-HyperRule, from a name and labeled images to a tested, exported model."""

import dataclasses
import functools
import logging
import os
from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..choices import AUGMENTATIONS
from ..data import (
    LabeledImages,
    feature_batches,
    from_name,
    labeled_images,
    naming_lost_images,
    test_batches,
    training_batches,
    with_validation,
)
from ..data.class_balance import check_sampling, class_weights, unevenness
from ..models.published import full_name
from ..models.resnet_v2 import copied, freeze_before, with_head
from ..models.spec import ModelSpec, spec_of
from ..models.spec_files import read_spec
from ..models.zoo import load, weights_crc32
from ..recipes.hyperrule import HyperRule
from ..training import (
    Objective,
    RunOptions,
    TrainedModel,
    how_to_go_on,
    predict,
    run_task,
    weighted_by_class,
)
from ..training.reading_runs import model_of_run
from .task import TEST_BATCH, ClassifierTask, check_classes


def fine_tune(
    model: keras.Model | str | os.PathLike,
    train: LabeledImages | str | os.PathLike,
    test: LabeledImages | str | os.PathLike | None = None,
    *,
    workdir: str | os.PathLike,
    validation: LabeledImages | str | float | None = None,
    rule: HyperRule | None = None,
    examples_per_class: int | None = None,
    examples_per_class_seed: int = 0,
    augmentations: Collection[str] | None = None,
    init: str = "pretrained",
    trainable: str = "all",
    class_weights: str | Mapping[str, float] | None = None,
    sampling: str | None = None,
    teacher: keras.Model | str | os.PathLike | None = None,
    temperature: float = 1.0,
    **options: Any,
) -> TrainedModel:
    """Fine-tunes a model on labeled images: a new zero-initialized head, then all weights.

    SGD with momentum 0.9, no weight decay, everything else by the rule. The loss is the softmax
    cross-entropy; where images have several labels, the sum of the classes' sigmoid
    cross-entropies; and with a teacher the divergence from its answers, which needs no label
    (`distillation`). An interrupted run goes on when it is called again with the same arguments.

    Args:
        model: What `bit_keras.load` takes, or a model, whose body is trained in place.
        train: The images to train on, as `bit_keras.data` returns them; or a folder or name, as
            `data.from_name` takes it, whose test images are then tested on as well.
        test: Images to test on, with the classes of `train`.
        workdir: The run's folder: `config.json`, `metrics.jsonl`, TensorBoard events,
            `checkpoints/` (the last two, and `best.keras` of the validation images), `labels.txt`,
            the exported `model/`, `report.html`, and last `metrics.json`.
        validation: Images to choose a model by (`keep`, `patience`), or a folder or name of some;
            or the part of `train` to set aside, 0.1 for instance, before `rule` is made. By default
            those in the folder `validation` beside `train` and `test`, if there is one.
        rule: By default `default_rule(model, train)`, and with a teacher its `distillation()`.
        examples_per_class: Train on this many images of every class only, chosen as the reference
            code does by `examples_per_class_seed`.
        augmentations: Of "crop" and "flip"; by default `train.augmentations`.
        init: "pretrained", or "random" for a model of the same architecture from scratch.
        trainable: "all"; "from:block4" or "from:block3/unit05", which freezes what comes before; or
            "head", which computes the features of the training images once and then trains on
            them: no augmentation, no mixup, and very fast.
        class_weights: What multiplies the loss of each class's training images: "balanced", so that
            all classes count equally, "none", or a weight for each class by name; scaled so that
            the mean over the images is 1. The loss of test images is as ever.
        sampling: "uniform", or "balanced", which draws all classes equally often. Where neither
            this nor `class_weights` is given, a warning is logged if the largest class has more
            than five times the images of the smallest.
        teacher: A classifier to learn from, with the classes of `train`: what `bit_keras.load`
            takes, the folder of a finished run, or a model that returns logits.
        temperature: Divides the logits of teacher and student in the loss; above 1 the teacher's
            small probabilities count for more.
        **options: Fields of `training.RunOptions`: `precision`, `strategy`, `seed`, `batch_split`,
            `evaluate_every`, `keep`, `patience`, `export`, `command`.

    Raises:
        ValueError: If an argument is wrong, or `workdir` holds another run; before any training,
            and with nothing written.
        TrainingError: If the loss is not finite.
    """
    options = RunOptions(workdir, **options)
    check_choices(trainable, augmentations, teacher, rule)
    if isinstance(train, str | os.PathLike):
        train, own_test = from_name(os.fspath(train))
        test = own_test if test is None else test
    train = labeled_images(train, "train")
    test = test if test is None else labeled_images(test, "test")
    if examples_per_class is not None:
        train = train.few_shot(examples_per_class, examples_per_class_seed)
    train = with_validation(train, validation)
    check_classes(train, test)
    weights = _class_weights(train, class_weights, sampling, teacher)
    if isinstance(model, keras.Model) and (init, options.precision) != ("pretrained", "float32"):
        raise ValueError(
            "a model that is given has its own weights and its own precision; leave out init and "
            "precision, or give the model's name."
        )
    name = model.name if isinstance(model, keras.Model) else full_name(model)
    rule = rule or default_rule(model, train, distilled=teacher is not None)
    task = _FineTuning(
        name=name,
        train=train,
        test_images=test,
        prepare=functools.partial(test_batches, size=rule.crop),
        steps=rule.steps,
        batch=rule.batch,
        crop=rule.crop,
        loss="sigmoid" if train.multi_label else "softmax",
        teacher=teacher,
        temperature=temperature,
        model=model,
        rule=rule,
        augmentations=set(train.augmentations if augmentations is None else augmentations),
        init=init,
        trainable=trainable,
        class_weights=weights,
        sampling=sampling or "uniform",
        examples_per_class=(examples_per_class, examples_per_class_seed),
    )
    then = functools.partial(how_to_go_on, workdir)
    with naming_lost_images(train, test, train.validation, then=then):
        return run_task(task, options)


def check_choices(
    trainable: str,
    augmentations: Collection[str] | None,
    teacher: object = None,
    rule: HyperRule | None = None,
) -> None:
    """Raises ValueError if one of these arguments of `fine_tune` is wrong, whatever the images."""
    if trainable not in ("all", "head") and not trainable.startswith("from:"):
        meant = f'; did you mean "from:{trainable}"?' if trainable.startswith("block") else "."
        raise ValueError(
            f'trainable must be "all", "head" or "from:LAYER", got {trainable!r}{meant}'
        )
    if trainable == "head" and teacher is not None:
        raise ValueError(
            "a teacher must see the images, and a head alone is trained on their features; take "
            'trainable="all" or "from:LAYER".'
        )
    if trainable == "head" and rule and rule.cutmix_alpha:
        raise ValueError(
            "CutMix cuts images, and a head alone is trained on their features; take "
            'trainable="all" or "from:LAYER", or a rule with cutmix_alpha=0.'
        )
    if unknown := set(augmentations or ()) - set(AUGMENTATIONS):
        raise ValueError(f'augmentations must be of "crop" and "flip", got {sorted(unknown)}.')


@dataclasses.dataclass(kw_only=True)
class _FineTuning(ClassifierTask):
    model: keras.Model | str | os.PathLike
    rule: HyperRule
    augmentations: set[str]
    init: str
    trainable: str
    class_weights: np.ndarray | None
    sampling: str
    examples_per_class: tuple[int | None, int]  # and their seed

    def network(self) -> tuple[keras.Model, dict[str, Any]]:
        if isinstance(self.model, keras.Model):
            model = with_head(self.model, self.train.num_classes)
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            model = model if replicas == 1 else copied(model)
        else:
            model = load(self.name, num_classes=self.train.num_classes, init=self.init)
        facts = {"source": f"{self.name} ({self.init}), fine-tuned on {self.train.name}"}
        return model, facts | ({"native_size": self.crop} if self.init == "random" else {})

    def schedule(self) -> keras.optimizers.schedules.LearningRateSchedule:
        return self.rule.schedule()

    def objective(self, model: keras.Model, seed: int) -> Objective:
        if self.trainable == "head":
            return self._objective_of_head(model, seed)
        if self.trainable != "all":
            freeze_before(model, self.trainable.removeprefix("from:"))

        def batches(step, part):
            return training_batches(
                self.train,
                batch=self.batch,
                resize=self.rule.resize,
                crop=self.crop,
                seed=seed,
                start_step=step,
                mixup_alpha=self.rule.mixup_alpha,
                cutmix_alpha=self.rule.cutmix_alpha,
                sampling=self.sampling,
                random_crop="crop" in self.augmentations,
                random_flip="flip" in self.augmentations,
                part=part,
            )

        return self.objective_of(model, batches)

    def _objective_of_head(self, model, seed):
        """Trains the head on features of unchanged images, computed once."""
        freeze_before(model, "head")
        head = model.get_layer("head")
        inputs = keras.Input(head.input.shape[1:])

        @functools.cache
        def features():
            return predict(with_head(model, 0), self.train, self.prepare, batch=TEST_BATCH)

        def batches(step, part):
            return feature_batches(
                features(),
                self.train,
                batch=self.batch,
                seed=seed,
                start_step=step,
                sampling=self.sampling,
                part=part,
            )

        spec = (tf.TensorSpec(inputs.shape), tf.TensorSpec((None, self.train.num_classes)))
        return self.objective_of(keras.Model(inputs, head(inputs)), batches, spec=spec)

    def objective_of(self, *arguments: Any, **settings: Any) -> Objective:
        objective = super().objective_of(*arguments, **settings)
        if self.class_weights is None:
            return objective
        loss = weighted_by_class(objective.loss, self.class_weights)
        return dataclasses.replace(objective, loss=loss)

    def settings(self) -> dict:
        number, number_seed = self.examples_per_class
        return {
            **super().settings(),
            "weights": None if isinstance(self.model, keras.Model) else weights_crc32(self.model),
            "init": self.init,
            "trainable": self.trainable,
            "examples_per_class": number,
            "examples_per_class_seed": number_seed,
            "rule": self.rule.settings(),
            "augmentations": sorted(self.augmentations),
            **self._balance(),
        }

    def _balance(self):
        """What was done about unequal classes; nothing if nothing was, as in older versions."""
        balance = {}
        if self.class_weights is not None:
            balance["class_weights"] = self.class_weights.tolist()
        if self.sampling != "uniform":
            balance["sampling"] = self.sampling
        return balance


def default_rule(
    model: keras.Model | str | os.PathLike, train: LabeledImages, distilled: bool = False
) -> HyperRule:
    """Returns HyperRule at a model's own scale, or with a teacher its `distillation()`."""
    known = isinstance(model, keras.Model)
    spec = spec_of(model) if known else read_spec(model_of_run(model)) or ModelSpec()
    rule = spec.rule_for(train)
    return rule.distillation() if distilled else rule


def _class_weights(train, given, sampling, teacher):
    """Checks what is to be done about unequal classes; returns their weights, None for none."""
    check_sampling(train, sampling or "uniform")
    if given is None and sampling is None and (uneven := unevenness(train)):
        words = ["sampling"] if teacher else ["class_weights", "sampling"]
        logging.getLogger(__name__).warning(
            "%s; to train all classes alike, take %s (in Python the argument of that name), or "
            "--sampling=uniform to leave it so",
            uneven,
            " or ".join(f"--{word}=balanced" for word in words),
        )
    if given is None or given == "none":
        return None
    if teacher is not None:
        raise ValueError(
            "class_weights weigh the loss by labels, and a teacher's answers take their place; "
            'leave them out, or take sampling="balanced".'
        )
    if sampling == "balanced":
        raise ValueError(
            'sampling="balanced" shows all classes equally often, so that class_weights would '
            "count them twice; leave one of the two out."
        )
    return class_weights(train, given)
