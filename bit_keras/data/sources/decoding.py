"""Image files -> upright RGB, with TensorFlow ops that run inside `tf.data`."""

import tensorflow as tf


def decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    """JPEG, PNG, BMP, WebP or the first frame of a GIF (scalar string) -> uint8 [h, w, 3].

    Gray is repeated, what is transparent lies over white, 16 bits become 8. (The fourth channel of
    a BMP is no opacity but padding.)
    """
    # channels=3 fails for a WebP with an alpha channel, so take the file's own channels.
    image = tf.io.decode_image(encoded, channels=0, expand_animations=False)
    height, width, channels = tf.unstack(tf.shape(image))
    number = tf.where(channels < 3, 1, 3)
    image = tf.cond(
        (channels > number) & (tf.strings.substr(encoded, 0, 2) != b"BM"),
        lambda: _over_white(image[:, :, :number], image[:, :, number:]),
        lambda: image[:, :, :number],
    )
    return tf.ensure_shape(tf.broadcast_to(image, [height, width, 3]), [None, None, 3])


def _over_white(color, alpha):
    """Blends uint8 colors by their opacity, to the nearest integer."""
    color, alpha = tf.cast(color, tf.int32), tf.cast(alpha, tf.int32)
    return tf.cast((color * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undoes an EXIF orientation, 1 .. 8 (EXIF 2.32, tag 0x0112), of an image [h, w, c]."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    down = tf.where(tf.reduce_any(orientation == [3, 4, 7, 8]), -1, 1)
    right = tf.where(tf.reduce_any(orientation == [2, 3, 6, 7]), -1, 1)
    return image[::down, ::right]
