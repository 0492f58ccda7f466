"""Labeled images from arrays in memory, and scikit-learn's handwritten digits."""

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ..labeled_images import DataError, LabeledImages, check_every_class


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    multi_label: bool = False,
) -> tuple[LabeledImages, LabeledImages]:
    """Returns (train, test) from arrays, for instance those of `keras.datasets`.

    Args:
        images: [N, height, width, 3], or gray as [N, height, width] or [N, height, width, 1]; uint8
            in 0 .. 255, or floats in [0, 1], which are rounded to uint8.
        labels: Integers [N] or [N, 1], in 0 .. num_classes - 1; or names of classes, which are then
            numbered in the order of `class_names`, or of the alphabet; or, for images with several
            classes or none, zeros and ones [N, num_classes], 2 classes or more, in NumPy or
            scipy.sparse.
        test: The test set's (images, labels); without it, `LabeledImages.split` splits the images.
        test_fraction, seed: As in `LabeledImages.split`.
        class_names: One name per class; by default "0", "1", ...
        multi_label: Whether images may have several classes although every row of zeros and ones
            has a single one; by default such rows are one-hot, and each image has one class.

    Raises:
        DataError: If arrays have other shapes, dtypes or ranges, or a class has no training images.
    """
    images, labels = _as_arrays(images, labels, "the images to train on")
    if test is not None:
        test = _as_arrays(*test, "the images to test on")
    if _are_names(labels):
        class_names, labels, test = _numbered(labels, test, class_names)
    columns = labels.shape[1] if len(labels.shape) == 2 else 1
    labels, test_labels = _single_or_multi_hot(labels, test and test[1], multi_label)
    if class_names is None:
        num_classes = columns if columns > 1 else len(np.unique(labels))
        class_names = [str(label) for label in range(num_classes)]
    name = "arrays" if test is None else "arrays/train"
    train = _from_array(name, images, labels, class_names)
    check_every_class(train, "give each an image, or leave it out and renumber the others")
    if test is None:
        return train.split(test_fraction, seed)
    test = _from_array("arrays/test", test[0], test_labels, class_names)
    if test.multi_label != train.multi_label:
        raise DataError(
            "the training and the test labels must both be [N] or both [N, num_classes], got "
            f"{list(train.labels.shape)} and {list(test.labels.shape)}"
        )
    return train, test


def digits(
    examples_per_class: int | None = None, *, seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """scikit-learn's 1,797 handwritten digits: 8x8, gray, 10 classes; needs no download.

    Returns:
        (train, test), a stratified split of 80 and 20 %; with `examples_per_class`, that many
        training images of each class (`LabeledImages.few_shot`) and all others as test images.
    """
    import sklearn.datasets

    bunch = sklearn.datasets.load_digits()
    names = [str(name) for name in bunch.target_names]
    everything = dataclasses.replace(
        _from_array("digits", bunch.images / 16, bunch.target, names),
        augmentations=frozenset({"crop"}),  # mirrored, only 0 and 8 remain digits
    )
    if examples_per_class is None:
        return everything.split(seed=seed)
    return everything.split_few_shot(examples_per_class, seed)


def _as_arrays(images, labels, what):
    """Images and labels as arrays; labels of scipy.sparse stay as they are."""
    try:
        images = np.asarray(images)
        labels = labels if hasattr(labels, "tocsr") else np.asarray(labels)
    except ValueError as error:  # lists of unlike arrays
        raise DataError(
            f"{what} and their labels must be arrays of one shape, got {type(images).__name__} of "
            "several; resize the images first, or give files by `from_directory` or `from_csv`"
        ) from error
    return images, labels


def _are_names(labels):
    kind = labels.dtype.kind
    return kind in "SU" or (kind == "O" and all(isinstance(name, str) for name in labels.flat))


def _numbered(labels, test, class_names):
    """(class names, labels, test) where labels are names."""
    given = [labels, *([] if test is None else [test[1]])]
    names = sorted({str(name) for some in given for name in np.ravel(some)})
    class_names = names if class_names is None else [*map(str, class_names)]
    if unknown := {*names} - {*class_names}:
        raise DataError(f"labels must be of class_names, got {sorted(unknown)[0]!r}")
    number = {name: i for i, name in enumerate(class_names)}
    given = [np.array([number[str(name)] for name in np.ravel(some)]) for some in given]
    return class_names, given[0], test and (test[0], given[1])


def _single_or_multi_hot(labels, test_labels, multi_label):
    """Labels of both sets as `LabeledImages` takes them; rows that are one-hot become integers."""
    both = [
        part if part is None or hasattr(part, "tocsr") else np.asarray(part)
        for part in (labels, test_labels)
    ]
    both = [  # [N, 1], as in keras.datasets.cifar10
        part[:, 0] if getattr(part, "shape", (0,))[1:] == (1,) else part for part in both
    ]
    if not multi_label and all(map(_is_one_hot, (part for part in both if part is not None))):
        both = [None if part is None else np.asarray(part.argmax(axis=1)).ravel() for part in both]
    return both


def _is_one_hot(labels):
    """Whether labels are rows of zeros and exactly one one; a scipy.sparse array is not asked."""
    if hasattr(labels, "tocsr") or labels.ndim != 2 or labels.dtype.kind not in "biuf":
        return False
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())


def uint8_images(images: np.ndarray, name: str) -> np.ndarray:
    """Returns arrays as uint8 `[N, height, width, 3 or 1]`; DataError if they are no images.

    They are given as in `from_arrays`; `name` is what to call them in the message.
    """
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise DataError(
            f"the images of {name} must have the shape [N, height, width, 3] or, gray, "
            f"[N, height, width], got {list(images.shape)}"
        )
    if images.dtype.kind == "f":
        if images.size and not (images.min() >= 0 and images.max() <= 1):
            raise DataError(
                f"the images of {name} must be floats in [0, 1] or uint8 in 0 .. 255, got floats "
                f"in [{images.min():g}, {images.max():g}]; scale or convert them"
            )
        images = np.rint(images * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        raise DataError(
            f"the images of {name} must be uint8 in 0 .. 255 or floats in [0, 1], got "
            f"{images.dtype}; convert them with images.astype('uint8')"
        )
    return images


def _from_array(name, images, labels, class_names):
    images = uint8_images(images, name)
    if images.shape[:1] != labels.shape[:1]:
        raise DataError(
            f"{name} must have one label per image, got images of shape {list(images.shape)} and "
            f"labels of shape {list(labels.shape)}"
        )
    with tf.device("CPU:0"):
        pixels = tf.constant(images)
    height, width = images.shape[1:3]

    def read(index):
        return tf.broadcast_to(tf.gather(pixels, index), [height, width, 3])

    fingerprint = zlib.crc32(np.ascontiguousarray(images))
    return LabeledImages(
        name, labels, class_names, (height, width), read, fingerprint, num_bytes=images.nbytes
    )
