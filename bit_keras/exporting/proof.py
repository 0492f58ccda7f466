"""Real images, and how far an artifact's answers to them are from the model's."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ..models.spec import ModelSpec
from .artifact import Artifact
from .errors import ExportError

if TYPE_CHECKING:
    from ..data import LabeledImages

_PICTURES = 16
_MAX_IMAGES = 100  # of the user's own, spread evenly
_OTHER_SIZES = ((97, 97), (96, 160))  # an odd and an oblong one
_PIXELS = 224 * 224  # at once: activations take memory; smaller images come in batches


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


def own_images(images: "LabeledImages | np.ndarray", size: int) -> np.ndarray:
    """Returns at most 100 of a user's images, uint8 `[n, size, size, 3]`."""
    chosen = np.unique(np.linspace(0, len(images) - 1, _MAX_IMAGES).round().astype(int))
    if not isinstance(images, np.ndarray):
        from ..data import test_batches

        batches = test_batches(images.subset(chosen), batch=8, size=size)
        return np.concatenate([_as_uint8(batch.numpy()) for batch, _ in batches])
    images = images[chosen]
    return _resized(images if images.dtype == np.uint8 else _as_uint8(images), (size, size))


def _as_uint8(images):
    return np.rint(images * 255).astype(np.uint8)


def _resized(images, size):
    floats = images.astype(np.float32)
    resized = keras.ops.image.resize(floats, size, data_format="channels_last")
    return np.rint(keras.ops.convert_to_numpy(resized)).astype(np.uint8)


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
        scales += [np.max(np.abs(part)) for part in keras.tree.flatten(expected)]
        found = _as_arrays(artifact.compute(scaled))
        differences += _differences(found, expected)
        if size == first_size and isinstance(expected, np.ndarray) and expected.ndim == 2:
            agreements.extend(found.argmax(1) == expected.argmax(1))
        if first:
            # One image is enough to see that other functions lead to the same network.
            expected = keras.tree.map_structure(lambda part: part[:1], expected)
            encoded = spec if size == first_size else None
            differences += _of_routes(reference, artifact, pixels[0], expected, encoded)
    return {
        "images": len(images),
        "sizes": [list(size) for size in sizes],
        "largest_difference": float(np.max(differences)),  # nan, where there is one
        "scale": float(np.max(scales)),
        "top1_agreement": float(np.mean(agreements)) if agreements else None,
    }


def _of_routes(reference, artifact, pixels, expected, spec):
    """The differences of an artifact's other functions for one image, also encoded if `spec`."""
    if not (artifact.routes or artifact.compute_encoded):
        return []
    import tensorflow as tf

    from ..training.tf_workarounds import no_graph_optimization

    with no_graph_optimization():
        found = [(route(pixels[None]), expected) for route in artifact.routes.values()]
        if artifact.compute_encoded and spec:
            prepared = reference(spec.prepared(pixels)[None])
            found.append((artifact.compute_encoded(tf.io.encode_png(pixels)[None]), prepared))
    pairs = [(_as_arrays(answers), _as_arrays(wanted)) for answers, wanted in found]
    return [difference for pair in pairs for difference in _differences(*pair)]


def check_facts(artifact: Artifact, spec: ModelSpec) -> None:
    """Raises ExportError if an artifact does not tell the facts of a classifier that it should."""
    for fact in ("num_classes", "class_names", "loss", "test_size", "test_resize"):
        kept, wanted = getattr(artifact.spec, fact, None), getattr(spec, fact)
        if kept != wanted:
            raise ExportError(
                f"the export says {kept!r:.100} of {fact}, where the model has {wanted!r:.100}; "
                "nothing was written."
            )


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
    """
    import tensorflow as tf

    from ..data.sources.decoding import decode_rgb

    side = images.shape[1]
    pictures = _resized(images[:_PICTURES], (side * 3 // 2, side * 5 // 4))
    encoded = [tf.io.encode_png(picture) for picture in pictures]
    at_once = _at_once((side, side))
    batches = [encoded[i : i + at_once] for i in range(0, len(encoded), at_once)]

    def classify(compute, spec, batch):
        prepared = tf.stack([spec.prepared(decode_rgb(one)) for one in batch]).numpy()
        probabilities = spec.probabilities(compute(prepared)).numpy()
        order = np.argsort(-probabilities, kind="stable")
        names = np.array(spec.own_names(), object)
        return names[order], np.take_along_axis(probabilities, order, axis=1)

    def all_of(answers):  # of batches
        return map(np.concatenate, zip(*answers, strict=True))

    names, sure = all_of(classify(reference, spec, batch) for batch in batches)
    if artifact.classify:
        found_names, found_sure = all_of(artifact.classify(tf.stack(batch)) for batch in batches)
    else:
        found_names, found_sure = all_of(
            classify(artifact.compute, artifact.spec, batch) for batch in batches
        )
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
        at_once = _at_once(size)
        for start in range(0, len(copies), at_once):
            yield size, start == 0, copies[start : start + at_once]


def _at_once(size):
    """How many images of a size are computed at once."""
    return max(1, _PIXELS // (size[0] * size[1]))


def _as_arrays(answers):
    return keras.tree.map_structure(np.asarray, answers)


def _differences(found, expected):
    """The largest absolute difference in each array of two equal structures."""
    keras.tree.assert_same_structure(found, expected)
    differences = []
    for part, wanted in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        if part.shape != wanted.shape:
            raise ExportError(
                f"the export answers in the shape {part.shape}, where the model answers in "
                f"{wanted.shape}; nothing was written."
            )
        differences.append(np.max(np.abs(np.subtract(part, wanted, dtype=np.float64))))
    return differences
