"""Boxed images from TensorFlow Datasets."""

import io
import os
import sys

import numpy as np
import PIL.Image

from ..boxed_images import BoxedImages, clipped_boxes
from ..labeled_images import DataError
from .decoding import decode_rgb
from .tfds import check_splits, default_splits, fingerprint, read_examples
from .tfds_builders import open_builder, prepare

# By the builder's full name without version: sets whose test annotations are not published, and
# those that are usually trained on their validation images too.
_SPLITS = {
    "coco/2014": ("train", "validation"),
    "coco/2017": ("train", "validation"),
    "voc/2007": ("train+validation", "test"),
    "voc/2012": ("train", "validation"),
}
_CROWD = ("is_crowd", "is_difficult")  # features of COCO and of VOC


def from_boxed_tfds(
    name: str,
    *,
    train_split: str | None = None,
    test_split: str | None = None,
    data_dir: str | os.PathLike | None = None,
) -> tuple[BoxedImages, BoxedImages]:
    """Loads (train, test) of a detection data set of TensorFlow Datasets, in its order.

    The encoded images are kept in memory, or above 32 GiB stay on disk, as in `from_tfds`. Boxes
    are as TFDS gives them (those of VOC one pixel narrower at the left and the top than those of
    `from_voc`). Published sets have a few boxes without area: they are left out, and counted. There
    are no masks: TFDS has none of coco/2014 and coco/2017, only the panoptic segments of
    coco/2017_panoptic, and those of lvis are not read. Read COCO's own JSON file by `from_coco`.

    Args:
        name: A builder's name, for instance "coco/2017" or "voc/2007". It needs the features
            `image` and `objects`, a sequence of `bbox` and `label`; `is_crowd` or `is_difficult` of
            an object is `BoxedImages.crowd`.
        train_split: By default "train"; for voc/2007 "train+validation".
        test_split: By default "test", or "validation" where the annotations of "test" are not
            published. A data set that has only "train" is split by `BoxedImages.split` if neither
            split is given.
        data_dir: As in `from_tfds`.

    Raises:
        DataError: If the name or a split is unknown, a split has no boxes, or the features or the
            files are others.
    """
    builder, default_train, default_test = _opened(name, data_dir)
    if not (train_split or test_split or default_test):
        check_splits(builder, [default_train])
        return _read(builder, default_train, True).split()
    splits = train_split or default_train, test_split or default_test or "test"
    in_memory = check_splits(builder, splits)
    train, test = (_read(builder, split, in_memory) for split in splits)
    return train, test


def tfds_test_boxes(name: str) -> BoxedImages:
    """Loads the test split of a detection data set, or all images of one that has none."""
    builder, train, test = _opened(name, None)
    in_memory = check_splits(builder, [test or train])
    return _read(builder, test or train, in_memory)


def _opened(name, data_dir):
    """(The prepared builder, its default training split, its default test split or None)"""
    builder = open_builder(name, data_dir)
    _check_features(name, builder.info.features)
    prepare(builder)
    config = builder.builder_config
    full_name = f"{builder.name}/{config.name}" if config else builder.name
    return builder, *(_SPLITS.get(full_name) or default_splits(builder))


def _check_features(name, features):
    import tensorflow_datasets as tfds

    features = dict(features.items())
    objects = dict(getattr(features.get("objects"), "feature", {}).items())
    fits = (
        isinstance(features.get("image"), tfds.features.Image)
        and "bbox" in objects
        and isinstance(objects.get("label"), tfds.features.ClassLabel)
    )
    if not fits:
        raise DataError(
            f"{name} must have an `image`, and `objects` with `bbox` and a class `label`, but its "
            f"features are {', '.join(features)}: name another set"
        )


def _read(builder, split, in_memory):
    known = builder.info.features
    objects = dict(known["objects"].feature.items())
    kept = [key for key in ("bbox", "label", "area", *_CROWD) if key in objects]
    image_id = next((key for key in ("image/id", "image/filename") if key in known), None)
    features = {"objects": dict.fromkeys(kept, True)} | ({image_id: True} if image_id else {})

    def select(example):
        found = {key: example["objects"][key] for key in kept}
        return found | ({"id": example[image_id]} if image_id else {})

    encoded, examples, num_bytes = read_examples(builder, split, features, select, in_memory)
    starts = examples["label"].row_splits.numpy()
    rows = {key: examples[key].values.numpy() for key in kept}
    count, name = len(starts) - 1, f"{builder.name}/{split}"
    sizes = _image_sizes(known["image"].shape, encoded, count)
    image_of = np.repeat(np.arange(count), np.diff(starts))
    # TFDS has [top, left, bottom, right] as fractions.
    boxes = rows["bbox"][:, [1, 0, 3, 2]].astype(np.float64) * np.tile(sizes[image_of, ::-1], 2)
    _, faults = clipped_boxes(boxes, sizes[image_of])
    good = np.setdiff1d(np.arange(len(boxes)), [*faults])
    _check_some(name, len(boxes), good, faults)
    ids = None
    if image_id:
        ids = [i.decode() if isinstance(i, bytes) else int(i) for i in examples["id"].numpy()]
        ids = ids if len({*ids}) == count else None
    return BoxedImages(
        name,
        objects["label"].names,
        lambda index: decode_rgb(encoded(index)),
        image_sizes=sizes,
        boxes=boxes[good],
        classes=rows["label"][good],
        starts=np.searchsorted(image_of[good], np.arange(count + 1)),
        crowd=np.any([rows[key][good] for key in _CROWD if key in rows], 0)
        if {*_CROWD} & rows.keys()
        else None,
        areas=rows["area"][good] if "area" in rows else None,
        image_ids=ids,
        fingerprint=fingerprint(builder, split, count),
        num_bytes=num_bytes,
    )


def _check_some(name, count, good, faults):
    if not len(good):
        raise DataError(
            f"{name} has no boxes, which may not be published; pass from_boxed_tfds another split, "
            "'validation' for instance"
        )
    if faults:
        print(
            f"Left out: {len(faults):,} of {count:,} boxes of {name} cannot be used, the first "
            f"being box {min(faults):,}, which {faults[min(faults)]}.",
            file=sys.stderr,
            flush=True,
        )


def _image_sizes(shape, encoded, count):
    """int32 [N, 2], from the feature's shape or the images' headers."""
    if shape[0] and shape[1]:
        return np.tile(np.int32(shape[:2]), (count, 1))
    sizes = [PIL.Image.open(io.BytesIO(encoded(i).numpy())).size for i in range(count)]
    return np.array(sizes, np.int32)[:, ::-1]
