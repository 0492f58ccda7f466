"""Opens a classifier in any format."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from ..data import LabeledImages, center_crop_batches, test_batches
from ..exporting import Artifact, open_classifier, reason
from ..models.imagenet_classes import class_names, synsets
from ..models.published import PUBLISHED
from ..training import collect
from ..training.reading_runs import class_names_around, model_of_run, settings_around

DEFAULT_SIZE = 224


@dataclasses.dataclass(frozen=True)
class OpenedModel:
    """A classifier, and how the files around it say that it is used.

    Attributes:
        title: What to call it in messages.
        classifier: From images to logits.
        class_names: Its class names, if known.
        size: Side of its images in pixels.
        prepare: Labeled images and a keyword `batch` to batches, as its training was tested on.
        sigmoid: Whether it was trained to give every class a probability of its own.
    """

    title: str
    classifier: Artifact
    class_names: tuple[str, ...] | None
    size: int
    prepare: Callable[..., tf.data.Dataset]
    sigmoid: bool


def open_model(
    model: keras.Model | str | os.PathLike,
    *,
    labels: Sequence[str] | None = None,
    size: int | None = None,
) -> OpenedModel:
    """Opens what `predict_images` takes as a model; arguments and errors as there."""
    run, around = {}, None
    if isinstance(model, keras.Model):
        title = model.name
    else:
        title, model = os.fspath(model), model_of_run(model)
        run, around = settings_around(model), class_names_around(model)
    classifier = open_classifier(model)
    if labels is None:
        labels = around or classifier.class_names
    if labels is not None and len(labels) != classifier.num_classes:
        file = "config.json around" if run.get("class_names") else "labels.txt beside"
        raise ValueError(
            f"labels must name the {classifier.num_classes} classes of {title}, got {len(labels)} "
            f"names{f' from {file} it' if labels is around else ''}; give one a class."
        )
    protocol = run.get("recipe") or run.get("rule") or _published_protocol(title, classifier)
    sigmoid = (run or protocol).get("loss") == "sigmoid"
    resize = protocol.get("test_resize") if size is None else None
    if size is None:
        size = classifier.size or protocol.get("crop") or DEFAULT_SIZE
    if size != (classifier.size or size):
        raise ValueError(f"size must be {classifier.size}, the only one of {title}, got {size}.")
    if resize and size == protocol["crop"]:  # as its own test images were prepared
        prepare = functools.partial(center_crop_batches, resize=resize, crop=size)
    else:
        prepare = functools.partial(test_batches, size=size)
    names = None if labels is None else tuple(map(str, labels))
    return OpenedModel(title, classifier, names, size, prepare, sigmoid)


def default_names(opened: OpenedModel) -> list[str]:
    """WordNet's for the published models of ImageNet, else numbers."""
    number = opened.classifier.num_classes
    found = synsets(number) if opened.title in PUBLISHED else None
    return class_names(found) if found else [str(label) for label in range(number)]


def _published_protocol(name, classifier):
    """Returns how a published model was trained and tested; nothing for other models."""
    published = PUBLISHED.get(name)
    if published is None or classifier.num_classes != published.num_classes:
        return {}
    sizes = {"crop": published.test_size, "test_resize": published.test_resize}
    return {"loss": published.loss, **sizes}


def all_logits(opened: OpenedModel, images: LabeledImages, *, batch: int) -> np.ndarray:
    """Returns logits, float32 `[N, K]`; ValueError if the runtime fails or one is not finite."""

    def forward(pixels):
        try:
            return opened.classifier.compute(pixels.numpy())
        except Exception as error:  # every runtime raises its own, out of memory for instance
            raise ValueError(
                f"{opened.title} fails on {len(pixels)} images of {opened.size} x {opened.size} "
                f"({reason(error)}); try a smaller batch, or another size."
            ) from error

    name = f"{opened.title} on {images.name}"
    return collect(forward, opened.prepare(images, batch=batch), len(images), of=name)
