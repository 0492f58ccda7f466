"""Images and labels in memory, and the digits."""

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from pictures import multi_hot, read_all

from bit_keras import data


@pytest.mark.parametrize("shape", [(20, 6, 5), (20, 6, 5, 1), (20, 6, 5, 3)])
@pytest.mark.parametrize("scale", [None, np.float32, np.float64])
def test_arrays_come_back_as_rgb(shape, scale):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    labels = np.arange(20) % 4
    given = pixels if scale is None else pixels.astype(scale) / 255
    train, test = data.from_arrays(given, labels[:, None], test=(given[:7], labels[:7]))

    rgb = pixels if shape[-1] == 3 else np.repeat(pixels.reshape(20, 6, 5, 1), 3, axis=3)
    np.testing.assert_array_equal(read_all(train), rgb)
    np.testing.assert_array_equal(read_all(test), rgb[:7])
    np.testing.assert_array_equal(train.labels, labels)
    assert train.class_names == test.class_names == ("0", "1", "2", "3")
    assert train.image_size == (6, 5)


def test_arrays_are_captured_and_not_written_into_the_graph():
    train, _ = data.from_arrays(np.zeros((1000, 8, 8, 3), np.uint8), np.arange(1000) % 2)
    read = tf.function(train.read).get_concrete_function(tf.TensorSpec([], tf.int64))
    assert read.graph.as_graph_def().ByteSize() < 10_000


IMAGES, LABELS = np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((IMAGES[..., :2], LABELS), r"must have the shape .* got \[4, 2, 2, 2\]"),
        ((IMAGES.astype(int), LABELS), "got int64; convert"),
        ((IMAGES + 255.0, LABELS), r"got floats in \[255, 255\]"),
        ((IMAGES + np.nan, LABELS), "got floats in"),
        ((IMAGES, LABELS[:3]), r"one label per image, .* \[4, 2, 2, 3\] and labels of shape \[3\]"),
        ((IMAGES, LABELS + 0.0), r"integers of shape \[N\], .* got float64 of shape \[4\]"),
        ((IMAGES, np.eye(3)), r"one label per image, .* labels of shape \[3\]"),
        ((IMAGES, np.eye(4) / 2), "arrays must be 0 or 1, got 0.5"),
        ((IMAGES, scipy.sparse.coo_array(np.eye(4)) * 2), "arrays must be 0 or 1, got 2"),
        ((IMAGES, np.array([0, 0, 5, 5])), "got 0 .. 5"),
    ],
)
def test_wrong_arrays_are_refused(arguments, message):
    with pytest.raises(data.DataError, match=message):
        data.from_arrays(*arguments)


@pytest.mark.parametrize("given_as", [np.asarray, scipy.sparse.csr_matrix])
def test_arrays_with_several_classes_an_image(given_as):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
    labels = multi_hot(30, 3)
    train, test = data.from_arrays(pixels, given_as(labels), test=(pixels[:7], labels[:7]))
    assert train.class_names == test.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(train.labels.toarray(), labels)
    np.testing.assert_array_equal(test.labels.toarray(), labels[:7])
    np.testing.assert_array_equal(read_all(train), pixels)

    train, test = data.from_arrays(pixels, given_as(labels), test_fraction=0.3)
    assert (len(train), len(test)) == (21, 9)
    of_pixels = {p.tobytes(): row.tolist() for p, row in zip(pixels, labels, strict=True)}
    for part in (train, test):
        for image, row in zip(read_all(part), part.labels.toarray().tolist(), strict=True):
            assert of_pixels[image.tobytes()] == row


@pytest.mark.parametrize("labels", [np.array([0, 0, 2, 2]), np.eye(4, 3)[[0, 0, 2, 2]]])
@pytest.mark.parametrize("test", [None, (IMAGES, LABELS)])
def test_a_class_without_training_images_is_refused(labels, test):
    message = r"no images of 1 of its 3 classes \('y'\); give each an image, or leave it out"
    with pytest.raises(data.DataError, match=message):
        data.from_arrays(IMAGES, labels, test=test, class_names=["x", "y", "z"])


def test_many_classes_without_training_images_are_not_all_named():
    message = r"8 of its 10 classes \('c', 'd', 'e', 'f', 'g', ...\); give"
    with pytest.raises(data.DataError, match=message):
        data.from_arrays(IMAGES, LABELS, class_names=list("abcdefghij"))


def test_a_class_may_lack_test_images():
    _, test = data.from_arrays(IMAGES, LABELS, test=(IMAGES[:1], LABELS[:1]))
    assert test.num_classes == 2


def test_training_and_test_labels_are_of_one_kind():
    with pytest.raises(data.DataError, match=r"both be \[N\] or both .* got \[4\] and \[4, 2\]"):
        data.from_arrays(IMAGES, LABELS, test=(IMAGES, np.eye(2)[LABELS]))


def test_digits():
    import sklearn.datasets

    original = sklearn.datasets.load_digits()
    train, test = data.digits(10, seed=1)
    assert len(train) == 100
    assert len(test) == 1697  # ALL the others
    assert np.bincount(train.labels).tolist() == [10] * 10
    pixels = np.rint(original.images * 255 / 16).astype(np.uint8)
    of_pixels = {p.tobytes(): target for p, target in zip(pixels, original.target, strict=True)}
    for part in (train, test.subset(range(50))):
        for image, label in zip(read_all(part), part.labels, strict=True):
            assert of_pixels[image[..., 1].tobytes()] == label

    train, test = data.digits()
    assert len(train) + len(test) == 1797
    np.testing.assert_allclose(np.bincount(test.labels), 0.2 * np.bincount(original.target), atol=1)


def test_one_hot_rows_are_single_labels_unless_they_are_said_to_be_several():
    pixels = np.zeros((6, 2, 2, 3), np.uint8)
    rows = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    train, test = data.from_arrays(pixels, rows, test=(pixels[:3], rows[:3]))
    assert not train.multi_label
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert test.labels.tolist() == [0, 1, 2]
    assert data.from_arrays(pixels, rows, multi_label=True)[0].multi_label
    several = np.vstack([rows[:2], [[1, 1, 0]]])  # one such image is enough, on either side
    train, test = data.from_arrays(pixels, rows, test=(pixels[:3], several))
    assert train.multi_label
    assert test.multi_label
