"""VTAB-1k: 19 tasks of 1,000 training images each (Zhai et al. 2019, arXiv:1910.04867).

Splits and labels are those of google-research/task_adaptation, the benchmark's own code; the names
are those of the published checkpoints. The score is the mean test accuracy of the 19 tasks.

Crops and flips per task, and the groups of tasks, are those of the VTAB-1k configuration of
google-research/scenic (Plain ViT); the groups are also those of big_transfer's list of VTAB
checkpoints. One difference: SVHN is not mirrored here, because the BiT paper leaves out changes
that destroy the label.
"""

import dataclasses
import difflib
import itertools
import operator
import os
from collections.abc import Callable, Mapping

import tensorflow as tf

from ..labeled_images import DataError, LabeledImages
from .decoding import decode_rgb
from .tfds import read_splits
from .tfds_builders import manual_dir, open_builder, prepare

_CROP, _FLIP = frozenset({"crop"}), frozenset({"flip"})
_BOTH = _CROP | _FLIP


@dataclasses.dataclass(frozen=True, eq=False)
class VtabTask:
    """One task: its images, its classes and the augmentations that keep labels correct.

    Attributes:
        name: The task in the names of the published checkpoints, for instance "clevr-count".
        group: "natural", "specialized" or "structured".
        builder: The name of its TFDS builder, with the configuration if there are several.
        validation: (TFDS split, percentage of it at which the validation images begin).
        test: (TFDS split, percentage of it at which the test images begin, to its end).
        augmentations: The random changes that keep labels correct (`LabeledImages`).
        features: The features that `label` needs, as `tfds.decode.PartialDecoding` takes them.
        label: From an example's `features` to its class, a scalar integer tensor.
        class_names: One name per class; empty if they are those of the builder's one feature.
        decode: From an encoded image, a scalar string, to uint8 [height, width, 3].
        by_hand: What TFDS cannot download itself, as (address, {file or folder that TFDS needs:
            the archives that contain it}).
    """

    name: str
    group: str
    builder: str
    num_classes: int
    validation: tuple[str, int] = ("validation", 0)
    test: tuple[str, int] = ("test", 0)
    augmentations: frozenset[str] = _BOTH
    features: dict = dataclasses.field(default_factory=lambda: {"label": True})
    label: Callable[[dict], tf.Tensor] = operator.itemgetter("label")
    class_names: tuple[str, ...] = ()
    decode: Callable[[tf.Tensor], tf.Tensor] = decode_rgb
    by_hand: tuple[str, dict[str, str]] = ("", {})

    def splits(self, counts: Mapping[str, int]) -> tuple[str, str]:
        """(train800val200, test) in TFDS's notation, from the number of examples per TFDS split."""
        (validation, percent), (test, test_percent) = self.validation, self.test
        start = percent * counts[validation] // 100
        test_start = test_percent * counts[test] // 100
        return f"train[:800]+{validation}[{start}:{start + 200}]", f"{test}[{test_start}:]"


def vtab_task(name: str) -> VtabTask:
    """`VTAB[name]`; raises DataError, which suggests similar names, if it is unknown."""
    if name not in VTAB:
        nearest = ", ".join(difflib.get_close_matches(name, VTAB))
        hint = f"did you mean {nearest}?" if nearest else f"the tasks are {', '.join(VTAB)}"
        raise DataError(f"VTAB has no task {name!r}; {hint}")
    return VTAB[name]


def from_vtab(
    name: str, *, data_dir: str | os.PathLike | None = None, counts: Mapping[str, int] | None = None
) -> tuple[LabeledImages, LabeledImages]:
    """Loads a VTAB-1k task from TensorFlow Datasets.

    A class may have no training images, as in sun397 with its 397 classes.

    Args:
        name: One of `VTAB`.
        data_dir: As in `from_tfds`.
        counts: The number of examples in each TFDS split, needed if TFDS does not know them
            (`tfds.testing.mock_data`).

    Returns:
        (train, test). train is train800val200: the first 800 of the benchmark's training images,
        then the first 200 of its validation images. test has all of its test images.

    Raises:
        DataError: If the name is unknown or the data set cannot be prepared, for instance because
            files must be downloaded by hand.
    """
    task = vtab_task(name)
    builder = open_builder(task.builder, data_dir)
    try:
        prepare(builder)
    except DataError as error:
        _check_downloads_by_hand(task, builder, error)
        raise
    counts = counts or {split: info.num_examples for split, info in builder.info.splits.items()}
    if not counts:
        raise DataError(f"TFDS does not know how large the splits of {name} are: pass counts")
    (feature, *_) = task.features
    class_names = task.class_names or builder.info.features[feature].names
    splits = task.splits(counts)
    parts = read_splits(builder, splits, task.features, task.label, class_names, task.decode)
    train, test = (
        dataclasses.replace(images, name=f"{name}/{part}", augmentations=task.augmentations)
        for images, part in zip(parts, ("train800val200", "test"), strict=True)
    )
    return train, test


def _check_downloads_by_hand(task, builder, error):
    address, files = task.by_hand
    folder = manual_dir(builder)
    missing = [name for name in files if not (folder / name).exists()]
    if missing:
        archives = ", ".join(files[name] for name in missing)
        raise DataError(
            f"{task.name} has files that must be downloaded by hand: get {archives} from "
            f"{address} and unpack into {folder}, which then has {', '.join(missing)}"
        ) from error


