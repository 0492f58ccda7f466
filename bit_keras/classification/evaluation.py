"""Tests a classifier on labeled images."""

import os
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from ..data import LabeledImages, labeled_images
from ..exporting import open_network
from ..models.resnet_v2 import copied
from ..training import RunFolder, is_chief, make_strategy, predict, wait_for_all_workers
from .answers import Evaluation, check_testable
from .class_matching import check_one_to_one, matched_classes, without_classes
from .explanation import explanations
from .opened_model import all_answers, open_model
from .report import write_run_report


def evaluate(
    model: keras.Model | str | os.PathLike,
    images: LabeledImages | str | os.PathLike,
    *,
    size: int | None = None,
    batch: int = 64,
    strategy: str | tf.distribute.Strategy = "auto",
    labels: Sequence[str] | None = None,
    class_map: Mapping[str, Sequence[str]] | None = None,
    workdir: str | os.PathLike | None = None,
    command: str | None = None,
) -> Evaluation:
    """Tests a model on labeled images.

    Images of one label each are tested by accuracy, others by average precision, whichever way the
    model was trained. Where the images' classes are not the model's, in the same order, they are
    matched by name (`labels`), or for models of ILSVRC-2012 and ImageNet-21k by WordNet id.

    Args:
        model: A model with a head, or what `predict_images` takes as one.
        images: Read one batch at a time; or a folder or name, as `data.evaluation_images` takes it.
        size: Side of the square every image is resized to, in pixels. By default images are
            prepared as the model was tested: upstream models of the authors by a center crop, for
            instance. It must be given where nothing tells it.
        batch: Images at once, over all replicas; does not change the answers.
        strategy: As in `fine_tune`. Formats other than Keras's own compute on one device.
        labels: The names of the model's classes, as in `predict_images`.
        class_map: From a class of the images to the classes of the model that are right for it, as
            `data.read_class_map` reads it. Images of other classes are left out.
        workdir: A new folder for `config.json`, `metrics.json`, `per_class.csv` and `report.html`.
        command: The command line to show in the report.

    Raises:
        ValueError: If the model cannot be opened, its classes cannot be matched with the images',
            an answer is not finite, or `workdir` holds another run.
        DownloadError: If the names of ImageNet-21k's classes are needed, and cannot be fetched.
    """
    images = labeled_images(images, "images")
    check_testable(images)
    opened = open_model(model, labels=labels, size=size)
    accepted = matched_classes(images, opened, class_map)
    known = accepted.any(axis=1)
    left_out = tuple(np.array(images.class_names, object)[~known])
    if left_out:
        images, accepted = without_classes(images, ~known), accepted[known]
    if images.multi_label:
        check_one_to_one(images, accepted)
    if isinstance(strategy, str):
        strategy = make_strategy(strategy)

    def evaluation():
        network = opened.classifier.network
        if strategy.num_replicas_in_sync == 1 or network is None:
            logits = all_answers(opened, images, batch=batch)
        else:
            with strategy.scope():
                network = copied(network)
            prepare = opened.spec.batches
            logits = predict(network, images, prepare, batch=batch, strategy=strategy)
        wait_for_all_workers(strategy)
        explain = _explanations(model, opened, images) if workdir and is_chief(strategy) else None
        sigmoid = opened.spec.loss == "sigmoid"
        return Evaluation(images, logits, accepted, left_out, sigmoid, explain)

    if workdir is None:
        return evaluation()
    config = {
        "model": opened.title,
        "test": images.description(),
        "size": opened.spec.test_size,
        "class_map": class_map and {name: list(right) for name, right in class_map.items()},
        "left_out": left_out,
    }
    with RunFolder(workdir, config, chief=is_chief(strategy)) as run:
        found = evaluation()
        if run.chief:
            page = {"title": f"{opened.title} on {images.name}", "command": command}
            page["skipped"] = images.skipped
            write_run_report(run, found, settings=config, metrics=found.metrics, **page)
            run.finish(found.metrics)
        wait_for_all_workers(strategy)
    return found


def _explanations(model, opened, images):
    """The field `explain` of an `Evaluation`; None for models that hold no weights."""
    try:
        # The graph of a SavedModel may have its weights beside it.
        network = opened.classifier.network or open_network(model).network
        return explanations(network, opened.spec, images)
    except ValueError:
        return None
