"""Real images, and how far an artifact's answers to them are from the model's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ..data import LabeledImages, test_batches
from ..data.sources.decoding import decode_rgb
from ..models.spec import ModelSpec
from ..training.tf_workarounds import no_graph_optimization
from .artifact import Artifact
from .errors import ExportError

_PICTURES = 16
_MAX_IMAGES = 100  # of the user's own, spread evenly
_OTHER_SIZES = ((97, 97), (96, 160))  # an odd and an oblong one
_PIXELS = 2 * 224 * 224  # at once: activations take memory


def photos(size: int) -> np.ndarray:
    """Returns 16 pieces of the two photos that come with scikit-learn, uint8 `[16, s, s, 3]`."""
    _, pieces = _photos_and_pieces()
    return np.concatenate([_resized(piece[None], (size, size)) for piece in pieces])


def photos_of_many_sizes() -> list[np.ndarray]:
    """Returns the two photos that come with scikit-learn, and eight pieces of each; all uint8."""
    whole, pieces = _photos_and_pieces()
    return [*whole, *pieces]


def _photos_and_pieces():
    import sklearn.datasets

    whole = sklearn.datasets.load_sample_images().images
    halves = [half for photo in whole for half in np.array_split(photo, 2)]
    return whole, [piece for half in halves for piece in np.array_split(half, 4, axis=1)]


def own_images(images: LabeledImages | np.ndarray, size: int) -> np.ndarray:
    """Returns at most 100 of a user's images, uint8 `[n, size, size, 3]`."""
    chosen = np.unique(np.linspace(0, len(images) - 1, _MAX_IMAGES).round().astype(int))
    if isinstance(images, LabeledImages):
        batches = test_batches(images.subset(chosen), batch=8, size=size)
        return np.concatenate([_as_uint8(batch.numpy()) for batch, _ in batches])
    images = images[chosen]
    return _resized(images if images.dtype == np.uint8 else _as_uint8(images), (size, size))


def _as_uint8(images):
    return np.rint(images * 255).astype(np.uint8)


def _resized(images, size):
    return np.rint(tf.image.resize(images, size).numpy()).astype(np.uint8)


def compare(
    reference: Callable[[np.ndarray], Any],
    artifact: Artifact,
    images: np.ndarray,
    *,
    all_sizes: bool,
    spec: ModelSpec | None = None,
) -> dict[str, Any]:
    """Compares an artifact with the model it was made of.

    Args:
        reference: The model: float32 images in [0, 1] to an array, or any nested structure of
            arrays, of answers `[batch, ...]`.
        artifact: Must answer the same, in the same structure.
        images: uint8 `[N, size, size, 3]`.
        all_sizes: Compare on odd and oblong copies of the images as well.
        spec: By which the artifact prepares encoded images, if it takes them.

    Returns:
        The sizes; `largest_difference`, absolute; `scale`, the model's largest absolute answer;
        and `top1_agreement` at `size`, the part of the images whose highest answer is the same,
        or None unless the answer is one array `[batch, classes]`.

    Raises:
        ExportError: If an array has not the model's shape.
    """
    first_size = images.shape[1:3]
    sizes = [first_size, *(_OTHER_SIZES if all_sizes else ())]
    differences, scales, agreements = [], [], []
    for size, first, pixels in _batches(images, sizes):
        scaled = pixels / np.float32(255)
        expected = _as_arrays(reference(scaled))
        scales += [np.max(np.abs(part)) for part in tf.nest.flatten(expected)]
        found = _as_arrays(artifact.compute(scaled))
        differences += _differences(found, expected)
        if size == first_size and isinstance(expected, np.ndarray) and expected.ndim == 2:
            agreements.extend(found.argmax(1) == expected.argmax(1))
        if first:
            # One image is enough to see that other functions lead to the same network.
            expected = tf.nest.map_structure(lambda part: part[:1], expected)
            with no_graph_optimization():
                for route in artifact.routes.values():
                    differences += _differences(_as_arrays(route(pixels[:1])), expected)
                if artifact.compute_encoded and size == first_size:
                    expected = _as_arrays(reference(spec.prepared(pixels[0])[None]))
                    found = artifact.compute_encoded(tf.io.encode_png(pixels[0])[None])
                    differences += _differences(_as_arrays(found), expected)
    return {
        "images": len(images),
        "sizes": [list(size) for size in sizes],
        "largest_difference": float(np.max(differences)),  # nan, where there is one
        "scale": float(np.max(scales)),
        "top1_agreement": float(np.mean(agreements)) if agreements else None,
    }