def _bin(value, thresholds):
    """The index of the last of the ascending thresholds that is strictly below the value."""
    return tf.math.count_nonzero(tf.constant(thresholds) < value) - 1


_CLEVR_DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)


def _clevr_distance(example):
    distance = tf.reduce_min(example["objects"]["pixel_coords"][:, 2])
    return _bin(distance, _CLEVR_DISTANCES)


def _kitti_distance(example):
    kinds, locations = example["objects"]["type"], example["objects"]["location"]
    distances = locations[:, 2][kinds < 3]  # of cars, vans and trucks
    return _bin(tf.reduce_min(tf.concat([distances, [1000.0]], 0)), [-100.0, 8.0, 20.0, 999.0])


def _dsprites(feature, num_values, augmentations):
    """The arguments of a dSprites task: values 0 .. num_values - 1 of a feature, in 16 bins."""
    bins = [value * 16 // num_values for value in range(num_values)]
    firsts = [bins.index(label) for label in range(16)]
    lasts = [first - 1 for first in firsts[1:]] + [num_values - 1]
    return {
        "group": "structured",
        "builder": "dsprites",
        "num_classes": 16,
        "validation": ("train", 80),
        "test": ("train", 90),
        "augmentations": augmentations,
        "features": {feature: True},
        "label": lambda example: example[feature] * 16 // num_values,
        "class_names": tuple(f"{a} to {b}" for a, b in zip(firsts, lasts, strict=True)),
        "decode": lambda encoded: decode_rgb(encoded) * 255,  # stored as zeros and ones
    }


def _smallnorb(feature, augmentations):
    return {
        "group": "structured",
        "builder": "smallnorb",
        "validation": ("test", 0),
        "test": ("test", 50),
        "augmentations": augmentations,
        "features": {feature: True},
        "label": operator.itemgetter(feature),
    }


_CLEVR = {
    "group": "structured",
    "builder": "clevr",
    "validation": ("train", 90),
    "test": ("validation", 0),
    "augmentations": _FLIP,
}

# By group: name, group, builder, num_classes, validation, test, augmentations.
# Mirroring keeps distances, counts and elevation, but changes digits, orientation, azimuth and the
# x position. Cropping may remove the nearest of several objects and changes positions.
VTAB: dict[str, VtabTask] = {
    task.name: task
    for task in (
        VtabTask("caltech101", "natural", "caltech101", 102, ("train", 90)),
        VtabTask("cifar100", "natural", "cifar100", 100, ("train", 90)),
        VtabTask("dtd", "natural", "dtd", 47),
        VtabTask("oxford_flowers102", "natural", "oxford_flowers102", 102),
        VtabTask("oxford_iiit_pet", "natural", "oxford_iiit_pet", 37, ("train", 80)),
        VtabTask("sun397", "natural", "sun397/tfds", 397),
        VtabTask("svhn", "natural", "svhn_cropped", 10, ("train", 90), augmentations=_CROP),
        VtabTask("patch_camelyon", "specialized", "patch_camelyon", 2),
        VtabTask("eurosat", "specialized", "eurosat/rgb", 10, ("train", 60), ("train", 80)),
        VtabTask(
            *("resisc45", "specialized", "resisc45", 45, ("train", 60), ("train", 80)),
            by_hand=(
                "https://1drv.ms/u/s!AmgKYzARBl5ca3HNaHIlzp_IXjs",
                {"NWPU-RESISC45": "NWPU-RESISC45.rar"},
            ),
        ),
        VtabTask(
            "diabetic_retinopathy",
            "specialized",
            "diabetic_retinopathy_detection/btgraham-300",
            5,
            by_hand=(
                "https://www.kaggle.com/c/diabetic-retinopathy-detection/data",
                {
                    "train": "train.zip.001 to .005",
                    "test": "test.zip.001 to .007",
                    "sample": "sample.zip",
                    "trainLabels.csv": "trainLabels.csv.zip",
                },
            ),
        ),
        VtabTask(
            "clevr-count",
            num_classes=8,
            features={"objects": {"size": True}},
            label=lambda example: tf.shape(example["objects"]["size"])[0] - 3,
            class_names=tuple(f"{count} objects" for count in range(3, 11)),
            **_CLEVR,
        ),
        VtabTask(
            "clevr-distance",
            num_classes=6,
            features={"objects": {"pixel_coords": True}},
            label=_clevr_distance,
            class_names=tuple(f"{a:g} to {b:g}" for a, b in itertools.pairwise(_CLEVR_DISTANCES)),
            **_CLEVR,
        ),
        VtabTask("dmlab", "structured", "dmlab", 6, augmentations=_FLIP),
        VtabTask(
            *("kitti-distance", "structured", "kitti", 4),
            augmentations=_FLIP,
            features={"objects": {"type": True, "location": True}},
            label=_kitti_distance,
            class_names=("up to 8 m", "8 to 20 m", "above 20 m", "no vehicle"),
        ),
        VtabTask("dsprites-xpos", **_dsprites("label_x_position", 32, frozenset())),
        VtabTask("dsprites-orientation", **_dsprites("label_orientation", 40, _CROP)),
        VtabTask("smallnorb-azimuth", num_classes=18, **_smallnorb("label_azimuth", _CROP)),
        VtabTask("smallnorb-elevation", num_classes=9, **_smallnorb("label_elevation", _BOTH)),
    )
}
