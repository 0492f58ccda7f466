"""Labeled images from TensorFlow Datasets."""

import functools
import io
import operator
import os
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import tensorflow as tf

from ..labeled_images import DataError, LabeledImages, check_every_class
from .decoding import decode_rgb
from .tfds_builders import open_builder, prepare
from .tfrecords import record_reader

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# Sets whose (train, test) are not the splits of these names: CIFAR and ImageNet as in the reference
# code, which keeps the last 2 % or 1 % for validation, and sets without published test labels.
DEFAULT_SPLITS = {
    "cifar10": ("train[:98%]", "test"),
    "cifar100": ("train[:98%]", "test"),
    "i_naturalist2017": ("train", "validation"),
    "i_naturalist2018": ("train", "validation"),
    "imagenet2012": ("train[:99%]", "validation"),
    "places365_small": ("train", "validation"),
    "visual_domain_decathlon": ("train", "validation"),
}
MEMORY_LIMIT = 32 * 2**30  # bytes of encoded images; larger sets stay on disk


def from_tfds(
    name: str,
    *,
    train_split: str | None = None,
    test_split: str | None = None,
    data_dir: str | os.PathLike | None = None,
) -> tuple[LabeledImages, LabeledImages]:
    """Loads (train, test) of a classification data set of TensorFlow Datasets, in its order.

    The encoded images (JPEG, PNG) are kept in memory, as many bytes as on disk, and are decoded
    when they are read. Above 32 GiB they stay on disk.

    Args:
        name: A builder's name, for instance "cifar10" or "sun397/tfds". It needs the features
            `image` and either `label`, a class, or `labels`, a sequence of classes ("voc/2007").
        train_split: By default "train"; for CIFAR its first 98 %, for imagenet2012 99 %.
        test_split: By default "test", or "validation" if there is no "test" or its labels are not
            published (imagenet2012, i_naturalist2018). A data set that has only "train" is split
            by `LabeledImages.split` if neither split is given.
        data_dir: TFDS's data folder, by default `~/tensorflow_datasets`. A data set that is not
            there is downloaded and prepared.

    Raises:
        DataError: If the name or a split is unknown, a split has no labels, the features are
            others, a class has no training images, or the files are not TFRECORD files.
    """
    builder, key = _open_classes(name, data_dir)
    default_train, default_test = default_splits(builder)
    if not (train_split or test_split or default_test):
        (whole,) = _read_classes(builder, key, [default_train])
        train, test = whole.split()
    else:
        splits = train_split or default_train, test_split or default_test or "test"
        train, test = _read_classes(builder, key, splits)
    check_every_class(train, "choose a larger part of the data set as train_split")
    return train, test


def tfds_test_images(name: str, *, data_dir: str | os.PathLike | None = None) -> LabeledImages:
    """Loads only the test images of `from_tfds`, with its default splits."""
    builder, key = _open_classes(name, data_dir)
    _, split = default_splits(builder)
    if not split:
        return from_tfds(name, data_dir=data_dir)[1]
    (test,) = _read_classes(builder, key, [split])
    return test


def default_splits(builder: "tfds.core.DatasetBuilder") -> tuple[str, str | None]:
    """The default splits (train, test) of a prepared builder; (train, None) if it has no other."""
    if builder.name in DEFAULT_SPLITS:
        return DEFAULT_SPLITS[builder.name]
    known = {*builder.info.splits}  # empty under tfds.testing.mock_data, which takes any split
    if known == {"train"}:
        return "train", None
    return "train", "validation" if "validation" in known and "test" not in known else "test"


def _open_classes(name, data_dir):
    """(The builder, prepared; the name of the feature with an image's class or classes)."""
    import tensorflow_datasets as tfds

    builder = open_builder(name, data_dir)
    features = dict(builder.info.features.items())
    label, labels = features.get("label"), features.get("labels")
    kinds = {"label": label, "labels": getattr(labels, "feature", None)}  # of a sequence
    keys = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.ClassLabel)]
    if not keys or not isinstance(features.get("image"), tfds.features.Image):
        raise DataError(
            f"{name} must have an `image` and a class `label`, or a sequence of classes `labels`, "
            f"to be learned, but its features are {', '.join(features)}: name another set"
        )
    prepare(builder)
    return builder, keys[0]


def _read_classes(builder, key, splits):
    names = builder.info.features[key].names
    return read_splits(builder, splits, {key: True}, operator.itemgetter(key), names)


def read_splits(
    builder: "tfds.core.DatasetBuilder",
    splits: Sequence[str],
    features: dict,
    label: Callable[[dict], tf.Tensor],
    class_names: Sequence[str],
    decode: Callable[[tf.Tensor], tf.Tensor] = decode_rgb,
) -> list[LabeledImages]:
    """Reads splits of a prepared builder, each in its fixed order.

    Raises DataError if a split is unknown or empty, a label is not one of the classes, or the files
    are not TFRECORD files.

    Args:
        builder: Has the images as its feature `image`.
        splits: In TFDS's notation, for instance "train[:800]+test[:200]".
        features: The features that `label` needs, as `tfds.decode.PartialDecoding` takes them.
        label: From an example's `features` to its class, or a vector of its classes.
        class_names: One name per class.
        decode: From an encoded image to uint8 [height, width, 3].
    """
    in_memory = check_splits(builder, splits)
    return [
        _read(builder, split, features, label, class_names, decode, in_memory) for split in splits
    ]


