"""The published models: one entry each, from which everything about a name is read.

A new one is an entry here, and its file below the download folder or in `bit_keras/weights`.
"""

import os
import re

from ..choices import EMBEDDED_MODEL
from ..recipes import recipe
from .imagenet_classes import ILSVRC2012, IMAGENET21K
from .resnet_v2 import UNITS
from .spec import ModelSpec

# HyperRule's batch and rate for models narrower than the published ones, for which its own rate is
# too low (examples/rule_scale.py, docs/studies.md).
SMALL_RULE = {"batch": 128, "base_lr": 0.1}

_AUTHORS = {
    "published": True,
    "native_size": 224,
    "source": "https://github.com/google-research/big_transfer",
    "license": "Apache-2.0",
}


def _by_name(models):
    return {model.name: model for model in models}


_SIZES = {
    "R50x1": {"units": UNITS[50], "width": 1},
    "R50x3": {"units": UNITS[50], "width": 3},
    "R101x1": {"units": UNITS[101], "width": 1},
    "R101x3": {"units": UNITS[101], "width": 3},
    "R152x2": {"units": UNITS[152], "width": 2},
    "R152x4": {"units": UNITS[152], "width": 4},
}


def _upstream(letter, num_classes):
    """BiT-S or BiT-M: tested as their pre-training was (Kolesnikov et al., 2020)."""
    protocol = recipe(f"BiT-{letter}")
    facts = {"num_classes": num_classes, "loss": protocol.loss, **_AUTHORS}
    facts |= {"test_size": protocol.crop, "test_resize": protocol.test_resize}
    return [
        ModelSpec(name=f"BiT-{letter}-{size}", **architecture, **facts)
        for size, architecture in _SIZES.items()
    ]


def _fine_tuned(name, size, num_classes, **facts):
    own = {"num_classes": num_classes, "loss": "softmax", "test_size": _LARGE}
    return ModelSpec(name=name, **_SIZES[size], **_AUTHORS, **own | facts)


# Classes of the 19 tasks of VTAB-1k, as in `data.VTAB`, which needs TensorFlow.
_VTAB_CLASSES = {
    "caltech101": 102,
    "cifar100": 100,
    "dtd": 47,
    "oxford_flowers102": 102,
    "oxford_iiit_pet": 37,
    "sun397": 397,
    "svhn": 10,
    "patch_camelyon": 2,
    "eurosat": 10,
    "resisc45": 45,
    "diabetic_retinopathy": 5,
    "clevr-count": 8,
    "clevr-distance": 6,
    "dmlab": 6,
    "kitti-distance": 4,
    "dsprites-xpos": 16,
    "dsprites-orientation": 16,
    "smallnorb-azimuth": 18,
    "smallnorb-elevation": 9,
}

# HyperRule's sizes, at which its fine-tuned models are tested; small are these tasks' images.
_LARGE, _SMALL = 480, 128
_SMALL_IMAGES = {"cifar100", "svhn", "eurosat", "dsprites-xpos", "dsprites-orientation"}

# Published by the authors.
PUBLISHED: dict[str, ModelSpec] = _by_name(
    (
        *_upstream("S", ILSVRC2012),
        *_upstream("M", IMAGENET21K),
        *(_fine_tuned(f"BiT-M-{size}-ILSVRC2012", size, ILSVRC2012) for size in _SIZES),
        *(
            _fine_tuned(
                *(f"vtab/BiT-M-{size}-run{run}-{task}", size, classes),
                test_size=_SMALL if task in _SMALL_IMAGES else _LARGE,
            )
            for size in _SIZES
            if size != "R152x2"
            for run in range(3)
            for task, classes in _VTAB_CLASSES.items()
        ),
        # Students and teachers of Beyer et al., 2022, by the size in their names.
        _fine_tuned("distill/R50x1_224", "R50x1", ILSVRC2012, test_size=224),
        _fine_tuned("distill/R50x1_160", "R50x1", ILSVRC2012, test_size=160),
        _fine_tuned("distill/R152x2_T_224", "R152x2", ILSVRC2012, test_size=224),
        _fine_tuned("distill/R152x2_T_384", "R152x2", ILSVRC2012, test_size=384),
    )
)

# They come with the package.
EMBEDDED: dict[str, ModelSpec] = _by_name(
    [
        ModelSpec(
            name=EMBEDDED_MODEL,
            units=(2, 2, 2, 2),
            width=0.25,
            test_size=32,
            native_size=32,
            rule_changes=SMALL_RULE,
            source="pre-trained by bit_keras on drawn glyphs (examples/pretrain_glyphs.py)",
            license="Apache-2.0",
        )
    ]
)


def full_name(source: str | os.PathLike) -> str:
    """Returns the name of the published or embedded model whose name starts so, if it is one only.

    Returns anything else as it is: whole names, existing files, and what starts several or none.
    """
    name = os.fspath(source)
    found = [] if os.path.exists(name) else names_starting(name)
    return found[0] if len(found) == 1 else name


def names_starting(beginning: str) -> list[str]:
    """Returns the names of all published and embedded models that start so, sorted."""
    return sorted(name for name in (*PUBLISHED, *EMBEDDED) if name.startswith(beginning))


def architecture_named(name: str) -> ModelSpec | None:
    """Returns the facts of an architecture by its size, "R26x0.5"; None for other names.

    Raises ValueError if there is none of that depth or width.
    """
    match = re.fullmatch(r"R(\d+)x(\d+(?:\.\d+)?)", name)
    if not match:
        return None
    depth, width = int(match[1]), float(match[2])
    if depth not in UNITS or 64 * width != round(64 * width) or 64 * width < 2:
        raise ValueError(
            f"{name} is no architecture: expected R, a depth of {', '.join(map(str, UNITS))}, x "
            "and a width that makes 64 * width a whole number above 1, such as R26x0.5."
        )
    rule_changes = SMALL_RULE if width < 1 else {}
    return ModelSpec(name=name, units=UNITS[depth], width=width, rule_changes=rule_changes)
