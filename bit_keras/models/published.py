"""The published models: one entry each, from which everything about a name is read.

A new one is an entry here, and its file below the download folder or in `bit_keras/weights`.
"""

import dataclasses
from collections.abc import Mapping

from ..data import VTAB
from ..recipes import recipe
from .imagenet_classes import ILSVRC2012, IMAGENET21K
from .resnet_v2 import UNITS


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """What is known of a model before its file is read.

    Attributes:
        name: As given to `bit_keras.load`.
        units: Units of each block.
        width: Factor on every channel count.
        num_classes: Outputs of its head; 0 for a model without a head.
        loss: Of its last training: "softmax" or "sigmoid", by which logits become probabilities.
        test_size: Side of the square images that its authors tested it on, in pixels. None for
            HyperRule's, which depends on the images.
        test_resize: What the short side of a test image became before a center crop of
            `test_size`; None where images were resized to that square instead.
        rule_changes: Settings that replace those of HyperRule when it is fine-tuned.
    """

    name: str
    units: tuple[int, ...]
    width: float
    num_classes: int
    loss: str = "softmax"
    test_size: int | None = None
    test_resize: int | None = None
    rule_changes: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def file(self) -> str:
        """Path below the download folder, or in `bit_keras/weights` for embedded models."""
        return f"{self.name}.npz"


def _by_name(models):
    return {model.name: model for model in models}


_SIZES = {  # (units, width)
    "R50x1": (UNITS[50], 1),
    "R50x3": (UNITS[50], 3),
    "R101x1": (UNITS[101], 1),
    "R101x3": (UNITS[101], 3),
    "R152x2": (UNITS[152], 2),
    "R152x4": (UNITS[152], 4),
}


def _upstream(letter, num_classes):
    """BiT-S or BiT-M: tested as their pre-training was (Kolesnikov et al., 2020)."""
    protocol = recipe(f"BiT-{letter}")
    settings = (num_classes, protocol.loss, protocol.crop, protocol.test_resize)
    return [
        PublishedModel(f"BiT-{letter}-{size}", *architecture, *settings)
        for size, architecture in _SIZES.items()
    ]


# Published by the authors, https://github.com/google-research/big_transfer.
PUBLISHED: dict[str, PublishedModel] = _by_name(
    (
        *_upstream("S", ILSVRC2012),
        *_upstream("M", IMAGENET21K),
        *(  # fine-tuned by HyperRule
            PublishedModel(f"BiT-M-{size}-ILSVRC2012", *architecture, ILSVRC2012)
            for size, architecture in _SIZES.items()
        ),
        *(
            PublishedModel(
                f"vtab/BiT-M-{size}-run{run}-{task.name}", *architecture, task.num_classes
            )
            for size, architecture in _SIZES.items()
            if size != "R152x2"
            for run in range(3)
            for task in VTAB.values()
        ),
        # Students and teachers of Beyer et al., 2022, by the size in their names.
        PublishedModel("distill/R50x1_224", *_SIZES["R50x1"], ILSVRC2012, test_size=224),
        PublishedModel("distill/R50x1_160", *_SIZES["R50x1"], ILSVRC2012, test_size=160),
        PublishedModel("distill/R152x2_T_224", *_SIZES["R152x2"], ILSVRC2012, test_size=224),
        PublishedModel("distill/R152x2_T_384", *_SIZES["R152x2"], ILSVRC2012, test_size=384),
    )
)

# They come with the package. Pre-trained on images of 32 pixels, a quarter of what HyperRule gives
# small images, they are fine-tuned on sides of a quarter, and on batches of a quarter.
EMBEDDED: dict[str, PublishedModel] = _by_name(
    [
        PublishedModel(
            *("BiT-XS-R26x0.25", (2, 2, 2, 2), 0.25, 0),
            test_size=32,
            rule_changes={"batch": 128, "resize": 36, "crop": 32},
        )
    ]
)