def check_splits(builder: "tfds.core.DatasetBuilder", splits: Sequence[str]) -> bool:
    """Whether a prepared builder's splits fit into memory; raises as `read_splits` does."""
    known = builder.info.splits
    if not known:  # under tfds.testing.mock_data, which takes any split
        return True
    if (file_format := builder.info.file_format.value) != "tfrecord":
        raise DataError(
            f"{builder.name} is stored in {builder.data_dir} as {file_format}, and only TFRECORD "
            "files are read; prepare it in another data_dir as TFDS does by default"
        )
    for split in splits:
        try:
            count = known[split].num_examples
        except (KeyError, ValueError):
            raise DataError(
                f"{builder.name} has no split {split!r}, only {', '.join(sorted(known))}; pass "
                "from_tfds others as train_split and test_split, 'train[:80%]' and 'train[80%:]' "
                "for instance"
            ) from None
        if count == 0:
            raise DataError(f"the split {split!r} of {builder.name} is empty; choose a larger part")
    return _num_bytes(builder, splits) <= MEMORY_LIMIT


def _num_bytes(builder, splits):
    """An estimate of the size of the splits on disk, by their share of all examples."""
    known = builder.info.splits
    if not known:  # as above
        return 0
    count = sum(known[split].num_examples for split in splits)
    return count * builder.info.dataset_size // sum(s.num_examples for s in known.values())


def _read(builder, split, features, label, class_names, decode, in_memory):
    def select(example):
        return {"label": label(example)}

    encoded, found, num_bytes = read_examples(builder, split, features, select, in_memory)
    labels = _labels(found["label"], len(class_names), f"{split!r} of {builder.name}")
    count = labels.shape[0]
    return LabeledImages(
        name=f"{builder.name}/{split}",
        labels=labels,
        class_names=class_names,
        image_size=_image_size(builder.info.features["image"].shape, encoded, count),
        read=lambda index: decode(encoded(index)),
        fingerprint=fingerprint(builder, split, count),
        num_bytes=num_bytes,
    )


def read_examples(
    builder: "tfds.core.DatasetBuilder",
    split: str,
    features: dict,
    select: Callable[[dict], dict],
    in_memory: bool,
) -> tuple[Callable[[tf.Tensor], tf.Tensor], dict, int]:
    """Reads a split whose images stay encoded, in memory or on disk.

    Returns (a function from an index to an encoded image; what `select` returns of each example's
    `features`, as one tensor for all, ragged where lengths differ; the images' bytes).
    """
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split,
        decoders=tfds.decode.PartialDecoding(
            features | ({"image": True} if in_memory else {}),
            decoders={"image": tfds.decode.SkipDecoding()} if in_memory else None,
        ),
        shuffle_files=False,
        read_config=tfds.ReadConfig(try_autocache=False, add_tfds_id=not in_memory),
    )
    image = "image" if in_memory else "tfds_id"
    dataset = dataset.map(lambda example: {image: example[image], **select(example)})
    with tf.device("CPU:0"):
        examples = dataset.ragged_batch(np.iinfo(np.int64).max).get_single_element()
    if in_memory:
        encoded = functools.partial(tf.gather, examples["image"])
        num_bytes = int(tf.reduce_sum(tf.strings.length(examples["image"])))
    else:
        num_bytes = _num_bytes(builder, [split])
        encoded = _encoded_on_disk(builder.data_path, examples["tfds_id"].numpy())
    return encoded, examples, num_bytes


def fingerprint(builder: "tfds.core.DatasetBuilder", split: str, count: int) -> int:
    """A number that tells a split of `count` examples from others."""
    return zlib.crc32(f"{builder.info.full_name}/{split}/{count}".encode())


def _encoded_on_disk(folder, ids):
    """A function from an index to the encoded image of its id, b"FILE__NUMBER"."""
    places = [tfds_id.decode().rsplit("__", 1) for tfds_id in ids]
    record = record_reader(folder, [(name, int(number)) for name, number in places])
    image = {"image": tf.io.FixedLenFeature([], tf.string)}
    return lambda index: tf.io.parse_single_example(record(index), image)["image"]


def _labels(labels, num_classes, split):
    """The labels as `LabeledImages` takes them; a ragged tensor has several classes per image."""
    if isinstance(labels, tf.RaggedTensor):
        import scipy.sparse

        classes, starts = labels.values.numpy(), labels.row_splits.numpy()
        return scipy.sparse.csr_array(
            (np.ones(len(classes), bool), classes, starts), shape=(len(starts) - 1, num_classes)
        )
    labels = labels.numpy()
    if np.all(labels == -1):  # TFDS's mark for unknown labels
        raise DataError(
            f"the split {split} has images without labels; pass from_tfds another as train_split "
            "or test_split, 'validation' for instance"
        )
    return labels


def _image_size(shape, encoded, count):
    """The (height, width) in the feature's shape, or the median of up to 1,000 images."""
    height, width, _ = shape
    if height and width:
        return height, width
    some = np.linspace(0, count - 1, min(count, 1000)).astype(int)
    sizes = [PIL.Image.open(io.BytesIO(encoded(i).numpy())).size for i in some]
    width, height = (int(side) for side in np.median(sizes, axis=0))
    return height, width
