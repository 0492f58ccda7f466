"""What the two stages of a Mask R-CNN are to answer, for boxes that are chosen at random.

Choices are a function of an image's own `seeds`, so that they do not depend on its batch.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from .anchors import encoded
from .proposals import region_anchors
from .roi_align import aligned
from .targets import BACKGROUND, IGNORED, matched

MASK_SIZE = 28  # places along each side of a mask
_REGION_POSITIVE, _REGION_NEGATIVE = 0.7, 0.3  # IoU of an anchor and an object: Ren et al., 2015
_ANCHORS, _ANCHORS_POSITIVE = 256, 128  # of an image, to learn from
_ROI_POSITIVE = 0.5
_ROI_SHARE = 4  # one in so many boxes may hold an object
_LEAST_FRAME = 1e-3  # pixels


def chosen(
    seeds: tf.Tensor, stream: int, classes: tf.Tensor, *, number: int, most: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses boxes at random, of which some hold an object.

    Args:
        seeds: int32 `[batch, 2]`, one pair for each image.
        stream: Another number gives other choices of the same seeds.
        classes: int32 `[batch, N]`, as of `targets.matched`; those of -2 are not taken.
        number: How many to choose of each image, if there are as many.
        most: How many may hold an object, at most. Boxes of nothing take the places of others.

    Returns:
        Their places in N, int32 `[batch, K]`, and classes, int32 `[batch, K]`: those that hold an
        object come first, then those of nothing, and then -2 where there are no more. K is
        `number`, or N if that is less.
    """
    total = classes.shape[1]
    number, most = min(number, total), min(most, total)

    def uniform(seed):
        return tf.random.stateless_uniform(
            [total], tf.random.experimental.stateless_fold_in(seed, stream)
        )

    lots = tf.map_fn(uniform, seeds, fn_output_signature=tf.TensorSpec([total], tf.float32))
    objects = tf.math.top_k(tf.where(classes >= 0, lots, -1.0), most)
    nothing = tf.math.top_k(tf.where(classes == BACKGROUND, lots, -1.0), number)
    first = tf.where(objects.values >= 0, objects.values + 1, -1.0)  # lots are below 1
    best = tf.math.top_k(tf.concat([first, nothing.values], axis=1), number)
    places = tf.concat([objects.indices, nothing.indices], axis=1)
    places = tf.gather(places, best.indices, batch_dims=1)
    found = tf.gather(classes, places, batch_dims=1)
    return places, tf.where(best.values >= 0, found, IGNORED)


def region_targets(
    labels: dict[str, tf.Tensor], size: tuple[int, int], anchor_sizes: Sequence[float]
) -> dict[str, tf.Tensor]:
    """Returns what the proposal network is to answer at 256 anchors, at most half with an object.

    An anchor is to find the object that it overlaps most: from an IoU of 0.7 on, or if no anchor
    overlaps the object more. Below 0.3 it is to find nothing, and between it is not chosen.

    Args:
        labels: `boxes`, float32 `[batch, N, 4]`, `classes`, int32 `[batch, N]` (-1 where there is
            none), and `seeds`, int32 `[batch, 2]`.
        size: Height and width of the images in pixels.
        anchor_sizes: As in `region_anchors`.

    Returns:
        `places`, int32 `[batch, K]`, the numbers of anchors; `classes`, int32 `[batch, K]`, as of
        `chosen`; and `boxes`, float32 `[batch, K, 4]`, as `encoded`, 0 where there is no object.
    """
    anchors = region_anchors(*size, anchor_sizes)
    thresholds = {"positive": _REGION_POSITIVE, "negative": _REGION_NEGATIVE}
    owners, classes = matched(anchors, labels, **thresholds)
    numbers = {"number": _ANCHORS, "most": _ANCHORS_POSITIVE}
    places, classes = chosen(labels["seeds"], 0, classes, **numbers)
    boxes = _boxes_of(tf.gather(owners, places, batch_dims=1), labels)
    targets = encoded(boxes, tf.gather(anchors, places))
    boxes = tf.where(classes[..., tf.newaxis] >= 0, targets, 0.0)
    return {"places": places, "classes": classes, "boxes": boxes}


def roi_targets(
    proposals: dict[str, tf.Tensor], labels: dict[str, tf.Tensor], *, number: int
) -> dict[str, tf.Tensor]:
    """Chooses the boxes that the second stage learns from, at most a quarter with an object.

    They are proposals, and the objects' own boxes. From an IoU of 0.5 on with the object that it
    overlaps most, a box is to find it, and otherwise nothing.

    Args:
        proposals: Of `proposals.proposals`; those of the score 0 are none.
        labels: As of `region_targets`.
        number: R, how many of each image.

    Returns:
        `rois`, float32 `[batch, R, 4]` in pixels; `classes`, int32 `[batch, R]`, as of `chosen`;
        `boxes`, float32 `[batch, R, 4]`, the object's as `encoded` relative to the box, 0 where
        there is none; and `owners`, int32 `[batch, R]`, the object's row in `labels`. R is less
        than `number` if there are fewer proposals and objects in all.
    """
    rois = tf.concat([proposals["boxes"], labels["boxes"]], axis=1)
    there = tf.concat([proposals["scores"] > 0, labels["classes"] >= 0], axis=1)
    thresholds = {"positive": _ROI_POSITIVE, "negative": _ROI_POSITIVE}
    owners, classes = matched(rois, labels, **thresholds, each_has_one=False)
    classes = tf.where(there, classes, IGNORED)
    numbers = {"number": number, "most": masks_learned(number)}
    places, classes = chosen(labels["seeds"], 1, classes, **numbers)
    rois, owners = (tf.gather(x, places, batch_dims=1) for x in (rois, owners))
    targets = encoded(_boxes_of(owners, labels), rois)
    boxes = tf.where(classes[..., tf.newaxis] >= 0, targets, 0.0)
    return {"rois": rois, "classes": classes, "boxes": boxes, "owners": owners}


