"""What a model is and how it is used: the facts that travel with its weights."""

import dataclasses
import json
import numbers
import reprlib
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ..choices import DETECTORS
from ..recipes.hyperrule import HyperRule
from ..recipes.settings import LARGEST_SIDE
from .imagenet_classes import class_names, synsets

if TYPE_CHECKING:  # what reads images needs TensorFlow, and models do not
    import tensorflow as tf

    from ..data import LabeledImages

# HyperRule's sizes were chosen for models pre-trained at 224 pixels. It is followed up to this
# factor between what a model was pre-trained at and what it gives; beyond, the former is taken.
_FARTHEST = 3

_SIZES = ("test_size", "test_resize", "native_size")
_CHOICES = {
    "norm": ("group", "batch"),
    "conv": ("standardized", "plain"),
    "loss": ("softmax", "sigmoid"),
    "detector": DETECTORS,
}

_NOTICE = """\
Model: {model}
License: {license}
Paper: A. Kolesnikov, L. Beyer, X. Zhai, J. Puigcerver, J. Yung, S. Gelly and N. Houlsby, \
Big Transfer (BiT): General Visual Representation Learning, ECCV 2020, https://arxiv.org/abs/1912.11370
Software: bit_keras, Apache-2.0
"""

_BRIGHTEST = 2  # above it pixels are no rounding errors of [0, 1], nor normalized by a deviation
_LOOKED_AT = 8  # images of a batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The facts that the use of a model's weights needs. Images are RGB in [0, 1].

    Attributes:
        name: Of a published model, or of the run that it comes from.
        units, width, groups, norm, conv: Its architecture, as `ResNetV2` takes it.
        num_classes: Outputs of its head; 0 for none.
        class_names: One per class, if known.
        loss: Of its last training: "softmax", or "sigmoid", which gives every class a probability
            of its own; None if unknown.
        test_size: Side in pixels of the square images it is tested and used on, if known.
        test_resize: What the short side of such an image becomes before a center crop of
            `test_size`; None where images are resized to that square instead.
        anchor_sizes: Of a detector: sides in pixels of its square anchors of levels P3 to P7, or P2
            to P6 of one with a second stage; None for classifiers.
        detector: "retinanet", "mask_rcnn" or "faster_rcnn"; None for classifiers. Files that tell
            sizes of anchors and no detector are of a RetinaNet.
        native_size: Side in pixels of the images that it was pre-trained on, if known.
        rule_changes: Settings that replace those of HyperRule when it is fine-tuned.
        published: Whether it is a published model as its authors trained it, so that 1,000 and
            21,843 classes are ImageNet's.
        source: Where it comes from: an address, or how it was trained.
        license: SPDX identifier, of the weights or of those that they derive from; None if unknown.
    """

    name: str = ""
    units: tuple[int, ...] | None = None
    width: float | None = None
    groups: int | None = None
    norm: str = "group"
    conv: str = "standardized"
    num_classes: int = 0
    class_names: tuple[str, ...] | None = None
    loss: str | None = None
    test_size: int | None = None
    test_resize: int | None = None
    anchor_sizes: tuple[float, ...] | None = None
    detector: str | None = None
    native_size: int | None = None
    rule_changes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    published: bool = False
    source: str = ""
    license: str | None = None

    def __post_init__(self):
        for name in ("units", "class_names", "anchor_sizes"):  # lists, where they come from JSON
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        if self.anchor_sizes and self.detector is None:
            object.__setattr__(self, "detector", "retinanet")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _SIZES and _is_whole(value) and value > LARGEST_SIDE:
                raise ValueError(
                    f"{field.name} must be {LARGEST_SIDE:,} pixels or less, got {value}."
                )
            if not _is_fact(field.name, value):
                raise ValueError(
                    f"{field.name} cannot be a fact of a model, got {reprlib.repr(value)}."
                )

    @property
    def file(self) -> str:
        """Of a published model: below the download folder, or in `bit_keras/weights`."""
        return f"{self.name}.npz"

    @property
    def notice(self) -> str:
        """Returns what goes with every copy: origin, license and citations, in four lines."""
        terms = "unknown; ask those who trained it"
        if self.license:
            terms = f"{self.license}, of these weights or of those that they derive from"
        model = ", ".join(filter(None, (self.name, self.source)))
        return _NOTICE.format(model=model, license=f"{terms}; keep this notice with every copy")

    def completed_by(self, other: "ModelSpec") -> "ModelSpec":
        """Returns a copy in which what is unknown is taken from another."""
        missing = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) in (None, "")]
        return self.replace(**{name: getattr(other, name) for name in missing})

    def replace(self, **changes: Any) -> "ModelSpec":
        """Returns a copy with some facts changed, as `dataclasses.replace`."""
        return dataclasses.replace(self, **changes)

    def with_classes(self, num_classes: int) -> "ModelSpec":
        """Returns the facts of the same body with a new head, or with none for 0 classes."""
        new = {"class_names": None, "loss": None, "anchor_sizes": None, "detector": None}
        return self.replace(num_classes=num_classes, published=False, **new)

    def as_dict(self) -> dict[str, Any]:
        """Returns the facts as JSON can hold them, with range of pixels and notice for others."""
        return {**dataclasses.asdict(self), "pixel_range": (0, 1), "notice": self.notice}

    def to_json(self) -> str:
        """Returns the facts as one line of JSON."""
        return json.dumps(self.as_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> "ModelSpec":
        """Reads what `to_json` wrote; what later versions add is ignored.

        Raises ValueError if it is something else.
        """
        facts = json.loads(text)
        if not isinstance(facts, dict):
            raise ValueError(f"expected the facts of a model, got {reprlib.repr(facts)}.")
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in facts.items() if name in known})

    def names(self) -> tuple[str, ...]:
        """Returns the classes' names: its own, ImageNet's for published models, or numbers.

        Raises DownloadError if those of ImageNet-21k are needed and cannot be fetched.
        """
        if self.class_names is not None:
            return self.class_names
        found = synsets(self.num_classes) if self.published else None
        return tuple(class_names(found)) if found else self.own_names()

    def own_names(self) -> tuple[str, ...]:
        """Returns the classes' names as they are in the record, or numbers."""
        return self.class_names or tuple(map(str, range(self.num_classes)))

    def probabilities(self, logits: Any) -> Any:
        """Returns probabilities, of the logits' shape: sigmoids or, by default, their softmax."""
        return (keras.ops.sigmoid if self.loss == "sigmoid" else keras.ops.softmax)(logits)

    def prepared(self, image: "tf.Tensor") -> "tf.Tensor":
        """Returns an image, uint8 `[height, width, 3]`, as its test images were: float32 in [0, 1].

        Side and crop are `test_size` and `test_resize`.
        """
        from ..data.pipelines.batching import resized
        from ..data.pipelines.upstream import center_square

        if self.test_resize:
            return center_square(image, self.test_resize, self.test_size) / 255
        return resized(image, self.test_size, self.test_size) / 255

    def batches(self, images: "LabeledImages", *, batch: int) -> "tf.data.Dataset":
        """Returns one pass over images, `prepared`, with their labels, as `data.test_batches`."""
        from ..data.pipelines.batching import check_sizes, one_pass_batches

        check_sizes(batch, size=self.test_size)
        return one_pass_batches(images, self.prepared, batch)

    def rule_for(self, images: "LabeledImages") -> HyperRule:
        """Returns HyperRule for fine-tuning it on images, at its own scale.

        Where the rule's crop is more than three times the side it was pre-trained on, it is that
        side, resized by an eighth more.
        """
        rule = HyperRule.release(len(images), images.image_size)
        if self.native_size and rule.crop > _FARTHEST * self.native_size:
            rule = rule.replace(resize=self.native_size * 9 // 8, crop=self.native_size)
        return rule.replace(**self.rule_changes)


def _is_fact(name, value):
    """Whether a value, which may come from a stranger's file, is of the kind of a fact."""
    if value is None:
        return name not in ("name", "norm", "conv", "num_classes", "published", "source")
    if name in _SIZES:
        return _is_whole(value) and 1 <= value <= LARGEST_SIDE
    if name in ("groups", "num_classes"):
        return _is_whole(value) and value >= (name == "groups")
    if name in _CHOICES:
        return value in _CHOICES[name]
    if name == "rule_changes":
        known = {field.name for field in dataclasses.fields(HyperRule)}
        return isinstance(value, Mapping) and all(
            key in known and (number == 0 or _is_number(number)) for key, number in value.items()
        )
    if name == "width":
        return _is_number(value)
    if name in ("units", "class_names", "anchor_sizes"):
        kind = {"units": _is_whole, "anchor_sizes": _is_number}.get(name, _is_text)
        return isinstance(value, tuple) and all(map(kind, value))
    return isinstance(value, bool) if name == "published" else _is_text(value)


def _is_text(value):
    return isinstance(value, str)


def _is_whole(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value):
    return isinstance(value, numbers.Real) and 0 < value < float("inf")


@keras.saving.register_keras_serializable("bit_keras")
class SpecifiedModel(keras.Model):
    """A functional Keras model with a `spec`, a `ModelSpec`, which is saved with it.

    Called eagerly, or by `fit`, `evaluate` or `predict`, it warns of images in 0 .. 255.
    """

    # By any other signature Keras 3.12 would not save the layers.
    def __init__(self, *args: Any, spec: ModelSpec | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.spec = spec or ModelSpec()

    def __call__(self, *args, **kwargs):
        _warn_of_raw_pixels(args[0] if args else kwargs.get("inputs"))
        return super().__call__(*args, **kwargs)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        _warn_of_raw_pixels(x)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        _warn_of_raw_pixels(x)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        _warn_of_raw_pixels(x)
        return super().predict(x, *args, **kwargs)

    def get_config(self):
        return {**super().get_config(), "spec": self.spec.to_json()}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict | None = None
    ) -> "SpecifiedModel":
        """Makes the model of a configuration, with its facts."""
        config = dict(config)
        spec = config.pop("spec")
        model = super().from_config(config, custom_objects)
        model.spec = ModelSpec.from_json(spec)
        return model


def _warn_of_raw_pixels(images):
    """Warns if images, or those of the first batch, look like 0 .. 255; symbols are not looked at.

    They are arrays of numpy, or eager tensors or a data set of TensorFlow. Python shows a warning
    from one place once.
    """
    tf = sys.modules.get("tensorflow")  # nothing is of it, where it was not imported
    if tf and isinstance(images, tf.data.Dataset):
        images = next(iter(images.take(1)), None)
    elif isinstance(images, keras.utils.PyDataset):
        images = images[0]
    while isinstance(images, tuple | list) and images:
        images = images[0]
    known = isinstance(images, np.ndarray)
    if tf and tf.is_tensor(images):  # a slice of an eager one is a symbol while a graph is traced
        known = hasattr(images, "numpy") and tf.executing_eagerly()
    if known and np.size(images) and np.max(images[:_LOOKED_AT]) > _BRIGHTEST:
        warnings.warn(
            "images must lie in [0, 1], and these look like 0 .. 255: divide them by 255.",
            stacklevel=3,
        )


def spec_of(model: keras.Model) -> ModelSpec:
    """Returns a model's facts; of a plain Keras model those that its inputs and outputs tell."""
    spec = getattr(model, "spec", None)
    if isinstance(spec, ModelSpec):
        return spec
    sides, output = model.input_shape[1:3], model.output_shape
    square = isinstance(sides, tuple) and len(sides) == 2 and sides[0] == sides[1]
    has_head = isinstance(output, tuple) and model.layers[-1].name != "pooled"
    return ModelSpec(
        name=model.name,
        num_classes=output[-1] if has_head else 0,
        test_size=sides[0] if square else None,
    )
