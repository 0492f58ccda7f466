"""A classifier's answers to labeled images, and how right they are."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

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
from ..reporting.texts import printable
from .class_matching import check_one_to_one, is_one_to_one


def check_testable(images: LabeledImages) -> None:
    """Raises ValueError if nothing can be measured on labeled images."""
    if images.multi_label and not images.labels.nnz:
        raise ValueError(
            f"no image of {images.name} has a class, and average precision needs some; add images "
            "that have one."
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's answers to labeled images, and how right they are.

    Attributes:
        images: The images.
        logits: float32 `[N, number of the model's classes]`.
        accepted: bool `[number of the images' classes, number of the model's classes]`: which
            answers are right for which class; None where the classes are the same.
        left_out: Classes whose images were not tested, as the model does not have them.
        sigmoid: Whether the model's classes are independent; changes `probabilities`, no metric.
        explain: From the numbers of some images, and for each the column of a class in `logits`, to
            pictures of where the model sees it, uint8 `[H, W, 3]`; None where it cannot tell.
    """

    images: LabeledImages
    logits: np.ndarray
    accepted: np.ndarray | None = None
    left_out: tuple[str, ...] = ()
    sigmoid: bool = False
    explain: Callable[[Sequence[int], Sequence[int]], list[np.ndarray]] | None = None

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
            return  # some outputs are not classes of the data, or several map to one
        order = accepted.argmax(axis=1)
        if not np.array_equal(order, np.arange(self.logits.shape[1])):
            object.__setattr__(self, "logits", self.logits[:, order])
            if explain := self.explain:
                object.__setattr__(self, "explain", lambda i, k: explain(i, order[k].tolist()))
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
        """float32, of the logits' shape: softmax, or sigmoids where classes are independent."""
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
        """int64 `[K, K + 1]`: true by predicted class; the last column is for all others."""
        return confusion_matrix(self.images.labels, self.predictions, self.images.num_classes)

    @functools.cached_property
    def per_class(self) -> list[dict]:
        """For each class its name (`class`), `images`, `correct` images, `recall` and `precision`.

        For several labels per image `average_precision` replaces `correct`, and the others are
        those at a probability of 0.5. None where there is nothing to divide by.
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
