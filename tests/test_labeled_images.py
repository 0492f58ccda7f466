"""Labeled images: the reference's samples, splits, labels of one class and of several."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from pictures import multi_hot, numbered, read_all

from bit_keras import data


def numbers(images):
    return [int(image[0, 0, 0]) for image in read_all(images)]


def test_few_shot_draws_the_reference_codes_sample():
    labels = np.random.default_rng(0).integers(0, 3, 60)
    images = numbered(labels)

    np.random.seed(7)
    expected = np.concatenate(
        [np.random.choice(np.where(labels == c)[0], 5, replace=False) for c in range(3)]
    )
    state = np.random.get_state()[1].copy()
    sample, rest = images.split_few_shot(5, seed=7)

    assert numbers(sample) == expected.tolist() == numbers(images.few_shot(5, seed=7))
    np.testing.assert_array_equal(sample.labels, np.repeat([0, 1, 2], 5))
    assert numbers(rest) == sorted(set(range(60)) - set(expected.tolist()))
    np.testing.assert_array_equal(rest.labels, labels[numbers(rest)])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # global state left alone


def test_subsets_compose():
    images = numbered([0, 1, 2, 0, 1, 2])
    part = images.subset([5, 3, 1, 0]).subset([2, 0])
    assert numbers(part) == [1, 5]
    assert part.labels.tolist() == [1, 2]


@pytest.mark.parametrize("fraction", [0.01, 0.25, 0.99])
def test_split_parts_every_class_by_the_seed(fraction):
    images = numbered([0] * 8 + [1] * 2 + [2] * 40)
    train, test = images.split(fraction, seed=3)
    assert sorted(numbers(train) + numbers(test)) == list(range(50))
    for label, size in enumerate([8, 2, 40]):
        in_test = np.sum(test.labels == label)
        assert 1 <= in_test <= size - 1
        assert abs(in_test - fraction * size) <= 1
    assert numbers(test) == numbers(images.split(fraction, seed=3)[1]) == sorted(numbers(test))
    if fraction == 0.25:
        assert numbers(test) != numbers(images.split(fraction, seed=4)[1])


@pytest.mark.parametrize(
    "given_as",
    [
        *(np.bool_, np.uint8, np.int64, np.float16, np.float64),
        *(scipy.sparse.csr_array, scipy.sparse.csc_array, scipy.sparse.coo_matrix),
    ],
)
def test_multi_hot_labels_of_any_format(given_as):
    dense = multi_hot(20)
    images = numbered(given_as(dense), "abcd")
    assert images.multi_label
    assert len(images) == 20
    assert images.labels.dtype == bool
    np.testing.assert_array_equal(images.labels.toarray(), dense)
    part = images.subset([7, 0, 7, 19])
    np.testing.assert_array_equal(part.labels.toarray(), dense[[7, 0, 7, 19]])
    assert numbers(part) == [7, 0, 7, 19]
    assert not numbered([0, 1]).multi_label


def test_untidy_sparse_labels_are_tidied_in_a_copy():
    # Image 0 has class 2 twice and class 1 not; image 1 has classes 2 and 0, in that order.
    values, classes = np.array([True, False, True, True, True]), np.array([2, 1, 2, 2, 0])
    given = scipy.sparse.csr_array((values, classes, np.array([0, 3, 5])), shape=(2, 3))
    images = numbered(given)
    assert images.labels.indices.tolist() == [2, 0, 2]
    assert images.labels.indptr.tolist() == [0, 1, 3]
    assert given.indices.tolist() == [2, 1, 2, 2, 0]


@pytest.mark.parametrize("labels", [np.arange(50) % 4, multi_hot(50), np.zeros((50, 4))])
def test_targets_are_the_labels_rows(labels):
    expected = np.eye(4)[labels] if labels.ndim == 1 else labels
    target = numbered(labels, "abcd").targets()
    targets = np.stack([*tf.data.Dataset.range(50).map(target).as_numpy_iterator()])
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets, expected)


@pytest.mark.parametrize("labels", [np.arange(5000) % 4, multi_hot(5000)])
def test_targets_are_captured_and_not_written_into_the_graph(labels):
    target = tf.function(numbered(labels, "abcd").targets())
    graph = target.get_concrete_function(tf.TensorSpec([], tf.int64)).graph
    assert graph.as_graph_def().ByteSize() < 10_000


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_a_multi_label_split_leaves_every_class_to_train_on(fraction):
    labels = multi_hot(100, 8)
    labels[:, 5] = np.arange(100) == 3  # one image only
    labels[:, 6] = np.arange(100) > 97
    labels[:, 7] = False
    images = numbered(labels, "abcdefgh")
    seen = set()
    for seed in range(4):
        train, test = images.split(fraction, seed)
        assert (train.name, test.name) == ("numbered/train", "numbered/test")
        tested = numbers(test)
        assert numbers(train) == sorted({*range(100)} - {*tested})
        assert tested == sorted(tested)
        assert len(tested) == 100 * fraction or (fraction == 0.99 and 93 <= len(tested) < 100)
        np.testing.assert_array_equal(test.labels.toarray(), labels[tested])
        assert train.labels.toarray().any(0).tolist() == [True] * 7 + [False]
        seen.add(tuple(tested))
    assert len(seen) == 4
    np.testing.assert_array_equal(numbers(images.split(fraction, seed)[0]), numbers(train))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: numbered([]), "numbered holds no images"),
        (lambda: numbered([0, 3]), r"lie in 0 .. 2 .* got 0 .. 3"),
        (lambda: numbered([0, -1]), r"lie in 0 .. 2 .* got -1 .. 0"),
        (lambda: numbered([0.0, 1.0]), "must be integers of shape"),
        (lambda: numbered([0, 0, 1]).split(), "class 'b' of numbered has 1 images"),
        (lambda: numbered([0] * 4).split(1.0), "between 0 and 1, got 1.0"),
        (lambda: numbered([0, 0, 1, 2]).few_shot(2), "'b' of numbered has 1 images.* the 2 examp"),
        (lambda: numbered([0, 1, 2]).few_shot(0), "must be 1 or more, got 0"),
        (lambda: numbered([0, 1, 2]).split_few_shot(1), "none is left to test on"),
        (lambda: numbered(np.zeros((0, 3))), "numbered holds no images"),
        (lambda: numbered(np.zeros((4, 0)), ""), "numbered holds no classes"),
        (
            lambda: numbered(np.eye(4)),
            r"zeros and ones of shape \[N, 3\] for its 3 class names, .* \[4, 4\]",
        ),
        (lambda: numbered(np.eye(3).astype(str)), r"zeros and ones of shape .* got <U"),
        (lambda: numbered(np.eye(3)[None]), r"zeros and ones of shape .* got .* \[1, 3, 3\]"),
        (lambda: numbered(np.eye(3) * 0.9), "numbered must be 0 or 1, got 0.9"),
        (lambda: numbered(np.eye(3) * np.nan), "numbered must be 0 or 1, got nan"),
        (lambda: numbered(np.eye(3, dtype=int) * 2), "numbered must be 0 or 1, got 2"),
        (lambda: numbered(stray(3)), "must lie in 0 .. 2 .* got 3 .. 3"),
        (lambda: numbered(stray(-1)), "must lie in 0 .. 2 .* got -1 .. -1"),
        (lambda: numbered(np.eye(3)).split(), "every image of numbered is needed to train on"),
        (lambda: numbered(np.ones((9, 3))).split(0.0), "between 0 and 1, got 0.0"),
        (lambda: numbered(np.ones((9, 3))).few_shot(2), "2 examples a class cannot be chosen"),
        (lambda: numbered(np.ones((9, 3))).split_few_shot(2), "cannot be chosen from numbered, wh"),
    ],
)
def test_impossible_sets_are_refused(call, message):
    with pytest.raises(data.DataError, match=message):
        call()


def stray(label):
    """One image of a class that is none of the three, as only a broken sparse array can have it."""
    labels = scipy.sparse.csr_array(np.eye(1, 3))
    labels.indices[:] = label
    return labels


def test_importing_the_room_loads_nothing_optional():
    # TensorFlow itself loads scikit-learn where it is installed.
    code = """
import sys, tensorflow
before = {*sys.modules}
import bit_keras.data
print({"sklearn", "tensorflow_datasets", "matplotlib"} & ({*sys.modules} - before))
"""
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "set()"


def test_fingerprints_tell_images_apart(tmp_path):
    images = np.zeros((6, 32, 32, 3), np.uint8)
    labels = np.array([0, 1] * 3)
    one = data.from_arrays(images, labels, test=(images, labels))[0]
    images[3, 5, 5] = 1
    two = data.from_arrays(images, labels, test=(images, labels))[0]
    found = {one.fingerprint, two.fingerprint, one.few_shot(1, 0).fingerprint}
    assert len(found | {one.few_shot(1, 1).fingerprint}) == 4
    assert one.few_shot(1, 1).fingerprint == one.few_shot(1, 1).fingerprint
