"""Exports detectors: write, open, compare with the detector, and only then move into place."""

import contextlib
import importlib.metadata
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from ..choices import DETECTOR_FORMATS
from ..data import BoxedImages, without_boxes
from ..exporting import FORMATS, ExportError
from ..exporting.checks import check_packages, check_target
from ..exporting.inference_graph import computes_in_float32, inference_graph
from ..exporting.onnx import write_onnx
from ..exporting.placing import described, give_memory_back, put_in_place
from ..exporting.proof import photos_of_many_sizes
from ..exporting.quiet import quiet
from ..exporting.runtimes import open_apart
from ..files import expanded
from .detecting import MAX_BOXES, SCORE_THRESHOLD, Detections, all_detections
from .matching import agreement
from .opening import open_detector
from .serving import (
    objects_on,
    onnx_detector,
    open_saved_detector,
    write_saved_detector,
)

_IMAGES = 32  # of the user's own, spread evenly
_LEAST_MATCHED = 0.995  # suppression decides by thresholds, which rounding may cross


def export_detector(
    model: keras.Model | str | os.PathLike,
    path: str | os.PathLike,
    format: str = "saved_model",
    *,
    images: BoxedImages | None = None,
    overwrite: bool = False,
) -> float:
    """Writes a detector, reads it back, compares what it finds, and moves it into place.

    An export takes images of any size, prepares them itself, and gives boxes in their own pixels:
    of at most 100 objects an image, those with a score above 0.05. It holds the detector in
    float32, and its facts, such as the names of classes, with it. Of a Mask R-CNN it also gives the
    objects' masks, in pixels of the image. Its own runtime then answers for real images, from their
    pixels and from PNG files. What came out is printed, and written to PATH.proof.json.

    Args:
        model: The folder of a run of `fine_tune_detector`, its `model.keras`, or the model.
        path: Where to.
        format: "saved_model", a folder, with the signatures of `serving.write_saved_detector`; or
            "onnx", a file that takes float32 `images` `[batch, height, width, 3]` in [0, 1] and
            gives `boxes`, `scores` and `classes` as `serving.objects_on`. The names of classes are
            in its metadata: "bit_keras" is JSON with "class_names". Of a `RetinaNet` only.
        images: What to compare on, at most 32 of them. By default two photos and pieces of them,
            for detectors that find something there.
        overwrite: Replace an older export at `path`, once the new one was compared.

    Returns:
        The part of the objects that the detector finds, or the export, which the other finds as
        well: in the same class, with an intersection over union of 0.99 or more, of the masks as
        well (or with masks that differ by two pixels at most), and with a score that is within
        1e-3.

    Raises:
        ValueError: If `model` is no detector.
        ExportError: If another argument is wrong, a package is missing or the disk full; the format
            is not for this detector; it finds nothing on the images; or the part is below 0.995.
            `path` is then as it was.
    """
    path = pathlib.Path(expanded(path))
    if format not in DETECTOR_FORMATS:
        raise ExportError(
            f"a detector's format must be one of {', '.join(DETECTOR_FORMATS)}, got {format!r}."
        )
    check_target(path, format, overwrite)
    detector = open_detector(model)
    _check_format(detector, format)
    check_packages(format)
    shown = _photos(detector) if images is None else _some(images)
    expected = _expected(detector, shown)
    spec = detector.spec

    def answers(network, images):
        decode = Detections(spec.test_size, spec.anchor_sizes)
        return objects_on(lambda squares: decode(network(squares)), images, spec.test_size)

    def written_and_compared(written):
        with quiet(), described(detector.name, format):
            if format == "onnx":
                write_onnx(detector, written, spec=spec, answers=answers)
            else:
                write_saved_detector(detector, written, spec=spec)
            give_memory_back()
            return _compare(detector, written, format, shown, expected)

    return put_in_place(path, written_and_compared, _verdict)["matched"]


def _check_format(detector, format):
    kind = detector.spec.detector
    if format == "onnx" and kind != "retinanet":
        # tf2onnx 1.17 writes a file that ONNX Runtime refuses to open: it has neither Log1p nor
        # tables of booleans, and takes wrong sides for the matrix of the dense layer.
        raise ExportError(
            f"a {kind} is exported as saved_model only, for tf2onnx does not convert its second "
            "stage; choose that format (--format=saved_model)."
        )


def _photos(detector):
    pictures = [tf.io.encode_png(image) for image in photos_of_many_sizes()]
    encoded = tf.stack(pictures)

    def read(index):
        return tf.io.decode_png(encoded[index], channels=3)

    sizes = [tf.io.decode_png(picture).shape[:2] for picture in pictures]
    return without_boxes("two photos and pieces of them", detector.spec.names(), read, sizes)


def _some(images):
    return images.subset(np.unique(np.linspace(0, len(images) - 1, _IMAGES).round().astype(int)))


def _expected(detector, images):
    """What the detector finds on each image, in float32."""
    native = detector
    if not computes_in_float32(detector):
        native = inference_graph(detector)
    found = all_detections(native, images)
    if not any(len(one["scores"]) for one in found):
        raise ExportError(
            f"{detector.name!r} finds nothing on {images.name}, so its export cannot be compared; "
            "give images with objects that it knows (--dataset=NAME)."
        )
    return found


def _compare(detector, path, format, images, expected):
    """The content of `PATH.proof.json`."""
    pixels = [images.read(tf.constant(index, tf.int64)).numpy() for index in range(len(images))]
    with contextlib.ExitStack() as stack:
        if format == "onnx":
            spec, routes = onnx_detector(stack.enter_context(open_apart("onnx", path)))
        else:
            spec, routes = open_saved_detector(path)
        if spec != detector.spec:
            raise ExportError("the export has other facts than the detector; nothing was written.")
        compared = [
            agreement(expected, [route(image) for image in pixels], SCORE_THRESHOLD, MAX_BOXES)
            for route in routes.values()
        ]
    matched = min(one.matched for one in compared)
    has_masks = "masks" in expected[0]
    masks = {"lowest_mask_iou": min(one.mask_iou for one in compared)} if has_masks else {}
    return {
        "format": format,
        "model": detector.name,
        "notice": spec.notice,
        "images": len(images),
        "images_of": images.name,
        "objects": sum(len(one["scores"]) for one in expected),
        "routes": list(routes),
        "matched": matched,
        "least_matched": _LEAST_MATCHED,
        "largest_score_difference": max(one.score_difference for one in compared),
        "largest_corner_difference": max(one.corner_difference for one in compared),
        **masks,
        "passed": matched >= _LEAST_MATCHED,
        "proven": "Objects that its own runtime finds on these images, from pixels of any size to "
        f"classes, scores{', boxes and masks' if has_masks else ' and boxes'}, are those that the "
        "detector finds.",
        "versions": {name: importlib.metadata.version(name) for name in FORMATS[format].packages},
    }


def _verdict(proof):
    """What was measured, in words that suit whether it passed."""
    lowest = proof.get("lowest_mask_iou")
    masks = "" if lowest is None else f"; the lowest IoU of their masks is {lowest:.3f}"
    return (
        f"{proof['format']} export {'proven' if proof['passed'] else 'refused'}: "
        f"{proof['matched']:.1%} of {proof['objects']:,} objects on {proof['images']} images are "
        f"found alike, and {proof['least_matched']:.1%} must; scores are within "
        f"{proof['largest_score_difference']:.2g}, and corners within "
        f"{proof['largest_corner_difference']:.2g} pixels{masks}"
    )