def compare_pictures(
    reference: Callable[[np.ndarray], Any],
    spec: ModelSpec,
    artifact: Artifact,
    images: np.ndarray,
    allowed: float,
) -> dict[str, Any]:
    """Compares what an artifact, opened as its users open it, says of encoded pictures.

    Pictures are prepared, and answers become classes, by the facts that are in the artifact, or
    where it takes encoded pictures by itself.

    Args:
        reference: A classifier: float32 images in [0, 1] to logits.
        spec: Its facts, that should be those in the artifact.
        artifact: As `open` of its format returns it.
        images: uint8 `[N, size, size, 3]`; 16 of them become oblong pictures.
        allowed: What logits may differ by, and so probabilities; twice that is a tie.

    Returns:
        The number of `pictures`; `classes_agreement`, the part of them whose likeliest class is the
        same, or as likely; and `largest_probability_difference`.

    Raises:
        ExportError: If facts are lost.
    """
    for fact in ("num_classes", "class_names", "loss", "test_size", "test_resize"):
        kept, wanted = getattr(artifact.spec, fact, None), getattr(spec, fact)
        if kept != wanted:
            raise ExportError(
                f"the export says {kept!r:.100} of {fact}, where the model has {wanted!r:.100}; "
                "nothing was written."
            )
    side = images.shape[1]
    pictures = _resized(images[:_PICTURES], (side * 3 // 2, side * 5 // 4))
    encoded = tf.stack([tf.io.encode_png(picture) for picture in pictures])

    def classify(compute, spec):
        prepared = tf.stack([spec.prepared(decode_rgb(one)) for one in encoded]).numpy()
        probabilities = spec.probabilities(compute(prepared)).numpy()
        order = np.argsort(-probabilities, kind="stable")
        names = np.array(spec.own_names(), object)
        return names[order], np.take_along_axis(probabilities, order, axis=1)

    names, sure = classify(reference, spec)
    if artifact.classify:
        found_names, found_sure = artifact.classify(encoded)
    else:
        found_names, found_sure = classify(artifact.compute, artifact.spec)
    difference = np.abs(sure - found_sure)
    tied = sure[:, 0] - sure[:, min(1, sure.shape[1] - 1)] <= 2 * allowed
    return {
        "pictures": len(pictures),
        "classes_agreement": float(np.mean((names[:, 0] == found_names[:, 0]) | tied)),
        "largest_probability_difference": float(difference.max()),
    }


def _batches(images, sizes):
    """For each size and batch: the size, whether it is the first batch of it, and the images."""
    for size in sizes:
        copies = images if size == images.shape[1:3] else _resized(images, size)
        at_once = max(1, _PIXELS // (size[0] * size[1]))
        for start in range(0, len(copies), at_once):
            yield size, start == 0, copies[start : start + at_once]


def _as_arrays(answers):
    return tf.nest.map_structure(np.asarray, answers)


def _differences(found, expected):
    """The largest absolute difference in each array of two equal structures."""
    tf.nest.assert_same_structure(found, expected, check_types=False)
    differences = []
    for part, wanted in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        if part.shape != wanted.shape:
            raise ExportError(
                f"the export answers in the shape {part.shape}, where the model answers in "
                f"{wanted.shape}; nothing was written."
            )
        differences.append(np.max(np.abs(np.subtract(part, wanted, dtype=np.float64))))
    return differences
