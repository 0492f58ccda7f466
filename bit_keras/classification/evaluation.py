"""Tests a classifier on labeled images."""

import os
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from ..data import LabeledImages
from ..models.published import PUBLISHED
from ..models.resnet_v2 import copied
from ..recipes.hyperrule import HyperRule
from ..training import RunFolder, is_chief, make_strategy, predict, wait_for_all_workers
from ..training.reading_runs import model_of_run, settings_around
from .answers import Evaluation, check_testable
from .class_matching import check_one_to_one, matched_classes, without_classes
from .opened_model import all_logits, open_model
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
) -> Evaluation:
    """Tests a model on labeled images.

    Images of one label each are tested by accuracy, others by average precision, whichever way the
    model was trained. Where the images' classes are not the model's, in the same order, they are
    matched by name (`labels`), or for models of ILSVRC-2012 and ImageNet-21k by WordNet id.

    Args:
        model: A model with a head, or what `predict_images` takes as one.
        images: Read one batch at a time.
        size: Side of the square every image is resized to, in pixels. By default that of the run
            that the model comes from; for published models as they were tested by their authors:
            upstream models by a center crop, fine-tuned ones by HyperRule's size; else 224.
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
    check_testable(images)
    if size is None:
        size = published_size(model, images)
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
            page = {"title": f"{opened.title} on {images.name}", "command": command}
            write_run_report(run, found, settings=config, metrics=found.metrics, **page)
            run.finish(found.metrics)
        wait_for_all_workers(strategy)
    return found


def may_have_been_trained_on(model: str | os.PathLike, images: LabeledImages) -> bool:
    """Whether images are of the data set of the model's run, and not those it was tested on."""
    run = settings_around(model_of_run(model))
    if "train" not in run:
        return False
    same_set = run["train"]["name"].split("/")[0] == images.name.split("/")[0]
    tested = (run.get("test") or {}).get("fingerprint")
    return same_set and tested != images.description()["fingerprint"]


def published_size(model: object, images: LabeledImages) -> int | None:
    """Returns the side of images at which a published model was tested; None for others."""
    published = PUBLISHED.get(model) if isinstance(model, str) else None
    if published is None or published.test_resize:  # upstream models: `open_model` crops
        return None
    return published.test_size or HyperRule.release(len(images), images.image_size).crop
