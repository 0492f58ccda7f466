"""Training a classifier as a task."""

import abc
import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data import LabeledImages
from ..exporting import export
from ..models.spec import spec_of
from ..models.standardizing import standardized_once
from ..training import LOSSES, Objective, RunFolder, Task, predict
from .answers import Evaluation, check_testable
from .distillation import Teacher, open_teacher
from .explanation import explanations
from .report import write_run_report

TEST_BATCH = 64
PICTURES = 16  # augmented training images to look at, at most


@dataclasses.dataclass(kw_only=True)
class ClassifierTask(Task):
    """What fine-tuning and pre-training share; they choose the model, the batches and the rates.

    Attributes:
        name: The model's, for the report.
        prepare: Labeled images and a keyword `batch` to batches, for tests.
        crop: Side of the training images in pixels.
        test_resize: As in `ModelSpec`.
        loss: A name in `LOSSES`.
        teacher, temperature: As in `fine_tune`.
    """

    name: str
    train: LabeledImages
    test_images: LabeledImages | None
    prepare: Callable[..., tf.data.Dataset]
    steps: int
    batch: int
    crop: int
    loss: str
    teacher: keras.Model | str | os.PathLike | None = None
    temperature: float = 1.0
    test_resize: int | None = None
    opened_teacher: Teacher | None = dataclasses.field(default=None, init=False)

    @property
    def best_by(self) -> str:
        return "mean_average_precision" if self.train.multi_label else "accuracy"

    @property
    def has_test(self) -> bool:
        return self.test_images is not None

    @property
    def has_validation(self) -> bool:
        return self.train.validation is not None

    @abc.abstractmethod
    def network(self) -> tuple[keras.Model, dict[str, Any]]:
        """Makes the model to train; returns it with facts of its own for its `spec`."""

    def build(self) -> keras.Model:
        model, facts = self.network()
        known = {
            "class_names": self.train.class_names,
            "loss": self.loss,
            "test_size": self.crop,
            "test_resize": self.test_resize,
        }
        model.spec = spec_of(model).replace(**known, **facts)
        return model

    def objective_of(
        self,
        model: keras.Model,
        batches: Callable[[int, tuple[int, int]], tf.data.Dataset],
        **settings: Any,
    ) -> Objective:
        """Returns an `Objective`: the loss, or with a teacher the divergence from its answers."""
        self.opened_teacher = teacher = open_teacher(
            self.teacher, self.temperature, images=self.train, crop=self.crop
        )
        return Objective(
            model=model,
            batches=batches,
            batch=self.batch,
            loss=teacher.loss(self.loss) if teacher else LOSSES[self.loss],
            targets=teacher.targets if teacher else None,
            once=standardized_once,
            **settings,
        )

    def settings(self) -> dict:
        return {
            "model": self.name,
            "loss": self.loss,
            **({"teacher": self.opened_teacher.settings()} if self.opened_teacher else {}),
            "train": self.train.description(),
            "test": self.test_images and self.test_images.description(),
            **({"validation": self.train.validation.description()} if self.has_validation else {}),
            "class_names": self.train.class_names,
        }

    def picture(self, objective: Objective) -> np.ndarray | None:
        number = max(n for n in range(1, PICTURES + 1) if self.batch % n == 0)
        images, _ = next(iter(objective.batches(0, (0, self.batch // number))))
        if images.shape.rank != 4:  # features
            return None
        side = math.isqrt(len(images))
        rows = images.numpy()[: side * side].reshape(side, side, *images.shape[1:])
        return np.concatenate(np.concatenate(rows, axis=1), axis=1)

    def test(self, model: keras.Model, strategy: tf.distribute.Strategy | None) -> Evaluation:
        return self._evaluation(self.test_images, model, strategy)

    def validate(self, model: keras.Model, strategy: tf.distribute.Strategy | None) -> Evaluation:
        return self._evaluation(self.train.validation, model, strategy)

    def _evaluation(self, images, model, strategy):
        logits = predict(model, images, self.prepare, batch=TEST_BATCH, strategy=strategy)
        return Evaluation(images, logits, sigmoid=self.loss == "sigmoid")

    def export(self, model: keras.Model, run: RunFolder) -> None:
        labels = "".join(f"{name}\n" for name in self.train.class_names)
        (run.path / "labels.txt").write_text(labels, encoding="utf-8", errors="replace")
        if not (run.path / "model").exists():
            export(model, run.path / "model")

    def report(
        self, model: keras.Model, run: RunFolder, tested: Evaluation | None, **page: Any
    ) -> None:
        if tested:
            explain = explanations(model, spec_of(model), self.test_images)
            tested = dataclasses.replace(tested, explain=explain)
        sets = (self.train, self.test_images, self.train.validation)
        skipped = {file for images in sets if images is not None for file in images.skipped}
        title = f"{self.name} on {self.train.name}"
        write_run_report(run, tested, title=title, skipped=skipped, **page)


def check_classes(train: LabeledImages, test: LabeledImages | None) -> None:
    """Raises ValueError unless there are classes to tell apart, the same in all sets."""
    if train.num_classes < 2:
        raise ValueError(
            f"{train.name} has one class only, and 2 or more are needed; add images of another."
        )
    for name, images in (("test", test), ("validation", train.validation)):
        if images is None:
            continue
        if images.class_names != train.class_names:
            raise ValueError(
                f"{name} must have the {train.num_classes} classes of train in the same order, "
                f"got {images.num_classes} classes that differ."
            )
        if images.multi_label != train.multi_label:
            raise ValueError(
                f"train and {name} must both have one label an image, or both several."
            )
        check_testable(images)
