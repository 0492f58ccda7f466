"""Linear probe: a regularized least-squares classifier on frozen features."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse

DECADES = range(-6, 4)  # the default regularizers are these powers of ten, at the features' scale
BLOCK = 4096  # examples in float64 at once: the features are never copied as a whole


class LinearProbe:
    """L2-regularized least squares from features to classes, fitted for all regularizers at once.

    For a regularizer `a`, the weights W and the intercept b minimize `|X W + b - Y|^2 + a |W|^2`,
    where Y has a column per class: 1 for its examples, 0 for all others (scikit-learn's
    `Ridge(alpha=a)`). Targets of +1 and -1 would lead to the same regularizer and predictions.

    One eigendecomposition in float64, of the Gram matrix of the features (or of the examples, if
    these are fewer), gives the weights for all regularizers, and the leave-one-out errors by which
    one is chosen (Rifkin and Lippert, 2007, "Notes on regularized least squares",
    http://hdl.handle.net/1721.1/37318).

    Args:
        features: float [N, D].
        labels: int [N] in 0 .. K - 1; or, where an example may have several classes or none, zeros
            and ones [N, K], an array or a sparse one.
        num_classes: K.
        regularizers: Those to choose from, all above 0; by default 10 powers of ten, 1e-6 to 1e3,
            times the mean squared norm of the centered features, so that scaling the features
            changes nothing.

    Attributes:
        regularizers: float64 [R].
        errors: float64 [R], leave-one-out: squared, summed over classes, mean over examples.
        regularizer: The one with the least error; the smallest, if there are several.

    Raises:
        ValueError: If features are not finite, labels have another shape or range or are the same
            for all examples, or regularizers are not above 0.
    """

    def __init__(
        self,
        features: np.ndarray,
        labels: "np.ndarray | scipy.sparse.csr_array",
        num_classes: int,
        regularizers: Sequence[float] | None = None,
    ):
        features = _check_features(features)
        labels = _check_labels(labels, len(features), num_classes)
        self._mean = features.mean(axis=0, dtype=np.float64)
        blocks = _blocks(features)
        targets = functools.partial(_one_hot, labels, num_classes)
        self._target_mean = sum(targets(block).sum(axis=0) for block in blocks) / len(features)
        moments = np.zeros((features.shape[1], num_classes))  # X^T Y
        for block in blocks:
            moments += (features[block] - self._mean).T @ targets(block)
        self._values, self._basis = self._decompose(features, blocks)
        self._moments = self._basis.T @ moments

        if regularizers is None:
            # Constant features have no scale, and any will do.
            scale = self._values.sum() / len(features) or 1.0
            regularizers = [scale * 10.0**decade for decade in DECADES]
        self.regularizers = np.asarray(regularizers, np.float64)
        if not (self.regularizers.size and np.all(self.regularizers > 0)):
            raise ValueError(f"regularizers must be above 0, got {list(regularizers)}.")
        self.errors = self._leave_one_out_errors(features, targets, blocks)
        self.regularizer = float(self.regularizers[np.argmin(self.errors)])

    def _decompose(self, features, blocks):
        """(eigenvalues [R] of the features' Gram matrix, their vectors [D, R]), those above 0."""
        from scipy.linalg import eigh
        from scipy.linalg.blas import dsyrk

        count, channels = features.shape
        if count < channels:  # the examples' Gram matrix is smaller and has the same eigenvalues
            x = features - self._mean
            gram = x @ x.T
        else:
            gram = np.zeros((channels, channels), order="F")
            for block in blocks:  # the upper triangle alone, in half the time
                x = features[block] - self._mean
                gram = dsyrk(1.0, x.T, beta=1.0, c=gram, overwrite_c=True)
        values, vectors = eigh(gram, lower=False, driver="evd", overwrite_a=True)
        # Smaller values are rounding errors: centered examples are never independent.
        kept = values > values[-1] * max(count, channels) * np.finfo(np.float64).eps
        values, vectors = values[kept], vectors[:, kept]
        return values, x.T @ (vectors / np.sqrt(values)) if count < channels else vectors

    def _leave_one_out_errors(self, features, targets, blocks):
        shrinkage = 1 / (self._values + self.regularizers[:, np.newaxis])  # [R, D or less]
        errors = np.zeros(len(shrinkage))
        for block in blocks:
            x = (features[block] - self._mean) @ self._basis
            y = targets(block) - self._target_mean
            # The share of its own target in an example's score, by which its residual is too small.
            leverages = 1 / len(features) + x**2 @ shrinkage.T
            rest = np.maximum(1 - leverages, np.finfo(np.float64).eps)
            for i, factors in enumerate(shrinkage):
                residuals = y - x @ (self._moments * factors[:, np.newaxis])
                errors[i] += np.sum((residuals / rest[:, i : i + 1]) ** 2) / len(features)
        return errors

    def weights(self, regularizer: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns float64 weights [D, K] and intercept [K]; by default of the best regularizer."""
        regularizer = self.regularizer if regularizer is None else regularizer
        weights = self._basis @ (self._moments / (self._values + regularizer)[:, np.newaxis])
        return weights, self._target_mean - self._mean @ weights

    def predict(self, features: np.ndarray, regularizer: float | None = None) -> np.ndarray:
        """Returns float32 scores [N, K] of features [N, D]; by default of the best regularizer."""
        features = _check_features(features)
        weights, intercept = self.weights(regularizer)
        if features.shape[1] != len(weights):
            raise ValueError(
                f"the probe was fitted to {len(weights)} features, got {features.shape[1]}."
            )
        scores = np.empty((len(features), len(intercept)), np.float32)
        for block in _blocks(features):
            scores[block] = features[block].astype(np.float64) @ weights + intercept
        return scores


def _blocks(features):
    return [slice(start, start + BLOCK) for start in range(0, len(features), BLOCK)]


def _one_hot(labels, num_classes, block):
    if labels.ndim == 2:
        return labels[block].toarray().astype(np.float64)
    return (labels[block, np.newaxis] == np.arange(num_classes)).astype(np.float64)


def _check_features(features):
    features = np.asarray(features)
    if features.ndim != 2 or features.dtype.kind != "f" or 0 in features.shape:
        raise ValueError(
            "features must be floats of shape [N, D], "
            f"got {features.dtype} of shape {list(features.shape)}."
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"features must be finite, got NaN or infinity in example {int(np.argmin(finite))}; "
            "compute them with a model of sound weights."
        )
    return features


def _check_labels(labels, count, num_classes):
    """Returns the labels as int [N], or as a csr_array [N, K]."""
    labels = labels if hasattr(labels, "tocsr") else np.asarray(labels)
    if labels.shape not in ((count,), (count, num_classes)) or labels.dtype.kind not in "biuf":
        raise ValueError(
            f"labels must be integers of shape [{count}] or zeros and ones of shape "
            f"[{count}, {num_classes}], got {labels.dtype} of shape {list(labels.shape)}."
        )
    if labels.ndim == 2:
        import scipy.sparse

        labels = scipy.sparse.csr_array(labels)
        if not np.isin(labels.data, (0, 1)).all():
            wrong = labels.data[~np.isin(labels.data, (0, 1))][0]
            raise ValueError(f"labels of several classes must be zeros and ones, got {wrong:g}.")
        shown = labels.sum(axis=0)
        same = np.all((shown == 0) | (shown == count))
    else:
        if labels.dtype.kind not in "iu":
            raise ValueError(f"labels of shape [{count}] must be integers, got {labels.dtype}.")
        if not 0 <= labels.min() <= labels.max() < num_classes:
            raise ValueError(
                f"labels must lie in 0 .. {num_classes - 1}, got {labels.min()} .. {labels.max()}."
            )
        same = labels.min() == labels.max()
    if same:
        raise ValueError("all examples have the same label; add examples of another class.")
    return labels
