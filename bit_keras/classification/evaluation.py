"""What a classifier gets right on labeled images."""

import dataclasses
import functools
import os
import re
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from ..data import LabeledImages
from ..metrics.classification import (
    average_precisions,
    confusion_matrix,
    per_class,
    score,
    several_label_per_class,
    several_label_score,
)
from ..models.resnet_v2 import copied
from ..models.zoo import PUBLISHED
from ..recipes.hyperrule import HyperRule
from ..training import RunFolder, is_chief, make_strategy, predict, wait_for_all_workers
from ..training.reading_runs import model_of_run, settings_around
from .class_matching import check_one_to_one, is_one_to_one, matched_classes, without_classes
from .opened_model import all_logits, open_model
from .prediction import printable
from .report import write_run_report


def evaluate(
    model: keras.Model | str | os.PathLike,
    images: LabeledImages,
    *,
    size: int | None = None,
    batch: int = 64,
    strategy: str | tf.distribute.Strategy = "auto",
    labels: Sequence[str] | None = None,
    class_map: Mapping[str, Sequence[str]] | None = None,
    workdir: str | os.PathLike | None = None,
    command: str | None = None,
) -> "Evaluation":
    """Tests a model on labeled images.

    Images of one label each are tested by accuracy, others by average precision, whichever way the
    model was trained (`score`).

    Where the images' classes are not the model's, in the same order, they are matched by name: of
    the model's names (`labels`), or for models of ILSVRC-2012 and ImageNet-21k by WordNet id.

    Args:
        model: A model with a head, or what `predict_images` takes as one.
        images: Read one batch at a time.
        size: Side of the square every image is resized to, in pixels. By default that of the run
            that the model comes from; for published models as they were tested by their authors:
            upstream models by a center crop, fine-tuned ones by HyperRule's size; else 224.
        batch: Images at once, over all replicas; does not change the answers.
        strategy: A name that `make_strategy` knows, or what it returned. Formats other than Keras's
            own compute on one device.
        labels: The names of the model's classes, as in `predict_images`.
        class_map: From a class of the images to the classes of the model that are right for it, as
            `data.read_class_map` reads it. Images of other classes are left out.
        workdir: A new folder for `config.json`, `metrics.json`, `per_class.csv` and `report.html`,
            if they are wanted.
        command: The command line to show in the report.

    Raises:
        ValueError: If the model cannot be opened, its classes cannot be matched with the images',
            an answer is not finite, or `workdir` holds another run.
        DownloadError: If the names of ImageNet-21k's classes are needed, and cannot be fetched.
    """
    check_testable(images)
    if size is None:
        size = published_size(model, images)
    opened = open_model(model, labels=labels, size=size)
    accepted = matched_classes(images, opened, class_map)
    known = accepted.any(axis=1)
    left_out = tuple(np.array(images.class_names, object)[~known])
    if left_out:
        images, accepted = without_classes(images, ~known), accepted[known]
    if isinstance(strategy, str):
        strategy = make_strategy(strategy)

    if images.multi_label:
        check_one_to_one(images, accepted)

    def evaluation():
        network = opened.classifier.network
        if strategy.num_replicas_in_sync == 1 or network is None:
            logits = all_logits(opened, images, batch=batch)
        else:
            with strategy.scope():
                network = copied(network)
            logits = predict(network, images, opened.prepare, batch=batch, strategy=strategy)
        wait_for_all_workers(strategy)
        return Evaluation(images, logits, accepted, left_out, sigmoid=opened.sigmoid)

    if workdir is None:
        return evaluation()
    config = {
        "model": opened.title,
        "test": images.description(),
        "size": opened.size,
        "class_map": class_map and {name: list(right) for name, right in class_map.items()},
        "left_out": left_out,
    }
    with RunFolder(workdir, config, chief=is_chief(strategy)) as run:
        found = evaluation()
        if run.chief:
            title, metrics = f"{opened.title} on {images.name}", found.metrics
            write_run_report(
                run, found, title=title, settings=config, metrics=metrics, command=command
            )
            run.finish(found.metrics)
        wait_for_all_workers(strategy)
    return found


def check_testable(images: LabeledImages) -> None:
    """Raises ValueError if nothing can be measured on labeled images."""
    if images.multi_label and not images.labels.nnz:
        raise ValueError(
            f"no image of {images.name} has a class, and average precision needs some; add images "
            "that have one."
        )


def may_have_been_trained_on(model: str | os.PathLike, images: LabeledImages) -> bool:
    """Whether some of the images may be among those of the run that a model comes from.

    That is so if they are of the data set of that run, and not the images that it was tested on.
    """
    run = settings_around(model_of_run(model))
    if "train" not in run:
        return False
    same_set = run["train"]["name"].split("/")[0] == images.name.split("/")[0]
    return (
        same_set
        and (run.get("test") or {}).get("fingerprint") != images.description()["fingerprint"]
    )


