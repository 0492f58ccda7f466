"""Tests a detector on images with boxes."""

import os

import keras

from ..data import BoxedImages
from ..metrics.detection import require_pycocotools
from ..training import RunFolder
from .answers import Evaluation
from .detecting import all_detections
from .opening import open_detector
from .report import write_run_report


def evaluate_detector(
    model: keras.Model | str | os.PathLike,
    images: BoxedImages,
    *,
    batch: int = 8,
    threshold: float | None = None,
    workdir: str | os.PathLike | None = None,
    command: str | None = None,
) -> Evaluation:
    """Tests a detector by pycocotools.

    Args:
        model: The folder of a run of `fine_tune_detector`, its `model.keras`, or the model.
        images: Images whose classes are the model's, in the same order.
        batch: Images at once; does not change the answers.
        threshold: As in `Evaluation`.
        workdir: A new folder for `config.json`, `metrics.json`, `per_class.csv`, `detections.json`
            and `report.html`.
        command: The command line to show in the report.

    Raises:
        ValueError: If the model cannot be opened or has other classes, no image has a box, or
            `workdir` holds another run.
    """
    require_pycocotools()
    detector = open_detector(model)
    if images.class_names != detector.spec.names():
        raise ValueError(
            f"{images.name} must have the model's classes in the same order, "
            f"{', '.join(detector.spec.names())}, got {', '.join(images.class_names)}."
        )
    if images.crowd.all():
        raise ValueError(f"{images.name} has no boxes to find; add images that have some.")
    if workdir is None:
        return Evaluation(images, all_detections(detector, images, batch=batch), threshold)
    title = model.name if isinstance(model, keras.Model) else os.fspath(model)
    config = {"model": title, "task": "detection", "test": images.description()}
    with RunFolder(workdir, config) as run:
        found = Evaluation(images, all_detections(detector, images, batch=batch), threshold)
        page = {"title": f"{title} on {images.name}", "command": command}
        write_run_report(run, found, settings=config, metrics=found.metrics, **page)
        run.finish(found.metrics)
    return found