def masks_learned(number: int) -> int:
    """Returns how many of so many boxes hold an object, at most; they are the first of them."""
    return max(1, number // _ROI_SHARE)


def mask_targets(rois: tf.Tensor, owners: tf.Tensor, labels: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns the objects' masks within boxes, float32 `[batch, F, 28, 28]`, 0 or 1.

    A place is 1 where the object covers half of it or more, by the mean of 2 x 2 samples.

    Args:
        rois: float32 `[batch, F, 4]` in pixels.
        owners: int32 `[batch, F]`, rows of `labels`.
        labels: `masks`, uint8 `[batch, N, rows, columns]`, which part of each cell the object
            covers, 0 .. 255, over `frames`, float32 `[batch, N, 4]` in pixels. Outside of its frame
            nothing is covered.
    """
    frames = tf.gather(labels["frames"], owners, batch_dims=1)
    masks = tf.pad(labels["masks"], [[0, 0], [0, 0], [1, 1], [1, 1]])  # a cell of nothing around
    batch, objects, rows, columns = tf.unstack(tf.shape(masks))
    cells = tf.cast([columns - 2, rows - 2], tf.float32)
    scale = cells / tf.maximum(frames[..., 2:] - frames[..., :2], _LEAST_FRAME)
    boxes = tf.tile(scale, [1, 1, 2]) * (rois - tf.tile(frames[..., :2], [1, 1, 2])) + 1
    places = tf.reshape(tf.range(batch)[:, tf.newaxis] * objects + owners, [-1])
    covered = aligned(
        tf.reshape(masks, [-1, 1]),
        places * rows * columns,
        tf.tile([[rows, columns]], [tf.size(places), 1]),
        tf.reshape(boxes, [-1, 4]),
        MASK_SIZE,
    )
    covered = tf.reshape(covered, [batch, -1, MASK_SIZE, MASK_SIZE])
    return tf.cast(covered >= 255 / 2, tf.float32)


def _boxes_of(owners, labels):
    return tf.gather(labels["boxes"], owners, batch_dims=1)


@keras.saving.register_keras_serializable("bit_keras")
class RegionTargets(keras.layers.Layer):
    """`region_targets`, as a layer; `images` only tell their size."""

    def __init__(self, anchor_sizes: Sequence[float], **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.anchor_sizes = tuple(anchor_sizes)

    def call(self, labels, images):
        return region_targets(labels, tuple(images.shape[1:3]), self.anchor_sizes)

    def compute_output_spec(
        self, labels: dict[str, keras.KerasTensor], images: keras.KerasTensor
    ) -> dict[str, keras.KerasTensor]:
        """Returns the shapes and dtypes of the targets."""
        return _specs(images.shape[0], _ANCHORS, {"places": "int32"})

    def get_config(self):
        return {**super().get_config(), "anchor_sizes": self.anchor_sizes}


@keras.saving.register_keras_serializable("bit_keras")
class RoITargets(keras.layers.Layer):
    """`roi_targets`, as a layer; with `masks` also `mask_targets` of the first of them.

    There must be `number` proposals or more, where those of the score 0 count.
    """

    def __init__(self, number: int, masks: bool, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.arguments = {"number": number, "masks": masks}

    def call(self, proposals, labels):
        targets = roi_targets(proposals, labels, number=self.arguments["number"])
        owners = targets.pop("owners")
        if self.arguments["masks"]:
            first = masks_learned(self.arguments["number"])
            masks = mask_targets(targets["rois"][:, :first], owners[:, :first], labels)
            targets["masks"] = masks
        return targets

    def compute_output_spec(
        self, proposals: dict[str, keras.KerasTensor], labels: dict[str, keras.KerasTensor]
    ) -> dict[str, keras.KerasTensor]:
        """Returns the shapes and dtypes of the targets."""
        batch, number = proposals["boxes"].shape[0], self.arguments["number"]
        found = _specs(batch, number, {})
        found["rois"] = keras.KerasTensor((batch, number, 4), "float32")
        if self.arguments["masks"]:
            shape = (batch, masks_learned(number), MASK_SIZE, MASK_SIZE)
            found["masks"] = keras.KerasTensor(shape, "float32")
        return found

    def get_config(self):
        return {**super().get_config(), **self.arguments}


def _specs(batch, number, others):
    """Each a tensor of its own, for Keras tells outputs apart by them."""
    found = {name: keras.KerasTensor((batch, number), dtype) for name, dtype in others.items()}
    return {
        **found,
        "classes": keras.KerasTensor((batch, number), "int32"),
        "boxes": keras.KerasTensor((batch, number, 4), "float32"),
    }
