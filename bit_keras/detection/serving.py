"""A detector as other programs use it: from images of any size to boxes in their own pixels."""

import os
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from ..data.masks import mask_code
from ..data.pipelines.detection import fitted, letterboxed
from ..data.sources.upright import decode_upright
from ..exporting import ExportError
from ..exporting.inference_graph import inference_graph
from ..exporting.runtimes import Opened
from ..models.spec import ModelSpec
from ..models.spec_files import IN_SAVED_MODEL, read_spec
from ..training import inference_function
from .detecting import MAX_BOXES, detecting
from .mask_pasting import pasted_in_graph

_WHITE = np.float32(255)


def objects_on(
    network: Callable[[tf.Tensor], dict[str, tf.Tensor]], images: tf.Tensor, size: int
) -> dict[str, tf.Tensor]:
    """Returns the objects on images of one size, which are prepared as `all_detections` does it.

    Args:
        network: From squares to detections, as `detecting`.
        images: float32 `[batch, height, width, 3]` in [0, 1].
        size: Side in pixels of the squares.

    Returns:
        `boxes`, float32 `[batch, 100, 4]` as left, top, right, bottom in pixels of these images;
        `scores`, float32 `[batch, 100]`, the highest first; and `classes`, int32 `[batch, 100]`.
        Where there are fewer, the class is -1, and box and score are 0. Of detectors of masks also
        `masks`, uint8 `[batch, D, height, width]`, 1 where the object is and 0 elsewhere, with D
        the most objects that an image of this batch has, at least 1: the masks of all 100 rows
        would take 1.2 GB for a photo of 12 million pixels.
    """
    squares, scale = letterboxed(images, size)
    return _objects(network(squares), scale, tf.shape(images)[1:3])


def _objects(found, scale, sides):
    """From detections; `scale` and `sides`, [2] or [batch, 2], lead back to images."""
    # Gathered, not sliced: tf2onnx does not write ellipses and new axes of rank 1 correctly.
    limits = tf.cast(tf.gather(sides, [1, 0, 1, 0], axis=-1), tf.float32)
    scale = tf.gather(scale, [0, 1, 0, 1], axis=-1)
    whole = found["boxes"] / tf.expand_dims(scale, -2)
    boxes = tf.clip_by_value(whole, 0, tf.expand_dims(limits, -2))
    # Of what is found in the gray around an image, nothing is left within it.
    kept = (found["classes"] >= 0) & tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=-1)
    scores, order = tf.math.top_k(tf.where(kept, found["scores"], 0.0), MAX_BOXES)
    boxes, classes, kept = (
        tf.gather(part, order, batch_dims=1)
        for part in (boxes, found["classes"], tf.cast(kept, tf.int32))
    )
    objects = {
        "boxes": boxes * tf.cast(kept, tf.float32)[..., None],
        "scores": scores,
        "classes": tf.where(kept > 0, classes, -1),
    }
    if "masks" in found:  # a mask is of the whole box, also where that is cut off
        most = tf.maximum(1, tf.reduce_max(tf.reduce_sum(kept, axis=1)))
        masks, whole = (
            tf.gather(part, order[:, :most], batch_dims=1) for part in (found["masks"], whole)
        )
        masks *= tf.cast(kept[:, :most, None, None], tf.float32)
        sides = tf.broadcast_to(sides, [tf.shape(masks)[0], 2])
        objects["masks"] = pasted_in_graph(masks, whole, sides)
    return objects