def published_size(model, images):
    """Side of the images that a published model was tested on; None where other things tell it."""
    name = model if isinstance(model, str) and model in PUBLISHED else ""
    if distilled := re.fullmatch(r"distill/.*_(\d+)", name):
        return int(distilled[1])
    if re.fullmatch(r"vtab/.*|.*-ILSVRC2012", name):
        return HyperRule.release(len(images), images.image_size).crop
    return None


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's answers to labeled images, and how right they are.

    Attributes:
        images: The images.
        logits: float32 `[N, number of the model's classes]`.
        accepted: bool `[number of the images' classes, number of the model's classes]`: which
            answers are right for which class; None where the classes are the same.
        left_out: Classes whose images were not tested, as the model does not have them.
        sigmoid: Whether the model gives every class a probability of its own. It changes the
            probabilities that are shown, and no metric.
    """

    images: LabeledImages
    logits: np.ndarray
    accepted: np.ndarray | None = None
    left_out: tuple[str, ...] = ()
    sigmoid: bool = False

    def __post_init__(self):
        """Reorders the logits of a one-to-one `accepted`, which is then None."""
        number, accepted = self.images.num_classes, self.accepted
        expected = (len(self.images), number if accepted is None else np.shape(accepted)[-1])
        if self.logits.shape != expected:
            raise ValueError(
                f"logits must be {list(expected)}, one row per image and one column per class, "
                f"got {list(self.logits.shape)}."
            )
        if accepted is None:
            return
        if self.images.multi_label:
            check_one_to_one(self.images, accepted)
        elif number < accepted.shape[1] or not is_one_to_one(accepted):
            return  # some answers are none of the images' classes, or several are one
        order = accepted.argmax(axis=1)
        if not np.array_equal(order, np.arange(self.logits.shape[1])):
            object.__setattr__(self, "logits", self.logits[:, order])
        object.__setattr__(self, "accepted", None)

    @functools.cached_property
    def metrics(self) -> dict[str, float | int]:
        """What `score` returns."""
        labels = self.images.labels
        if self.images.multi_label:
            return several_label_score(self.logits, labels, self.average_precisions)
        return score(self.logits, labels, self.accepted)

    @functools.cached_property
    def average_precisions(self) -> list[float | None]:
        """One per class, None for a class without images; for several labels per image only."""
        return average_precisions(self.logits, self.images.labels)

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """float32, of the logits' shape: their softmax.

        For several labels per image, or a model of sigmoids, the sigmoids.
        """
        sigmoids = self.sigmoid or self.images.multi_label
        return (tf.sigmoid if sigmoids else tf.nn.softmax)(self.logits).numpy()

    @functools.cached_property
    def predictions(self) -> np.ndarray:
        """int64 `[N]`: the predicted class, or -1 for one that the images do not have."""
        best = self.logits.argmax(axis=1)
        if self.accepted is None:
            return best
        labels = self.images.labels
        first = np.where(self.accepted.any(axis=0), self.accepted.argmax(axis=0), -1)
        return np.where(self.accepted[labels, best], labels, first[best])

    @functools.cached_property
    def confusion_matrix(self) -> np.ndarray:
        """int64 `[K, K + 1]`: images by true class (row) and predicted class (column).

        The last column is for classes that the images do not have.
        """
        return confusion_matrix(self.images.labels, self.predictions, self.images.num_classes)

    @functools.cached_property
    def per_class(self) -> list[dict]:
        """For each class its name (`class`), `images`, and how well it is told from the others.

        That is `correct` images, `recall` and `precision` (None where there is nothing to divide
        by); for several labels per image `average_precision`, and recall and precision of the
        classes with a probability above a half.
        """
        labels, names = self.images.labels, self.images.class_names
        if self.images.multi_label:
            rows = several_label_per_class(self.logits, labels, self.average_precisions)
        else:
            rows = per_class(labels, self.predictions, len(names))
        return [{"class": name, **row} for name, row in zip(names, rows, strict=True)]


def worst_classes(evaluation: Evaluation, number: int = 5) -> str:
    """Returns the classes of the lowest recall as text: "8 (91.4% of 35), ..."."""
    rows = [row for row in evaluation.per_class if row["images"]]
    rows = sorted(rows, key=lambda row: row["recall"])[:number]
    return ", ".join(
        f"{printable(row['class'])} ({row['recall']:.1%} of {row['images']:,})" for row in rows
    )
