"""RoIAlign: features of boxes, from maps at exactly their places.

He et al., 2017, "Mask R-CNN", https://arxiv.org/abs/1703.06870, section 3.
"""

import keras
import tensorflow as tf

SAMPLES = 2  # of a bin, along each side
_CORNERS = 2 * SAMPLES  # of a bin, along each side: every sample lies between two places
_LEVEL_UNIT = 1.75  # of the finest anchor: Lin et al., 2017, put sides of 2 * 56 pixels on P3


def roi_align(
    maps: dict[str, tf.Tensor], boxes: tf.Tensor, size: int, anchor_size: float
) -> tf.Tensor:
    """Returns the features of boxes, from the level of the pyramid that suits their areas.

    A box is on the n-th level above the finest if the root of its area is at least 1.75 * 2**n
    anchor sizes, with n at most the number of levels that there are. For anchors of 32 pixels these
    are the paper's levels: from 112 pixels on it is P3, from 224 on P4.

    Args:
        maps: `{"P2": [batch, rows, columns, C], ...}`, finest first; level n has a stride of 2**n.
        boxes: float32 `[batch, R, 4]` as left, top, right, bottom in pixels of the image. They may
            lie partly outside, or have no area. No gradient flows into them.
        size: S, bins along each side.
        anchor_size: Side in pixels of the finest level's square anchor.

    Returns:
        `[batch, R, S, S, C]`, of the maps' dtype.
    """
    boxes = tf.stop_gradient(boxes)
    batch, number = tf.shape(boxes)[0], tf.shape(boxes)[1]
    channels = next(iter(maps.values())).shape[-1]
    rows = tf.concat([tf.reshape(x, [batch, -1, channels]) for x in maps.values()], axis=1)
    sides = tf.stack([tf.shape(x)[1:3] for x in maps.values()])
    starts = tf.cumsum(tf.reduce_prod(sides, axis=1), exclusive=True)
    strides = tf.constant([2.0 ** int(level[1:]) for level in maps])
    level = tf.reshape(_levels(boxes, len(maps), _LEVEL_UNIT * anchor_size), [-1])
    images = tf.repeat(tf.range(batch) * tf.shape(rows)[1], number)
    found = aligned(
        tf.reshape(rows, [-1, channels]),
        images + tf.gather(starts, level),
        tf.gather(sides, level),
        tf.reshape(boxes, [-1, 4]) / tf.gather(strides, level)[:, tf.newaxis],
        size,
    )
    return tf.reshape(found, [batch, number, size, size, channels])


def _levels(boxes, number, unit):
    """Which map each box is taken from, int32 `[batch, R]`; by comparisons, for they are exact."""
    areas = tf.reduce_prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
    least = tf.constant([(unit * 2**n) ** 2 for n in range(1, number)], tf.float32)
    return tf.reduce_sum(tf.cast(areas[..., tf.newaxis] >= least, tf.int32), axis=-1)


def aligned(
    rows: tf.Tensor, starts: tf.Tensor, sides: tf.Tensor, boxes: tf.Tensor, size: int
) -> tf.Tensor:
    """Returns the features of boxes that each lie on one of many maps.

    A bin is the mean of 2 x 2 samples, each interpolated between the centers of four places. What
    is up to one place outside of the map is as its edge, and beyond it is 0.

    Sixteen times the result would be gathered at once, were it done in one operation. It is done
    corner by corner instead, forward and backward, so that twice the result is enough.

    Args:
        rows: `[M, C]`, the places of all maps, one after the other, each by row and column.
        starts: int32 `[K]`, the first place of each box's map.
        sides: int32 `[K, 2]`, the height and width of that map.
        boxes: float32 `[K, 4]` as left, top, right, bottom in places of that map.
        size: S, bins along each side.

    Returns:
        `[K, S, S, C]`; float32 for integer rows, otherwise of their dtype.
    """
    vertical, y_weights = _corners(boxes[:, 1], boxes[:, 3], sides[:, 0], size)
    horizontal, x_weights = _corners(boxes[:, 0], boxes[:, 2], sides[:, 1], size)
    row_starts = starts[:, tf.newaxis, tf.newaxis] + vertical * sides[:, 1, tf.newaxis, tf.newaxis]
    channels = rows.shape[-1]

    def corners():
        for i in range(_CORNERS):
            for j in range(_CORNERS):
                place = row_starts[:, :, tf.newaxis, i] + horizontal[:, tf.newaxis, :, j]
                weight = y_weights[:, :, tf.newaxis, i] * x_weights[:, tf.newaxis, :, j]
                yield place, weight[..., tf.newaxis]

    @tf.custom_gradient
    def gathered(rows):
        total = tf.zeros([], tf.float32)
        for place, weight in corners():
            with tf.control_dependencies([total]):  # not all sixteen at once
                found = tf.cast(tf.gather(rows, place), tf.float32)
            total += found * weight

        def gradient(slope):
            # One scatter after the other, into the same memory.
            found = tf.zeros(tf.shape(rows), tf.float32)
            for place, weight in corners():
                with tf.control_dependencies([found]):
                    updates = tf.reshape(tf.cast(slope, tf.float32) * weight, [-1, channels])
                found = tf.tensor_scatter_nd_add(found, tf.reshape(place, [-1, 1]), updates)
            return tf.cast(found, rows.dtype)

        return tf.cast(total, rows.dtype if rows.dtype.is_floating else tf.float32), gradient

    return gathered(rows)


def _corners(low, high, side, size):
    """Along one side: the places around a bin's samples, int32 `[K, S, 4]`, and their weights."""
    limit = tf.cast(side, tf.float32)[:, tf.newaxis]
    steps = (tf.range(SAMPLES * size, dtype=tf.float32) + 0.5) / (SAMPLES * size)
    at = low[:, tf.newaxis] + (high - low)[:, tf.newaxis] * steps - 0.5  # from the first center
    there = (at >= -1) & (at <= limit)
    # Of a training that diverges, boxes may be NaN, which would be no place at all.
    at = tf.where(there, tf.clip_by_value(at, 0, limit - 1), 0)
    first = tf.floor(at)
    places = tf.stack([first, tf.minimum(first + 1, limit - 1)], axis=-1)
    weights = tf.stack([1 - (at - first), at - first], axis=-1) / SAMPLES
    weights *= tf.cast(there, tf.float32)[..., tf.newaxis]
    shape = [-1, size, _CORNERS]
    return tf.reshape(tf.cast(places, tf.int32), shape), tf.reshape(weights, shape)


@keras.saving.register_keras_serializable("bit_keras")
class RoIAlign(keras.layers.Layer):
    """`roi_align` of maps and boxes, as a layer; boxes stay float32 under every dtype policy."""

    def __init__(self, size: int, anchor_size: float, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.arguments = {"size": size, "anchor_size": anchor_size}

    def call(self, maps, boxes):
        return roi_align(maps, boxes, **self.arguments)

    def compute_output_spec(
        self, maps: dict[str, keras.KerasTensor], boxes: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Returns the shape and dtype of the features."""
        first, size = next(iter(maps.values())), self.arguments["size"]
        return keras.KerasTensor((*boxes.shape[:2], size, size, first.shape[-1]), first.dtype)

    def get_config(self):
        return {**super().get_config(), **self.arguments}
