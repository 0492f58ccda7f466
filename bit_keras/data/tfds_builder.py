"""Labelled images from TensorFlow Datasets."""

import difflib
import io
import os
import zlib

import numpy as np
import PIL.Image
import tensorflow as tf

from .decoding import decode_rgb
from .labeled_images import DataError, LabeledImages

# Where (train, test) are not simply those splits: the reference code's choice (it keeps the last
# 2 % and 1 % for validation), and the public labels of ILSVRC-2012.
DEFAULT_SPLITS = {
    "cifar10": ("train[:98%]", "test"),
    "cifar100": ("train[:98%]", "test"),
    "imagenet2012": ("train[:99%]", "validation"),
}
MEMORY_LIMIT = 32 * 2**30  # bytes of encoded images


def from_tfds(
    name: str,
    *,
    train_split: str | None = None,
    test_split: str | None = None,
    data_dir: str | os.PathLike | None = None,
) -> tuple[LabeledImages, LabeledImages]:
    """Loads an image classification data set of TensorFlow Datasets, in its fixed order.

    The encoded images (JPEG, PNG) stay in memory, as many bytes as the splits take on disk, and
    are decoded when they are read.

    Args:
      name: a builder's name, "cifar10" or "sun397/tfds" for instance; it needs the features
        `image` and `label`.
      train_split: "train" if not given; the first 98 % of it for CIFAR, 99 % for imagenet2012.
      test_split: "test" if not given; "validation" for imagenet2012.
      data_dir: where TFDS keeps its data, `~/tensorflow_datasets` if not given. A data set that
        is not there is downloaded and prepared.

    Returns:
      (train, test).

    Raises:
      DataError: an unknown name or split, other features, or more than 32 GiB of images.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        nearest = difflib.get_close_matches(name.split("/")[0], tfds.list_builders(), cutoff=0.5)
        hint = f"did you mean {', '.join(nearest)}?" if nearest else "see tfds.list_builders()"
        raise DataError(f"TensorFlow Datasets has no {name!r}; {hint}") from None
    except ValueError as error:  # a configuration that it does not have, for one
        raise DataError(f"{name} is not a data set of TFDS: {_sentence(error)}") from error
    features = dict(builder.info.features.items())
    if not (
        isinstance(features.get("image"), tfds.features.Image)
        and isinstance(features.get("label"), tfds.features.ClassLabel)
    ):
        raise DataError(
            f"{name} must have an `image` and a class `label` to be learned, but its features are "
            f"{', '.join(features)}"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # no network, no room, or files that must be fetched by hand
        raise DataError(f"{name} cannot be prepared: {_sentence(error)}") from error
    default_train, default_test = DEFAULT_SPLITS.get(builder.name, ("train", "test"))
    splits = train_split or default_train, test_split or default_test
    _check_splits(builder, splits)
    return _read(builder, splits[0]), _read(builder, splits[1])


def _sentence(error):
    """TFDS explains over many lines; the first 300 characters of them on one."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _check_splits(builder, splits):
    known = builder.info.splits
    if not known:  # under tfds.testing.mock_data, which takes any split
        return
    num_examples = 0
    for split in splits:
        try:
            count = known[split].num_examples
        except (KeyError, ValueError):
            raise DataError(
                f"{builder.name} has no split {split!r}, only {', '.join(sorted(known))}; pass "
                "train_split and test_split, 'train[:80%]' and 'train[80%:]' for instance"
            ) from None
        if count == 0:
            raise DataError(f"the split {split!r} of {builder.name} is empty; choose a larger part")
        num_examples += count
    part = num_examples / sum(split.num_examples for split in known.values())
    num_bytes = part * builder.info.dataset_size
    if num_bytes > MEMORY_LIMIT:
        raise DataError(
            f"{' and '.join(splits)} of {builder.name} take {num_bytes / 2**30:.1f} GiB of memory, "
            f"more than the {MEMORY_LIMIT / 2**30:g} allowed; choose smaller parts, 'train[:10%]' "
            "for instance, or write the images to a folder and use from_directory"
        )


def _read(builder, split):
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split,
        decoders=tfds.decode.PartialDecoding(
            {"image": True, "label": True}, decoders={"image": tfds.decode.SkipDecoding()}
        ),
        shuffle_files=False,
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    with tf.device("CPU:0"):
        examples = dataset.batch(np.iinfo(np.int64).max).get_single_element()
    encoded, labels = examples["image"], examples["label"].numpy()

    height, width, _ = builder.info.features["image"].shape
    if height is None or width is None:
        some = np.linspace(0, len(labels) - 1, min(len(labels), 1000)).astype(int)
        sizes = [PIL.Image.open(io.BytesIO(encoded[i].numpy())).size for i in some]
        width, height = (int(side) for side in np.median(sizes, axis=0))
    return LabeledImages(
        name=f"{builder.name}/{split}",
        labels=labels,
        class_names=builder.info.features["label"].names,
        image_size=(height, width),
        read=lambda index: decode_rgb(tf.gather(encoded, index)),
        fingerprint=zlib.crc32(f"{builder.info.full_name}/{split}/{len(labels)}".encode()),
    )
