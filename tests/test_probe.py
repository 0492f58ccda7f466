import numpy as np
import pytest
import scipy.sparse
from sklearn.linear_model import Ridge

from bit_keras.classification import linear_probe as probe
from bit_keras.classification.linear_probe import LinearProbe


def examples(count, channels, num_classes, seed=0):
    """Non-negative features of a large mean, like pooled ReLUs; one is constant, two are equal."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    centers = rng.normal(size=(num_classes, channels))
    features = np.abs(3 + centers[labels] + rng.normal(size=(count, channels)))
    features[:, 1] = 0
    features[:, 3] = features[:, 2]
    return features.astype(np.float32), labels


SHAPES = [
    (60, 12, 5),
    (12, 12, 3),
    (13, 12, 2),  # as many centered examples as features
    (10, 40, 10),  # one example a class
    (2, 40, 2),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_those_of_scikit_learn(shape, monkeypatch):
    monkeypatch.setattr(probe, "BLOCK", 7)  # several blocks, the last one shorter
    features, labels = examples(*shape)
    unseen, _ = examples(*shape, seed=1)
    fitted = LinearProbe(features, labels, shape[2])
    assert len(fitted.regularizers) == 10
    for regularizer in fitted.regularizers:
        ridge = Ridge(alpha=regularizer)
        ridge.fit(features.astype(np.float64), np.eye(shape[2])[labels])
        expected = ridge.predict(unseen.astype(np.float64)).reshape(len(unseen), -1)
        scores = fitted.predict(unseen, regularizer)
        np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_errors_are_those_of_leaving_each_example_out(shape, monkeypatch):
    monkeypatch.setattr(probe, "BLOCK", 7)
    features, labels = examples(*shape)
    targets = np.eye(shape[2])[labels]
    fitted = LinearProbe(features, labels, shape[2])
    squares = np.zeros((len(features), len(fitted.regularizers), shape[2]))
    for i in range(len(features)):
        ridge = Ridge(alpha=np.repeat(fitted.regularizers, shape[2]))  # one for each column
        kept = np.tile(np.delete(targets, i, 0), len(fitted.regularizers))
        ridge.fit(np.delete(features, i, axis=0).astype(np.float64), kept)
        answers = ridge.predict(features[i : i + 1].astype(np.float64))
        squares[i] = (answers.reshape(-1, shape[2]) - targets[i]) ** 2
    np.testing.assert_allclose(fitted.errors, squares.sum(axis=2).mean(axis=0), rtol=1e-5)
    assert fitted.regularizer == fitted.regularizers[np.argmin(fitted.errors)]


def test_the_choice_avoids_fitting_noise():
    """One of 100 features has the class; the least regularized fit learns the noise of others."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2120)
    features = rng.normal(size=(2120, 100)).astype(np.float32)
    features[:, 0] += 3 * labels
    fitted = LinearProbe(features[:120], labels[:120], 2)

    def accuracy(regularizer):
        return np.mean(fitted.predict(features[120:], regularizer).argmax(axis=1) == labels[120:])

    assert accuracy(None) == accuracy(fitted.regularizer) > accuracy(fitted.regularizers[0]) + 0.05


def test_several_classes_an_example():
    features, _ = examples(30, 8, 3)
    targets = np.random.default_rng(1).integers(0, 2, (30, 3))
    dense = LinearProbe(features, targets, 3, [2.0])
    ridge = Ridge(alpha=2.0).fit(features.astype(np.float64), targets)
    np.testing.assert_allclose(dense.predict(features), ridge.predict(features), atol=1e-5)
    sparse = LinearProbe(features, scipy.sparse.csr_array(targets.astype(bool)), 3, [2.0])
    np.testing.assert_array_equal(sparse.predict(features), dense.predict(features))
    assert sparse.errors == dense.errors


def test_neither_scale_nor_targets_of_minus_one_change_an_answer():
    features, labels = examples(40, 60, 4)
    fitted, scaled = (LinearProbe(factor * features, labels, 4) for factor in (1, 1000))
    np.testing.assert_allclose(scaled.predict(1000 * features), fitted.predict(features), atol=1e-5)
    ridge = Ridge(alpha=fitted.regularizer).fit(
        features.astype(np.float64), 2 * np.eye(4)[labels] - 1
    )
    np.testing.assert_allclose(
        2 * fitted.predict(features) - 1, ridge.predict(features.astype(np.float64)), atol=1e-5
    )


def test_constant_features_give_the_classes_frequencies():
    fitted = LinearProbe(np.ones((4, 3), np.float32), np.array([0, 0, 0, 1]), 3)
    np.testing.assert_allclose(fitted.predict(np.zeros((1, 3), np.float32)), [[0.75, 0.25, 0]])


GOOD = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.where(GOOD == 7, np.nan, GOOD), [0, 1, 0, 1], "NaN or infinity in example 2"),
        (GOOD[0], [0], r"floats of shape \[N, D\], got float32 of shape \[3\]"),
        (GOOD.astype(int), [0, 1, 0, 1], r"floats of shape \[N, D\], got int"),
        (GOOD, [0, 1, 2, 3], r"lie in 0 .. 2, got 0 .. 3"),
        (GOOD, [0, 1, -1, 2], r"lie in 0 .. 2, got -1 .. 2"),
        (GOOD, [0, 1, 0], r"integers of shape \[4\] or zeros and ones of shape \[4, 3\], got int"),
        (GOOD, [0.0, 1.0, 0.0, 1.0], "must be integers, got float64"),
        (GOOD, [2, 2, 2, 2], "all examples have the same label"),
        (GOOD, [[1, 0, 1]] * 4, "all examples have the same label"),
        (GOOD, 2 * np.eye(4)[:, :3], "must be zeros and ones"),
    ],
)
def test_mistakes_get_one_sentence(features, labels, message):
    with pytest.raises(ValueError, match=message):
        LinearProbe(features, labels, 3)


def test_wrong_regularizers_and_unseen_features():
    with pytest.raises(ValueError, match=r"regularizers must be above 0, got \[1, 0\]"):
        LinearProbe(GOOD, [0, 1, 0, 1], 3, [1, 0])
    with pytest.raises(ValueError, match="fitted to 3 features, got 2"):
        LinearProbe(GOOD, [0, 1, 0, 1], 3).predict(GOOD[:, :2])
