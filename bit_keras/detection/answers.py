"""A detector's answers to images with boxes or masks, and how right they are."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
            the image), `scores` float32 [D] and `classes` int32 [D]; of a detector that finds masks
            also `masks`, a list of D COCO RLEs of the image's size, {"size": [height, width],
            "counts": bytes}.
        threshold: The lowest score of the detections in `errors` and in pictures; by default the
            one with the highest F1 on these images.
    """

    images: "BoxedImages"
    detections: Sequence[dict[str, Any]]
    threshold: float | None = None

    @functools.cached_property
    def scores(self) -> DetectionScores:
        """What pycocotools says of the boxes; ValueError as `metrics.detection.score` has it."""
        return score(self.images, self.detections)

    @functools.cached_property
    def mask_scores(self) -> DetectionScores | None:
        """What it says of the masks; None unless both the images and the detections have masks."""
        there = self.images.has_masks and any("masks" in one for one in self.detections)
        return score(self.images, self.detections, "masks") if there else None

    @property
    def judged(self) -> DetectionScores:
        """Those of the masks if there are any, else of the boxes: errors and gains follow them."""
        return self.mask_scores or self.scores

    @functools.cached_property
    def metrics(self) -> dict[str, float | int]:
        """Those of `scores`, of `mask_scores` with `mask_` before their names, and two numbers.

        These are `num_test` (images) and `num_test_boxes` (without crowds).
        """
        boxes = sum(row["boxes"] for row in self.scores.per_class)
        of_masks = self.mask_scores.metrics if self.mask_scores else {}
        named = {f"mask_{name}": value for name, value in of_masks.items()}
        counts = {"num_test": len(self.images), "num_test_boxes": boxes}
        return {**self.scores.metrics, **named, **counts}

    @functools.cached_property
    def per_class(self) -> list[dict]:
        """For each class its name (`class`), `boxes` (without crowds), `ap` and `ap50`.

        If there are masks also `mask_ap` and `mask_ap50`.
        """
        names = self.images.class_names
        rows = zip(names, self.scores.per_class, strict=True)
        found = [{"class": name, **row} for name, row in rows]
        if self.mask_scores:
            for row, own in zip(found, self.mask_scores.per_class, strict=True):
                row.update({f"mask_{name}": own[name] for name in ("ap", "ap50")})
        return found

    @functools.cached_property
    def errors(self) -> DetectionErrors:
        """The errors at IoU 0.5 of what is judged, and the threshold."""
        given = self.images, self.detections, self.judged
        threshold = best_threshold(*given) if self.threshold is None else self.threshold
        return detection_errors(*given, threshold)

    @functools.cached_property
    def gains(self) -> dict[str, float]:
        """How much AP50 would rise, were the errors of a kind repaired."""
        return gains(self.images, self.detections, self.judged)


def sentence(metrics: dict[str, float | int]) -> str:
    """Returns metrics as text: "AP 41.23%, AP50 60.12%, AP75 43.00% on 1,697 test images".

    With masks it begins "boxes AP 41.23%, AP50 60.12%, AP75 43.00%; masks AP ...".
    """
    if "num_test" not in metrics:
        return "Not tested"
    shown = scores_text(metrics, ("ap", "ap50", "ap75"))
    return f"{shown} on {metrics['num_test']:,} test images"


def scores_text(metrics: dict[str, Any], names: Sequence[str]) -> str:
    """Returns the metrics of these names as text, and those of masks if there are any."""
    of_boxes, of_masks = (
        ", ".join(
            f"{name.upper()} {metrics[key + name]:.2%}" for name in names if key + name in metrics
        )
        for key in ("", "mask_")
    )
    return f"boxes {of_boxes}; masks {of_masks}" if of_masks else of_boxes
