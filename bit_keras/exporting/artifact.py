"""An opened model as one function, whichever runtime computes it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ..models.spec import ModelSpec, spec_of
from ..training.backends import on_tensorflow
from .runtimes import Opened

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A model that was opened, by whichever runtime.

    Attributes:
        compute: float32 RGB `[batch, height, width, 3]` in [0, 1] to answers: an array or tensor,
            or a dictionary of them where the model has several outputs.
        output: Name of the one output, "logits" or "features", or None if there are several.
        num_classes: Of its head, or None if it has none.
        size: The one side of images it takes, in pixels, or None if it takes any.
        spec: The facts stored in it, or None if it has none.
        network: The Keras model, if it is one.
        routes: Other functions of the same network, by name: uint8 images to answers.
        compute_encoded: The same for encoded images, a tensor of strings `[batch]`, which are
            resized to the size that the artifact was exported with; if it has such a function.
        classify: If it names classes by itself: encoded images to their names and probabilities,
            both `[batch, num_classes]`, the likeliest first.
    """

    compute: Callable[[np.ndarray], Any]
    output: str | None = None
    num_classes: int | None = None
    size: int | None = None
    spec: ModelSpec | None = None
    network: keras.Model | None = None
    routes: Mapping[str, Callable[[np.ndarray], Any]] = dataclasses.field(default_factory=dict)
    compute_encoded: "Callable[[tf.Tensor], Any] | None" = None
    classify: "Callable[[tf.Tensor], tuple[np.ndarray, np.ndarray]] | None" = None


def keras_artifact(model: keras.Model) -> Artifact:
    """Returns a Keras model as an artifact."""
    name = output_name(model)
    return Artifact(
        forward_of(model),
        name,
        model.output_shape[-1] if name == "logits" else None,
        model.input_shape[1],
        spec=spec_of(model),
        network=model,
    )


def runtime_artifact(opened: Opened) -> Artifact:
    """Returns a file that a runtime has opened as an artifact."""
    return Artifact(
        lambda images: unnamed(opened.compute(images)),
        single_output(list(opened.outputs)),
        opened.outputs.get("logits"),
        opened.size,
        spec=ModelSpec.from_json(opened.facts) if opened.facts else None,
    )


def forward_of(model: keras.Model) -> Callable[[np.ndarray], Any]:
    """Returns a model's forward pass, from images to answers, as Keras's backend computes it."""
    if not on_tensorflow():
        return model.predict_on_batch
    from ..training import inference_function

    return inference_function(model)


def output_name(model: keras.Model) -> str | None:
    """Returns how exports call a model's output: "logits", "features", or None for several."""
    if keras.tree.is_nested(model.output):
        return None
    return "logits" if has_head(model) else "features"


def has_head(model: keras.Model) -> bool:
    """Whether a model gives logits, and not features."""
    return "head" in {layer.name for layer in model.layers}


def named(answers: Any, output: str | None) -> dict[str, Any]:
    """Returns answers as the dictionary of named outputs that exported files have."""
    return answers if output is None else {output: answers}


def single_output(names: Sequence[str]) -> str | None:
    """The reverse of `output_name`: the name of a file's one output, or None."""
    return names[0] if list(names) in (["logits"], ["features"]) else None


def unnamed(outputs: Mapping[str, Any]) -> Any:
    """Returns answers in the structure of the model's own: the reverse of `named`."""
    name = single_output(list(outputs))
    return dict(outputs) if name is None else outputs[name]
