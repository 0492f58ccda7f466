"""Distillation: a student learns the answers of a frozen teacher, without any label.

Beyer et al., 2022, "Knowledge distillation: A good teacher is patient and consistent"
(https://arxiv.org/abs/2106.05237). Consistent: teacher and student are shown the very same crops in
the very same mixture, so the teacher answers inside every training step and never ahead. Patient:
the schedule is long (`HyperRule.distillation`, `UpstreamRecipe.distillation`).
"""

import dataclasses
import os
import zlib
from collections.abc import Callable

import keras
import tensorflow as tf

from ..data import LabeledImages
from ..models.imagenet_classes import synsets
from ..models.published import full_name
from ..models.resnet_v2 import copied
from ..models.spec import spec_of
from ..models.zoo import load

_COLDEST, _HOTTEST = 1e-3, 1_000  # temperatures, whose squares multiply the loss


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A classifier that is not trained, and how a student learns from it.

    Attributes:
        name: Its name, path or URL as given.
        model: Images to logits.
        temperature: What the logits of both are divided by.
    """

    name: str
    model: keras.Model
    temperature: float

    def targets(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the teacher's logits, float32 `[batch, num_classes]`, in place of labels."""
        return self.model(images, training=False)

    def loss(self, kind: str) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Returns KL(teacher || student), from the logits of both to float32 `[batch]`.

        For "softmax" it is that of softmax(logits / T), for "sigmoid" the sum of the classes'
        Bernoulli distributions sigmoid(logits / T). It is multiplied by T^2, as gradients shrink by
        1 / T^2 (Hinton et al., 2015, https://arxiv.org/abs/1503.02531, section 2).
        """
        divergence = {"softmax": _softmax_divergence, "sigmoid": _sigmoid_divergence}[kind]
        t = self.temperature
        return lambda teacher, student: t**2 * divergence(teacher / t, student / t)

    def settings(self) -> dict:
        """Returns what identifies the teacher in a run's settings."""
        fingerprint = 0
        for variable in self.model.variables:
            fingerprint = zlib.crc32(variable.numpy().tobytes(), fingerprint)
        return {"model": self.name, "temperature": self.temperature, "fingerprint": fingerprint}


def open_teacher(
    teacher: keras.Model | str | os.PathLike | None,
    temperature: float,
    *,
    images: LabeledImages,
    crop: int,
) -> Teacher | None:
    """Opens a teacher under the current strategy and precision; returns None for None.

    Args:
        teacher: What `bit_keras.load` takes, or the folder of a finished run; or a model, which
            returns logits, keeps its precision and is copied, for the student may be built on it.
        images: What the student is to learn.
        crop: Side of the student's images in pixels.

    Raises:
        ValueError: If the teacher cannot be opened or has no head; its classes, as far as they are
            known, are not those of `images` (of ImageNet by WordNet id or lemma); or the
            temperature is not from 0.001 to 1,000.
        DownloadError: If the names of a published teacher's classes cannot be fetched.
    """
    if not _COLDEST <= temperature <= _HOTTEST:
        raise ValueError(
            f"temperature must be from {_COLDEST} to {_HOTTEST:,}, got {temperature!r}."
        )
    if teacher is None:
        if temperature != 1:
            raise ValueError("a temperature is for the answers of a teacher; name a teacher too.")
        return None
    if isinstance(teacher, keras.Model):
        name, model = teacher.name, copied(teacher)
    else:
        name, model = full_name(teacher), load(teacher)
    spec = spec_of(model)
    if model.layers[-1].name == "pooled":
        raise ValueError(
            f"the teacher {name} has no head, so it gives features and no classes; fine-tune it on "
            f"{images.name} first."
        )
    classes = model.output_shape[-1]
    differ = spec.class_names is not None and spec.class_names != images.class_names
    if classes != images.num_classes or differ:
        raise ValueError(
            f"the teacher must have the {images.num_classes} classes of {images.name} in the same "
            f"order, got {classes} classes{' that differ' * differ} of {name}; fine-tune it on "
            "those first."
        )
    if spec.published:
        _check_synsets(name, images)
    if not {*model.input_shape[1:3]} <= {None, crop}:
        raise ValueError(
            f"the teacher must take the student's images of {crop} x {crop} pixels, and {name} "
            f"takes only {' x '.join(map(str, model.input_shape[1:3]))}; choose that crop."
        )
    return Teacher(name, model, temperature)


def _check_synsets(teacher, images):
    """Raises ValueError unless the images' classes are ImageNet's, as a published teacher's are."""
    for number, synset in enumerate(synsets(images.num_classes) or ()):
        own = images.class_names[number]
        if own not in synset.aliases:
            raise ValueError(
                f"class {number:,} of the teacher {teacher} is {' or '.join(synset.aliases[:2])}, "
                f"and of {images.name} it is {own!r}; name the images' classes (their folders) by "
                "WordNet id, in the teacher's order."
            )


def _softmax_divergence(p, q):
    log_p, log_q = tf.nn.log_softmax(p), tf.nn.log_softmax(q)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


def _sigmoid_divergence(p, q):
    """Sums the classes' Bernoulli divergences; -logit is the logit of the class being absent."""

    def part(p, q):
        return tf.sigmoid(p) * (tf.math.log_sigmoid(p) - tf.math.log_sigmoid(q))

    return tf.reduce_sum(part(p, q) + part(-p, -q), axis=-1)
