"""A linear probe: how well least squares on frozen features tell classes apart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse

DECADES = range(-6, 4)  # the default regularizers are these powers of ten, at the features' scale
BLOCK = 4096  # examples in float64 at once: the features are never copied as a whole


class LinearProbe:
    """L2-regularized least squares from features to classes, fitted for all regularizers at once.

    For a regularizer `a` it has the weights W and the intercept b that minimize
    `|X W + b - Y|^2 + a |W|^2`, where Y has a column a class: 1 for its examples, 0 for all others
    (scikit-learn's `Ridge(alpha=a)`). Targets of +1 and -1, as others have them, would make a score
    s into 2 s - 1, and so change neither the highest score nor the choice of the regularizer.

    All come from one eigendecomposition in float64, of the features' Gram matrix or, if they are
    fewer, of the examples'. So do the errors on every example of the fit to all the others, by
    which the regularizer is chosen (Rifkin and Lippert, 2007, "Notes on regularized least
    squares", http://hdl.handle.net/1721.1/37318).

    Args:
        features: float [N, D].
        labels: int [N] in 0 .. num_classes - 1; or, where an example may have several classes or
            none, zeros and ones [N, num_classes], an array or a sparse one.
        num_classes: K.
        regularizers: Those to choose from, all above 0; by default 10 powers of ten, 1e-6 to 1e3,
            times the mean squared norm of the centered features, so that scaling the features
            changes nothing.

    Attributes:
        regularizers: float64 [R].
        errors: float64 [R], the mean over examples of the squared error, summed over classes, of
            the fit to all the other examples.
        regularizer: The one with the least error, the smallest of several such.

    Raises:
        ValueError: Features that are not finite, labels of another shape or range, the same for
            all examples, or regularizers that are not above 0.
    """

    def __init__(
        self,
        features: np.ndarray,
        labels: "np.ndarray | scipy.sparse.csr_array",
        num_classes: int,
        regularizers: Sequence[float] | None = None,
    ):
        from scipy.linalg import eigh
        from scipy.linalg.blas import dsyrk

        features = checked_features(features)
        labels = checked_labels(labels, len(features), num_classes)
        count, channels = features.shape
        self._mean = features.mean(axis=0, dtype=np.float64)
        blocks = [slice(start, start + BLOCK) for start in range(0, count, BLOCK)]

        def targets(block):
            if labels.ndim == 2:
                return labels[block].toarray().astype(np.float64)
            return (labels[block, np.newaxis] == np.arange(num_classes)).astype(np.float64)

        self._target_mean = sum(targets(block).sum(axis=0) for block in blocks) / count
        moments = np.zeros((channels, num_classes))  # X^T Y
        gram = np.zeros((channels, channels) if count >= channels else (0, 0), order="F")
        for block in blocks:
            x = features[block] - self._mean
            moments += x.T @ targets(block)
            if count >= channels:  # the upper triangle, in half the time of both
                gram = dsyrk(1.0, x.T, beta=1.0, c=gram, overwrite_c=True)
        if count < channels:
            x = features - self._mean
            gram = x @ x.T
        values, vectors = eigh(gram, lower=False, driver="evd", overwrite_a=True)
        # What is left is rounding: centered examples are never independent.
        kept = values > values[-1] * max(count, channels) * np.finfo(np.float64).eps
        self._values, self._basis = values[kept], vectors[:, kept]
        if count < channels:
            self._basis = x.T @ (self._basis / np.sqrt(self._values))
        self._moments = self._basis.T @ moments

        if regularizers is None:
            scale = self._values.sum() / count or 1.0  # of features that are all constant: any
            regularizers = [scale * 10.0**decade for decade in DECADES]
        self.regularizers = np.asarray(regularizers, np.float64)
        if not (self.regularizers.size and np.all(self.regularizers > 0)):
            raise ValueError(f"regularizers must be above 0, got {list(regularizers)}.")
        shrinkage = 1 / (self._values + self.regularizers[:, np.newaxis])  # [R, D or less]
        self.errors = np.zeros(len(shrinkage))
        for block in blocks:
            x = (features[block] - self._mean) @ self._basis
            y = targets(block) - self._target_mean
            # How much of an example's own target is in its score, by which its residual is short.
            leverages = 1 / count + x**2 @ shrinkage.T
            rest = np.maximum(1 - leverages, np.finfo(np.float64).eps)
            for i, factors in enumerate(shrinkage):
                residuals = y - x @ (self._moments * factors[:, np.newaxis])
                self.errors[i] += np.sum((residuals / rest[:, i : i + 1]) ** 2) / count
        self.regularizer = float(self.regularizers[np.argmin(self.errors)])

    def weights(self, regularizer: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns weights [D, K] and intercept [K], float64; by default of the one chosen."""
        regularizer = self.regularizer if regularizer is None else regularizer
        weights = self._basis @ (self._moments / (self._values + regularizer)[:, np.newaxis])
        return weights, self._target_mean - self._mean @ weights

    def predict(self, features: np.ndarray, regularizer: float | None = None) -> np.ndarray:
        """Returns scores, float32 [N, K], of features [N, D]; by default of the one chosen."""
        features = checked_features(features)
        weights, intercept = self.weights(regularizer)
        if features.shape[1] != len(weights):
            raise ValueError(
                f"the probe was fitted to {len(weights)} features, got {features.shape[1]}."
            )
        scores = np.empty((len(features), len(intercept)), np.float32)
        for start in range(0, len(features), BLOCK):
            block = features[start : start + BLOCK].astype(np.float64)
            scores[start : start + BLOCK] = block @ weights + intercept
        return scores


def checked_features(features):
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


def checked_labels(labels, count, num_classes):
    """int [N], or a csr_array [N, K]"""
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
            raise ValueError("labels of several classes must be zeros and ones.")
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
