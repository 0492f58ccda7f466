"""What a classifier gets right on labeled images."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from ..data import LabeledImages
from ..metrics.classification import average_precisions, score, several_label_score
from ..models.published import PUBLISHED
from ..models.resnet_v2 import copied
from ..recipes.hyperrule import HyperRule
from ..training import RunFolder, is_chief, make_strategy, predict, wait_for_all_workers
from ..training.reading_runs import model_of_run, settings_around
from .class_matching import check_one_to_one, matched_classes, one_to_one, without_classes
from .prediction import all_logits, open_model, printable
from .report import document


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
            document(run, found, title=title, settings=config, metrics=metrics, command=command)
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
    published = PUBLISHED.get(model) if isinstance(model, str) else None
    if published is None or published.test_resize:  # upstream models: `open_model` crops
        return None
    return published.test_size or HyperRule.release(len(images), images.image_size).crop


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model said of labeled images, and how right it was.

    Attributes:
        images: Those it was asked about.
        logits: float32 `[N, number of the model's classes]`.
        accepted: bool `[number of the images' classes, number of the model's classes]`: which
            answers are right for which class; None where the classes are the same.
        left_out: Classes whose images were not asked about, as the model does not know them.
        sigmoid: Whether the model gives every class a probability of its own. It changes the
            probabilities that are shown, and no metric.
    """

    images: LabeledImages
    logits: np.ndarray
    accepted: np.ndarray | None = None
    left_out: tuple[str, ...] = ()
    sigmoid: bool = False

    def __post_init__(self):
        """Makes one-to-one maps identities, so that probabilities are over the images' classes."""
        expected, accepted = self.images.num_classes, self.accepted
        if accepted is None:
            if self.logits.shape != (len(self.images), expected):
                raise ValueError(
                    f"logits must be [{len(self.images)}, {expected}], one row an image and one "
                    f"column a class, got {list(self.logits.shape)}."
                )
            return
        if self.images.multi_label:
            check_one_to_one(self.images, accepted)
        elif expected < accepted.shape[1] or not one_to_one(accepted):
            return  # some answers are none of the images' classes, or several are one
        order = accepted.argmax(axis=1)
        if not np.array_equal(order, np.arange(self.logits.shape[1])):
            object.__setattr__(self, "logits", self.logits[:, order])
        object.__setattr__(self, "accepted", None)

    @functools.cached_property
    def metrics(self) -> dict[str, float | int]:
        """Returns `score`'s."""
        labels = self.images.labels
        if self.images.multi_label:
            return several_label_score(self.logits, labels, self.average_precisions)
        return score(self.logits, labels, self.accepted)

    @functools.cached_property
    def average_precisions(self) -> list[float | None]:
        """Returns one a class, None for one that no image has; of several labels an image only."""
        return average_precisions(self.logits, self.images.labels)

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Returns float32, shaped as the logits: sigmoids of several labels, else their softmax.

        They are sigmoids too if the model is one of sigmoids.
        """
        sigmoids = self.sigmoid or self.images.multi_label
        return (tf.sigmoid if sigmoids else tf.nn.softmax)(self.logits).numpy()

    @functools.cached_property
    def predictions(self) -> np.ndarray:
        """Returns int64 `[N]`: the class said, or -1 for one that the images do not have."""
        best = self.logits.argmax(axis=1)
        if self.accepted is None:
            return best
        labels = self.images.labels
        first = np.where(self.accepted.any(axis=0), self.accepted.argmax(axis=0), -1)
        return np.where(self.accepted[labels, best], labels, first[best])

    @functools.cached_property
    def confusion_matrix(self) -> np.ndarray:
        """Returns int64 `[K, K + 1]`: images of a class (row) that were said to be of a class.

        The last column is for classes that the images do not have.
        """
        number = self.images.num_classes
        counts = np.zeros((number, number + 1), np.int64)
        np.add.at(counts, (self.images.labels, self.predictions), 1)  # -1 is the last
        return counts

    @functools.cached_property
    def per_class(self) -> list[dict]:
        """Returns for every class its name, `images`, and how well it is told from the others.

        That is `correct` images, `recall` and `precision` (None where there is nothing to divide
        by); for several labels an image `average_precision`, and recall and precision of what has a
        probability above a half.
        """
        names = self.images.class_names
        if self.images.multi_label:
            truth, said = self.images.labels.toarray(), self.logits > 0
            right, total, found = (truth & said).sum(0), truth.sum(0), said.sum(0)
            middle = {"average_precision": self.average_precisions}
        else:
            labels, answers = self.images.labels, self.predictions
            right, total, found = (  # the matrix itself may be as large as classes squared
                np.bincount(classes, minlength=len(names))
                for classes in (labels[labels == answers], labels, answers[answers >= 0])
            )
            middle = {"correct": right.tolist()}
        (kind, values), *_ = middle.items()
        rows = zip(names, total.tolist(), values, right.tolist(), found.tolist(), strict=True)
        return [
            {
                "class": name,
                "images": images,
                kind: value,
                "recall": correct / images if images else None,
                "precision": correct / answers if answers else None,
            }
            for name, images, value, correct, answers in rows
        ]


def worst_classes(evaluation: Evaluation, number: int = 5) -> str:
    """Returns the classes that are found least as one reads them: "8 (91.4% of 35), ..."."""
    rows = [row for row in evaluation.per_class if row["images"]]
    rows = sorted(rows, key=lambda row: row["recall"])[:number]
    return ", ".join(
        f"{printable(row['class'])} ({row['recall']:.1%} of {row['images']:,})" for row in rows
    )
