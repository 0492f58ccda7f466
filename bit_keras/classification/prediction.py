"""What a model says of image files."""

import dataclasses
import functools
import glob
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ..data import LabeledImages, center_crop_batches, test_batches
from ..data.sources.image_files import READABLE, UNREADABLE, from_files
from ..exporting import Artifact, open_classifier, reason
from ..models.imagenet_classes import ILSVRC2012, IMAGENET21K, class_names, synsets
from ..models.zoo import PUBLISHED
from ..recipes import upstream as recipes
from ..training.reading_runs import class_names_around, model_of_run, settings_around

DEFAULT_SIZE = 224


def predict_images(
    model: keras.Model | str | os.PathLike,
    images: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    labels: Sequence[str] | None = None,
    size: int | None = None,
    top_k: int = 5,
    batch: int = 16,
    multi_label: bool | None = None,
) -> list[dict]:
    """Returns the likeliest classes of every image.

    Images are decoded, turned upright and resized as the test images of a fine-tuning are, or for
    the model of a pre-training run as those of that run.

    Args:
        model: A model with a head; or what `bit_keras.export` wrote, in any format; or the folder
            of a run, for the model in it; or what else `bit_keras.load` takes. The graph of a
            SavedModel, a LiteRT, ONNX or OpenVINO model is run, so know where it comes from.
        images: Image files; folders, for the images directly in them, sorted; and globs, "**" for
            folders of any depth. An image that is met twice is answered once.
        labels: The classes' names. By default those of the run that the model lies in, of a
            `labels.txt` beside it, or stored in a SavedModel; WordNet's for the published models of
            ImageNet; or else their numbers.
        size: Side in pixels of the squares that images are resized to. By default the only one that
            the model takes, that of the run it lies in, or 224.
        top_k: Classes an image, or all of them if there are fewer.
        batch: Images at once; does not change the answers.
        multi_label: Whether an image may have several classes, so that probabilities are sigmoids
            of the logits and not their softmax. By default only if the model lies in a run that was
            trained so, or is a published one of ImageNet-21k, as "BiT-M-R50x1".

    Returns:
        For every image `{"image": path, "predictions": [{"class": name, "probability": p}, ...]}`,
        the likeliest class first.

    Raises:
        ValueError: If an argument is wrong; there are no images, or one cannot be read; or the
            model cannot be opened, has no head, or has not as many classes as there are names.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be 1 or more, got {top_k}.")
    files = find_images([images] if isinstance(images, str | os.PathLike) else images)
    opened = open_model(model, labels=labels, size=size)
    names = opened.class_names or default_names(opened)
    logits = all_logits(opened, as_labeled_images(files), batch=batch)
    if multi_label is None:
        multi_label = opened.sigmoid
    probabilities = (tf.sigmoid if multi_label else tf.nn.softmax)(logits).numpy()
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return [
        {
            "image": file,
            "predictions": [
                {"class": names[k], "probability": float(row[k])} for k in best.tolist()
            ],
        }
        for file, row, best in zip(files, probabilities, order, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class OpenedModel:
    """A classifier, and what the files around it say of its use.

    Attributes:
        title: What to call it in messages.
        classifier: From images to logits.
        class_names: Its classes, if anything tells.
        size: Side of its images in pixels.
        prepare: From labeled images and a keyword `batch`, one pass over them, prepared as the
            test images of its training were.
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
    recipe = run.get("recipe") or upstream_recipe(title, classifier.num_classes)
    sigmoid = (run or recipe).get("loss") == "sigmoid"
    if size is None:
        protocol = recipe or run.get("rule", {})
        size = classifier.size or protocol.get("crop", DEFAULT_SIZE)
    else:
        recipe = {}
    if size != (classifier.size or size):
        raise ValueError(f"size must be {classifier.size}, the only one of {title}, got {size}.")
    if recipe and size == recipe["crop"]:  # as its own test images were prepared
        prepare = functools.partial(center_crop_batches, resize=recipe["test_resize"], crop=size)
    else:
        prepare = functools.partial(test_batches, size=size)
    names = None if labels is None else tuple(map(str, labels))
    return OpenedModel(title, classifier, names, size, prepare, sigmoid)


