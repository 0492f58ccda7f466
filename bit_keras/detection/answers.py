"""A detector's answers to images with boxes, and how right they are."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.detection import DetectionScores, score
from ..metrics.detection_errors import DetectionErrors, best_threshold, detection_errors, gains

if TYPE_CHECKING:
    from ..data import BoxedImages


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """A detector's answers to images with boxes, and how right they are.

    Attributes:
        images: The images.
        detections: For each image `boxes` float32 [D, 4] (left, top, right, bottom in pixels of
            the image), `scores` float32 [D] and `classes` int32 [D].
        threshold: The lowest score of the detections in `errors` and in pictures; by default the
            one with the highest F1 on these images.
    """

    images: "BoxedImages"
    detections: Sequence[dict[str, np.ndarray]]
    threshold: float | None = None

    @functools.cached_property
    def scores(self) -> DetectionScores:
        """What pycocotools says; ValueError as `metrics.detection.score` has it."""
        return score(self.images, self.detections)

    @functools.cached_property
    def metrics(self) -> dict[str, float | int]:
        """Those of `scores`, `num_test` (images) and `num_test_boxes` (without crowds)."""
        boxes = sum(row["boxes"] for row in self.scores.per_class)
        return {**self.scores.metrics, "num_test": len(self.images), "num_test_boxes": boxes}

    @functools.cached_property
    def per_class(self) -> list[dict]:
        """For each class its name (`class`), `boxes` (without crowds), `ap` and `ap50`."""
        names = self.images.class_names
        rows = zip(names, self.scores.per_class, strict=True)
        return [{"class": name, **row} for name, row in rows]

    @functools.cached_property
    def errors(self) -> DetectionErrors:
        """The errors at IoU 0.5 and the threshold."""
        given = self.images, self.detections, self.scores
        threshold = best_threshold(*given) if self.threshold is None else self.threshold
        return detection_errors(*given, threshold)

    @functools.cached_property
    def gains(self) -> dict[str, float]:
        """How much AP50 would rise, were the errors of a kind repaired."""
        return gains(self.images, self.detections, self.scores)


def sentence(metrics: dict[str, float | int]) -> str:
    """Returns metrics as text: "AP 41.23%, AP50 60.12%, AP75 43.00% on 1,697 test images"."""
    if "num_test" not in metrics:
        return "Not tested"
    shown = ", ".join(f"{name.upper()} {metrics[name]:.2%}" for name in ("ap", "ap50", "ap75"))
    return f"{shown} on {metrics['num_test']:,} test images"
