"""Real images, and how far an artifact's answers to them are from the model's."""

from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from ..data import LabeledImages, test_batches

MAX_IMAGES = 100  # of the user's own, spread evenly
OTHER_SIZES = ((97, 97), (96, 160))  # an odd and an oblong one
PIXELS = 100_000  # at once, two images of 224 x 224: activations take memory


def photos(size: int) -> np.ndarray:
    """Returns 16 pieces of the two photos that come with scikit-learn, uint8 `[16, s, s, 3]`."""
    import sklearn.datasets

    pieces = [
        piece
        for photo in sklearn.datasets.load_sample_images().images
        for row in np.array_split(photo, 2)
        for piece in np.array_split(row, 4, axis=1)
    ]
    return np.concatenate([resized(piece[None], (size, size)) for piece in pieces])


def own_images(images: LabeledImages | np.ndarray, size: int) -> np.ndarray:
    """Returns at most 100 of a user's images, uint8 `[n, size, size, 3]`."""
    chosen = np.unique(np.linspace(0, len(images) - 1, MAX_IMAGES).round().astype(int))
    if isinstance(images, LabeledImages):
        batches = test_batches(images.subset(chosen), batch=8, size=size)
        return np.concatenate([as_uint8(batch.numpy()) for batch, _ in batches])
    images = images[chosen]
    return resized(images if images.dtype == np.uint8 else as_uint8(images), (size, size))


def as_uint8(images):
    return np.rint(images * 255).astype(np.uint8)


def resized(images, size):
    return np.rint(tf.image.resize(images, size).numpy()).astype(np.uint8)


def compare(
    model: keras.Model,
    answers: Callable[[np.ndarray], Iterable[np.ndarray]],
    images: np.ndarray,
    *,
    all_sizes: bool,
) -> dict[str, float]:
    """Compares an artifact with the model it was made of.

    Args:
        model: What the artifact must answer as.
        answers: uint8 `[n, h, w, 3]` to one or more answers `[m, ...]` to the first m images.
        images: uint8 `[N, size, size, 3]`.
        all_sizes: Compare on odd and oblong copies of the images as well.

    Returns:
        The sizes; `largest_difference`, absolute; `scale`, the model's largest absolute answer;
        and `top1_agreement` at `size`, the part of the images whose highest answer is the same.
    """
    sizes = [images.shape[1:3], *(OTHER_SIZES if all_sizes else ())]
    differences, scales, agreements = [], [], []
    for size in sizes:
        copies = images if size == images.shape[1:3] else resized(images, size)
        at_once = max(1, PIXELS // (size[0] * size[1]))
        for start in range(0, len(copies), at_once):
            batch = copies[start : start + at_once]
            expected = model(batch / np.float32(255), training=False).numpy()
            scales.append(np.max(np.abs(expected)))
            for answer in answers(batch):
                answer = np.asarray(answer)
                differences.append(np.max(np.abs(answer - expected[: len(answer)])))
                if size == sizes[0] and len(answer) == len(batch):
                    agreements.extend(answer.argmax(1) == expected.argmax(1))
    return {
        "images": len(images),
        "sizes": [list(size) for size in sizes],
        "largest_difference": float(np.max(differences)),  # nan, where there is one
        "scale": float(np.max(scales)),
        "top1_agreement": float(np.mean(agreements)),
    }