def default_names(opened):
    """WordNet's for the published models of ImageNet, else numbers."""
    number = opened.classifier.num_classes
    found = synsets(number) if opened.title in PUBLISHED else None
    return class_names(found) if found else [str(label) for label in range(number)]


def upstream_recipe(name, num_classes):
    """Of the published models that were not fine-tuned; with another head they were."""
    known = re.fullmatch(r"BiT-([SM])-R\d+x\d", name)
    if not known or num_classes != {"S": ILSVRC2012, "M": IMAGENET21K}[known[1]]:
        return {}
    return dataclasses.asdict(recipes.recipe(f"BiT-{known[1]}"))


def all_logits(opened: OpenedModel, images: LabeledImages, *, batch: int) -> np.ndarray:
    """Returns the logits of every image, float32 `[N, K]`, `batch` images at once.

    Raises:
        ValueError: If the runtime fails, or an answer is not finite.
    """
    logits, done = np.empty((len(images), opened.classifier.num_classes), np.float32), 0
    batches = opened.prepare(images, batch=batch)
    for pixels, _ in tqdm(batches, desc="predict", unit="batch", leave=False, delay=1):
        try:
            some = np.asarray(opened.classifier.compute(pixels.numpy()))
        except Exception as error:  # every runtime raises its own, where memory ends for instance
            raise ValueError(
                f"{opened.title} fails on {len(pixels)} images of {opened.size} x {opened.size} "
                f"({reason(error)}); try a smaller batch, or another size."
            ) from error
        finite = np.isfinite(some).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"{opened.title} answers with NaN or infinite logits, first image "
                f"{done + int(finite.argmin()):,}; give a sound model."
            )
        logits[done : done + len(some)] = some
        done += len(some)
    return logits


def find_images(images: Iterable[str | os.PathLike]) -> list[str]:
    """Returns the image files that files, folders and globs stand for, each once.

    Raises:
        ValueError: If one stands for none.
    """
    files = {}
    for given in map(os.fspath, images):
        if os.path.isfile(given):
            found = [given]
        elif os.path.isdir(given):
            found = images_among(os.path.join(given, name) for name in os.listdir(given))
        else:
            found = images_among(glob.glob(given, recursive=True))
        if not found:
            deeper = os.path.join(given, "**")
            raise ValueError(
                f"the folder {given} holds no images; for those in the folders below it give "
                f"'{deeper}'."
                if os.path.isdir(given)
                else f"there is no image {given}; give files, folders or globs ('photos/*.jpg')."
            )
        files.update(dict.fromkeys(found))
    if not files:
        raise ValueError("no images were given; give files, folders or globs ('photos/*.jpg').")
    return list(files)


def images_among(paths):
    return sorted(
        path
        for path in paths
        if pathlib.Path(path).suffix.lower() in READABLE | UNREADABLE  # the latter are refused
        and not os.path.basename(path).startswith(".")
        and os.path.isfile(path)
    )


def as_labeled_images(files: Sequence[str]) -> LabeledImages:
    """The images, checked and read as all others are, under a label that nobody looks at."""
    labels = np.zeros(len(files), int)
    return from_files(files, labels, ["any"], name="what was given", folder=pathlib.Path())


def as_table(predictions: Sequence[dict]) -> str:
    """Returns what `predict_images` returned as aligned text, a line for each class."""
    rows = [("image", "class", "probability")]
    for one in predictions:
        image = printable(one["image"])
        for prediction in one["predictions"]:
            rows.append((image, printable(prediction["class"]), f"{prediction['probability']:.2%}"))
            image = ""
    first, second, third = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "".join(f"{a:{first}}  {b:{second}}  {c:>{third}}\n" for a, b, c in rows)


def printable(text: str) -> str:
    """One line that any file can hold: names of files may be no text, and have line breaks."""
    return " ".join(text.encode("utf-8", "replace").decode().split())
