"""Encoded images -> upright RGB, for graphs that get nothing but bytes.

Training takes orientations from its checks of files, before which it refuses what is refused here.
"""

import tensorflow as tf

from . import file_headers as headers
from .decoding import decode_rgb, turn_upright

_ORIENTATION = 0x0112  # the tag in EXIF 2.32
_TIFF = {"order": (0, 2), "version": (2, 2), "directory": (4, 4)}
_ENTRY = (0, 2), (2, 2), (4, 4), (8, 2), (8, 4)  # tag, type, count, and the value of two sizes
_SHORT, _LONG = (3, 8), (4, 9)  # types of such values, without and with a sign


def decode_upright(encoded: tf.Tensor) -> tf.Tensor:
    """JPEG, PNG, BMP, WebP or the first frame of a GIF (scalar string) -> uint8 [h, w, 3].

    As `decode_rgb`, and turned upright by the EXIF orientation; BMPs of 8 bits may have a palette.

    Raises:
        tf.errors.InvalidArgumentError: If there is no image, or TensorFlow would decode it wrongly:
            a BMP in an unusual form, a GIF with transparency or a first frame that does not fill
            it, a PNG with a color key or with its orientation in other text, an animated WebP.
    """
    raw = tf.io.decode_raw(encoded, tf.uint8)
    format = headers.image_format(raw)
    parts = headers.find_parts(raw, format)
    bmp = headers.integers(
        raw, 14, {"header": (0, 4), "bits": (14, 2), "packed": (16, 4), "colors": (32, 4)}, False
    )
    with tf.control_dependencies(_checks(raw, format, parts, bmp)):
        image = decode_rgb(tf.identity(encoded))
    has_palette = format["bmp"] & (bmp["bits"] == 8)
    image = tf.cond(has_palette, lambda: _colors(raw, bmp, image), lambda: image)
    image = tf.ensure_shape(image, [None, None, 3])
    return turn_upright(image, _orientation(encoded, raw, parts))


def exif_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The orientation of a JPEG, PNG or WebP (scalar string) -> int32, 1 to 8.

    It is that of EXIF or, if that has none, of XMP; 1 if there is none or it is damaged.
    """
    raw = tf.io.decode_raw(encoded, tf.uint8)
    return _orientation(encoded, raw, headers.find_parts(raw, headers.image_format(raw)))


def _checks(raw, format, parts, bmp):
    """Assertions that TensorFlow decodes an image as it is meant."""
    found = tf.unstack(parts[:, 1] > 0)
    plain = (bmp["header"] >= 40) & (bmp["packed"] == 0)  # older headers are shorter
    plain &= tf.reduce_any(bmp["bits"] == tf.constant([8, 24, 32], tf.int64))
    flags = headers.integers(raw, 20, {"flags": (0, 1)})["flags"]
    is_animated = format["webp"] & (flags // 2 % 2 == 1)
    return [
        tf.debugging.Assert(~wrong, [f"{what} cannot be decoded here; save it as {remedy}."])
        for wrong, what, remedy in (
            (format["bmp"] & ~plain, "This form of BMP", "PNG"),
            (is_animated, "An animated WebP", "PNG"),
            (found[headers.TRANSPARENT], "A GIF with transparency", "PNG"),
            (found[headers.PARTIAL], "A GIF whose first frame does not fill it", "PNG"),
            (
                found[headers.COLOR_KEY],
                "A PNG with a transparent color in place of an alpha channel",
                "PNG with alpha channel",
            ),
            (found[headers.PACKED], "A PNG with EXIF or XMP as text", "PNG without, or as JPEG"),
        )
    ]


def _colors(raw, bmp, indices):
    """The colors of a BMP's palette, [blue, green, red, 0] each, where its indices are given."""
    start, count = 14 + bmp["header"], bmp["colors"]
    count = headers.choice((count == 0) | (count > 256), 256, count)  # 0 is all
    entries = raw[start : start + 4 * count]
    palette = tf.reshape(tf.pad(entries, [[0, 1024 - tf.size(entries)]]), [256, 4])
    return tf.gather(palette[:, 2::-1], tf.cast(indices[:, :, 0], tf.int32))


def _orientation(encoded, raw, parts):
    exif, xmp = parts[headers.EXIF], parts[headers.XMP]
    unsaid = tf.constant(-1, tf.int64)
    said = tf.cond(exif[1] > 0, lambda: _of_exif(raw[exif[0] : exif[0] + exif[1]]), lambda: unsaid)
    said = tf.cond((said < 0) & (xmp[1] > 0), lambda: _of_xmp(encoded, xmp), lambda: said)
    return tf.where((said >= 1) & (said <= 8), tf.cast(said, tf.int32), 1)


def _of_exif(exif):
    """The value of the tag in the first directory of EXIF, -1 if it has none, 0 if damaged."""
    prefix = b"Exif\0\0"
    has_prefix = headers.integers(exif, 0, {"": (0, 6)})[""] == int.from_bytes(prefix, "big")
    tiff = exif[headers.choice(has_prefix, len(prefix), 0) :]
    order = headers.integers(tiff, 0, {"": (0, 2)})[""]
    big = order == int.from_bytes(b"MM", "big")
    found = headers.integers(tiff, 0, _TIFF, big)
    is_sound = big | (order == int.from_bytes(b"II", "big"))
    is_sound &= (found["version"] == 0x002A) | (found["version"] == 0x2A00)  # Pillow takes both
    # A directory is the number of its entries, and those, of twelve bytes each.
    start = found["directory"]
    count = headers.integers(tiff, start, {"": (0, 2)}, big)[""]
    entries = tiff[start + 2 : start + 2 + 12 * count]
    whole = tf.size(entries) // 12
    entries = tf.ensure_shape(tf.reshape(entries[: 12 * whole], [whole, 12]), [None, 12])
    tags, types, counts, short, long = headers.columns(entries, _ENTRY, big)
    is_short = tf.reduce_any(types[:, None] == tf.constant(_SHORT, tf.int64), 1)
    is_long = tf.reduce_any(types[:, None] == tf.constant(_LONG, tf.int64), 1)
    is_tag = tags == _ORIENTATION
    values = tf.where(is_short, short, long)
    values = tf.boolean_mask(values, is_tag & (is_short | is_long) & (counts == 1))
    none = headers.choice(tf.reduce_any(is_tag), 0, -1)
    value = tf.concat([none[None], values], 0)[-1]  # of several the last
    return headers.choice(is_sound, value, 0)


def _of_xmp(encoded, part):
    """The first digit after `tiff:Orientation` in XMP, -1 if there is none."""
    start = tf.minimum(part[0], tf.cast(tf.strings.length(encoded), tf.int64) - 1)
    text = tf.strings.substr(encoded, start, part[1])
    digit = tf.strings.regex_replace(text, r"^\C*?tiff:Orientation(?:=\"|>)([0-9])\C*$", r"\1")
    is_digit = digit == tf.constant([*"0123456789"])
    return headers.choice(tf.reduce_any(is_digit), tf.argmax(is_digit), -1)