def write_saved_detector(model: keras.Model, path: pathlib.Path, *, spec: ModelSpec) -> None:
    """Writes a SavedModel whose signatures answer as `objects_on`, with names of classes.

    "serving_default" takes float32 `images` in [0, 1], "serve_uint8" uint8 `images`, both `[batch,
    height, width, 3]`; "serve_encoded" takes `encoded`, strings `[batch]` that hold JPEG, PNG,
    WebP, BMP or GIF files of any sizes. All add `class_names`, strings `[batch, 100]`, empty where
    there is no object. Of files of different sizes, masks have the height and width of the largest;
    each image is in the upper left corner, and nothing is beyond it.
    """
    graph = inference_graph(model)
    network = inference_function(detecting(graph))
    names = tf.constant([*spec.own_names(), ""])

    def named(found):
        classes = tf.where(found["classes"] < 0, len(names) - 1, found["classes"])
        return {**found, "class_names": tf.gather(names, classes)}

    def serving_default(images):
        return named(objects_on(network, images, spec.test_size))

    def serve_uint8(images):
        return serving_default(tf.cast(images, tf.float32) / 255)

    def serve_encoded(encoded):
        def read(one):
            image = decode_upright(one)
            return *fitted(image, spec.test_size), tf.shape(image)[:2]

        square = tf.TensorSpec((spec.test_size, spec.test_size, 3), tf.float32)
        pair = tf.TensorSpec((2,), tf.float32), tf.TensorSpec((2,), tf.int32)
        squares, scales, sides = tf.map_fn(read, encoded, fn_output_signature=(square, *pair))
        return named(_objects(network(squares), scales, sides))

    any_size = (None, None, None, 3)
    inputs = {
        serving_default: tf.TensorSpec(any_size, tf.float32, name="images"),
        serve_uint8: tf.TensorSpec(any_size, tf.uint8, name="images"),
        serve_encoded: tf.TensorSpec((None,), tf.string, name="encoded"),
    }
    module = tf.train.Checkpoint()  # the plain object to which TensorFlow lets one add attributes
    module.variables = [variable.value for variable in graph.variables]
    signatures = {
        function.__name__: tf.function(function, autograph=False).get_concrete_function(taken)
        for function, taken in inputs.items()
    }
    tf.saved_model.save(module, os.fspath(path), signatures=signatures)
    (path / IN_SAVED_MODEL).parent.mkdir()
    (path / IN_SAVED_MODEL).write_text(spec.to_json(), encoding="utf-8")


def open_saved_detector(path: pathlib.Path) -> tuple[ModelSpec, dict[str, Callable]]:
    """Opens what `write_saved_detector` wrote.

    Returns:
        Its facts; and by the name of each signature a function from uint8 [height, width, 3] to
        objects, as `all_detections` gives those of an image, masks included.
    """
    signatures = tf.saved_model.load(os.fspath(path)).signatures
    spec = read_spec(path)

    def objects(found):
        # Tensors would copy their masks, of a gigabyte and more, at each step.
        found = {name: np.asarray(part)[0] for name, part in found.items()}
        names = np.array([*spec.own_names(), ""], object)[found["classes"]]
        if names.tolist() != [name.decode() for name in found["class_names"]]:
            raise ExportError("the export names other classes than it finds; nothing was written.")
        return _there(found)

    def serving_default(pixels):
        return objects(signatures["serving_default"](images=tf.constant(pixels[None] / _WHITE)))

    def serve_uint8(pixels):
        return objects(signatures["serve_uint8"](images=tf.constant(pixels[None])))

    def serve_encoded(pixels):
        return objects(signatures["serve_encoded"](encoded=tf.io.encode_png(pixels)[None]))

    routes = serving_default, serve_uint8, serve_encoded
    return spec, {route.__name__: route for route in routes}


def onnx_detector(opened: Opened) -> tuple[ModelSpec, dict[str, Callable]]:
    """Returns an opened `.onnx` file that answers as `objects_on`, as `open_saved_detector`."""

    def run(pixels):
        answers = opened.compute(pixels[None] / _WHITE)
        return _there({name: part[0] for name, part in answers.items()})

    return ModelSpec.from_json(opened.facts), {"run": run}


def _there(found):
    """The rows of one image in which there is an object, with run-length codes of its masks."""
    there = found["classes"] >= 0
    masks = found.pop("masks", None)
    objects = {name: part[there] for name, part in found.items()}
    if masks is not None:
        objects["masks"] = [mask_code(mask) for mask in masks[: np.count_nonzero(there)]]
    return objects
