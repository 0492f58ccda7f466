"""Tests a detector on images with boxes."""

import dataclasses
import itertools
import os

import keras
import numpy as np

from ..data import BoxedImages, DataError, naming_lost_images
from ..metrics.detection import require_pycocotools
from ..training import RunFolder
from ..training.reading_runs import settings_of
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
        images: Images of classes that the model knows by their names, in any order.
        batch: Images at once; does not change the answers.
        threshold: As in `Evaluation`.
        workdir: A new folder for `config.json`, `metrics.json`, `per_class.csv`, `detections.json`
            and `report.html`.
        command: The command line to show in the report.

    Raises:
        ValueError: If the model cannot be opened or does not know all classes, no image has a box,
            or `workdir` holds another run.
    """
    require_pycocotools()
    detector = open_detector(model)
    images = _with_classes(images, detector.spec.names())
    if images.crowd.all():
        raise ValueError(f"{images.name} has no boxes to find; add images that have some.")

    def evaluation():
        with naming_lost_images(images):
            return Evaluation(images, all_detections(detector, images, batch=batch), threshold)

    if workdir is None:
        return evaluation()
    title = model.name if isinstance(model, keras.Model) else os.fspath(model)
    config = {"model": title, "task": "detection", "test": images.description()}
    with RunFolder(workdir, config) as run:
        found = evaluation()
        page = {"title": f"{title} on {images.name}", "command": command}
        page["skipped"] = images.skipped
        write_run_report(run, found, settings=config, metrics=found.metrics, **page)
        run.finish(found.metrics)
    return found


def held_out(model: str | os.PathLike, images: BoxedImages) -> BoxedImages:
    """Returns those images of a set that the model's run held out to test on; else all."""
    tested = (settings_of(model).get("test") or {}).get("fingerprint")
    try:
        _, test = images.split()
    except DataError:  # of too few images, which no run can have been split
        return images
    return test if test.description()["fingerprint"] == tested else images


def _with_classes(images, names):
    """The images, numbered by the model's classes; those in files keep their numbers there."""
    if images.class_names == names:
        return images
    if unknown := [name for name in images.class_names if name not in names]:
        raise ValueError(
            f"the model does not know {len(unknown)} of the {images.num_classes} classes of "
            f"{images.name} ({', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}); it "
            f"knows {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}."
        )
    numbers = np.array([names.index(name) for name in images.class_names])
    unused = itertools.count(int(max(images.category_ids)) + 1)
    known = dict(zip(images.class_names, images.category_ids.tolist(), strict=True))
    return dataclasses.replace(
        images,
        class_names=names,
        classes=numbers[images.classes],
        category_ids=[known[name] if name in known else next(unused) for name in names],
    )
