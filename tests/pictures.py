"""Images made up for tests, and what a set of labeled images holds."""

import numpy as np
import PIL.Image
import scipy.sparse
import tensorflow as tf

from bit_keras import data


def picture(height=12, width=20, seed=0):
    """Smooth random colors, which JPEG keeps well."""
    random = np.random.default_rng(seed)
    small = PIL.Image.fromarray(random.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return small.resize((width, height), PIL.Image.Resampling.BICUBIC)


def numbered(labels, class_names="abc"):
    """Images of one pixel, image i having the red value i."""
    labels = labels if scipy.sparse.issparse(labels) else np.array(labels)
    images = np.zeros((labels.shape[0], 1, 1, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(images))
    pixels = tf.constant(images)
    return data.LabeledImages(
        "numbered", labels, tuple(class_names), (1, 1), lambda i: tf.gather(pixels, i)
    )


def read_all(images):
    """Every image, through a tf.data map as in training."""
    return [image.numpy() for image in tf.data.Dataset.range(len(images)).map(images.read)]


def multi_hot(count, num_classes=4, seed=0):
    """Random sets of classes, bool [count, num_classes]; the first image has none."""
    labels = np.random.default_rng(seed).random((count, num_classes)) < 0.4
    labels[0] = False
    return labels


def write_table(folder, *lines, name="table.csv", encoding="utf-8"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def same(images, others):
    """Asserts that two sets are one another's like, image by image."""
    assert (images.name, images.class_names) == (others.name, others.class_names)
    assert images.labels.tolist() == others.labels.tolist()
    assert images.fingerprint == others.fingerprint
    for one, other in zip(read_all(images), read_all(others), strict=True):
        np.testing.assert_array_equal(one, other)
