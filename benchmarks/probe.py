"""Time and numerical error of a linear probe that chooses among 10 regularizers.

    python benchmarks/probe.py

Prints the median time of 3 runs, after one to warm up, to fit 10,000 images of 2,048 features and
100 classes and to predict as many test images; the largest difference from scikit-learn's Ridge in
float64, over all regularizers; and the time that Ridge takes for the 10 fits alone.
"""

import os
import statistics
import time

import numpy as np
from absl import app, flags
from sklearn.linear_model import Ridge

from bit_keras.classification.linear_probe import LinearProbe

IMAGES = flags.DEFINE_integer("images", 10_000, "To fit, and as many to predict.")
FEATURES = flags.DEFINE_integer("features", 2048, "Of an image.")
CLASSES = flags.DEFINE_integer("classes", 100, "Of the images.")


def features_and_labels(rng, centers):
    """Like pooled ReLUs: non-negative, with standard deviations from 1 to 0.001."""
    labels = rng.integers(0, len(centers), IMAGES.value)
    noise = rng.standard_normal((IMAGES.value, FEATURES.value)) * np.logspace(0, -3, FEATURES.value)
    return np.maximum(noise + centers[labels], 0).astype(np.float32), labels


def main(_):
    rng = np.random.default_rng(0)
    centers = 0.01 * rng.standard_normal((CLASSES.value, FEATURES.value))
    (features, labels), (unseen, truth) = (features_and_labels(rng, centers) for _ in range(2))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        probe = LinearProbe(features, labels, CLASSES.value)
        scores = probe.predict(unseen)
        seconds.append(time.perf_counter() - start)
    print(
        f"{IMAGES.value:,} images of {FEATURES.value:,} features and {CLASSES.value:,} classes on "
        f"{os.cpu_count()} CPUs: {statistics.median(seconds[1:]):.2f} s to fit "
        f"{len(probe.regularizers)} regularizers, choose one and predict as many; "
        f"accuracy {np.mean(scores.argmax(axis=1) == truth):.2%}.",
        flush=True,
    )
    features, unseen = features.astype(np.float64), unseen.astype(np.float64)
    targets = np.eye(CLASSES.value)[labels]
    fitting, differences = 0.0, []
    for regularizer in probe.regularizers:
        start = time.perf_counter()
        ridge = Ridge(alpha=regularizer).fit(features, targets)
        fitting += time.perf_counter() - start
        expected = ridge.predict(unseen)
        differences.append(np.abs(probe.predict(unseen, regularizer) - expected).max())
    print(f"Largest difference from scikit-learn's Ridge: {max(differences):.1e}")
    print(f"Ridge: {fitting:.1f} s to fit the {len(differences)} regularizers")


if __name__ == "__main__":
    app.run(main)
