"""Opens a classifier in any format."""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence

import keras
import numpy as np

from ..data import LabeledImages, naming_lost_images
from ..data.pipelines.batching import check_sizes
from ..exporting import Artifact, open_body, open_classifier, open_network, reason
from ..models.published import full_name
from ..models.spec import ModelSpec
from ..models.spec_files import read_spec
from ..recipes.settings import check_number
from ..training import collect
from ..training.reading_runs import model_of_run


@dataclasses.dataclass(frozen=True)
class OpenedModel:
    """A classifier, and how it is used.

    Attributes:
        title: What to call it in messages.
        classifier: From images to logits, or to features.
        spec: Its facts; it has a `test_size`.
    """

    title: str
    classifier: Artifact
    spec: ModelSpec


def open_model(
    model: keras.Model | str | os.PathLike,
    *,
    labels: Sequence[str] | None = None,
    size: int | None = None,
    multi_label: bool | None = None,
) -> OpenedModel:
    """Opens what `predict_images` takes as a model; arguments and errors as there."""
    return _announced(_opened(model, open_classifier, labels, size, multi_label))


def open_for_features(model: keras.Model | str | os.PathLike, *, size: int | None) -> OpenedModel:
    """Opens what `image_features` takes as a model, to give features; errors as there."""
    return _announced(_opened(model, open_body, None, size, None))


def open_with_network(
    model: keras.Model | str | os.PathLike,
    *,
    labels: Sequence[str] | None = None,
    size: int | None = None,
    multi_label: bool | None = None,
) -> OpenedModel:
    """Opens a model as `open_model`, but as a Keras network, which is its `classifier.network`.

    Raises ValueError also where a format holds no weights.
    """
    return _opened(model, open_network, labels, size, multi_label)


def _opened(model, opener: Callable[..., Artifact], labels, size, multi_label):
    if isinstance(model, keras.Model):
        title, around = model.name, ModelSpec()
    else:
        title, model = full_name(model), model_of_run(model)
        around = read_spec(model) or ModelSpec()  # of files without facts of their own
    classifier = opener(model)
    number = classifier.num_classes or 0
    spec = (classifier.spec or ModelSpec()).replace(num_classes=number).completed_by(around)
    if labels is not None:
        spec = spec.replace(class_names=[str(label) for label in labels])
    if number and spec.class_names is not None and len(spec.class_names) != number:
        where = "" if labels is not None else " from config.json or labels.txt beside it"
        raise ValueError(
            f"labels must name the {number} classes of {title}, got {len(spec.class_names)} "
            f"names{where}; give one a class."
        )
    if multi_label is not None:
        spec = spec.replace(loss="sigmoid" if multi_label else "softmax")
    if size is None:
        size = classifier.size or spec.test_size
    if size is None:
        raise ValueError(
            f"nothing tells the size of images that {title} was trained on; give it as size "
            "(--size), in pixels."
        )
    check_sizes(1, size=size)
    check_number("size", size, 1)
    if size != (classifier.size or size):
        raise ValueError(f"size must be {classifier.size}, the only one of {title}, got {size}.")
    if size != spec.test_size:
        spec = spec.replace(test_size=size, test_resize=None)
    return OpenedModel(title, classifier, spec)


def _announced(opened):
    """Says what the model is shown, and returns it."""
    size, resize = opened.spec.test_size, opened.spec.test_resize
    crop = f", the centers of images of {resize}" if resize else ""
    print(f"{opened.title} is shown {size} x {size} pixels{crop}.", file=sys.stderr, flush=True)
    return opened


def all_answers(opened: OpenedModel, images: LabeledImages, *, batch: int) -> np.ndarray:
    """Returns logits or features, float32 `[N, K]`.

    Raises ValueError if the runtime fails, or one is not finite.
    """

    def forward(pixels):
        try:
            return opened.classifier.compute(pixels.numpy())
        except Exception as error:  # every runtime raises its own, out of memory for instance
            side = opened.spec.test_size
            raise ValueError(
                f"{opened.title} fails on {len(pixels)} images of {side} x {side} "
                f"({reason(error)}); try a smaller batch, or another size."
            ) from error

    name = f"{opened.title} on {images.name}"
    with naming_lost_images(images):
        return collect(forward, opened.spec.batches(images, batch=batch), len(images), of=name)
