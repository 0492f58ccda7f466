"""What the headers of an encoded image say, read with TensorFlow ops that can live in any graph.

Bytes beyond the end of a file read as zeros, so damaged headers are misread but never fail.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

# What is looked for in a file, and its row in what `find_parts` returns.
EXIF, XMP, COLOR_KEY, PACKED, TRANSPARENT, PARTIAL = range(6)
_KINDS = 6
_NO_KIND = -1

_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_IN_PNG = b"XML:com.adobe.xmp\0"
_PROFILE = b"Raw profile type exif\0"


def integers(
    raw: tf.Tensor,
    start: tf.Tensor | int,
    places: Mapping[str, tuple[int, int]],
    big: tf.Tensor | bool = True,
) -> dict[str, tf.Tensor]:
    """Reads integers without a sign.

    Args:
        raw: Bytes, uint8 [n].
        start: Where to count from, at least 0.
        places: Of each integer the first byte after `start`, and the number of its bytes.
        big: Whether the first byte is the highest, and not the lowest.

    Returns:
        Each integer as int64 [].
    """
    length = max(first + count for first, count in places.values())
    found = raw[start : start + length]
    found = tf.cast(tf.pad(found, [[0, length - tf.size(found)]]), tf.int64)
    values = tf.linalg.matvec(_powers(tuple(places.values()), length, big), found)
    return dict(zip(places, tf.unstack(values), strict=True))


def _powers(places, length, big):
    """int64 [integers, length]: what each byte counts for in each integer."""
    powers = np.zeros((2, len(places), length), np.int64)
    for i, (first, count) in enumerate(places):
        powers[0, i, first : first + count] = 256 ** np.arange(count)
        powers[1, i, first : first + count] = 256 ** np.arange(count)[::-1]
    if isinstance(big, bool):
        return tf.constant(powers[int(big)])
    return tf.where(big, powers[1], powers[0])


def columns(
    table: tf.Tensor, places: tuple[tuple[int, int], ...], big: tf.Tensor
) -> list[tf.Tensor]:
    """The same of every row of bytes, uint8 [rows, length]: for each place an int64 [rows]."""
    powers = _powers(places, table.shape[1], big)
    return tf.unstack(tf.linalg.matmul(tf.cast(table, tf.int64), powers, transpose_b=True), axis=1)


def choice(condition: tf.Tensor, one: tf.Tensor | int, other: tf.Tensor | int) -> tf.Tensor:
    """`tf.where` of integers, as int64."""
    one, other = (tf.convert_to_tensor(value, tf.int64) for value in (one, other))
    return tf.where(condition, one, other)


def _text(text: bytes, first: int) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """Places of a text in pieces of up to seven bytes, as `integers` takes them, and its pieces."""
    starts = range(0, len(text), 7)
    places = {f"{text}{at}": (first + at, len(text[at : at + 7])) for at in starts}
    return places, {f"{text}{at}": int.from_bytes(text[at : at + 7], "big") for at in starts}


def _is_text(found, pieces):
    return tf.reduce_all([found[name] == value for name, value in pieces.items()])


def image_format(raw: tf.Tensor) -> dict[str, tf.Tensor]:
    """Whether a file of bytes, uint8 [n], is "jpeg", "png", "gif", "bmp", or a "webp" of parts."""
    head = integers(
        raw, 0, {"two": (0, 2), "three": (0, 3), "four": (0, 4), "kind": (8, 4), "part": (12, 4)}
    )
    is_riff = head["four"] == int.from_bytes(b"RIFF", "big")
    is_webp = is_riff & (head["kind"] == int.from_bytes(b"WEBP", "big"))
    return {
        "jpeg": head["three"] == 0xFFD8FF,
        "png": head["four"] == int.from_bytes(b"\x89PNG", "big"),
        "gif": head["four"] == int.from_bytes(b"GIF8", "big"),
        "bmp": head["two"] == int.from_bytes(b"BM", "big"),
        "webp": is_webp & (head["part"] == int.from_bytes(b"VP8X", "big")),
    }


def find_parts(raw: tf.Tensor, format: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Walks through the parts of a JPEG, PNG, WebP or GIF.

    Args:
        raw: The bytes of a file, uint8 [n].
        format: Its `image_format`.

    Returns:
        int64 [6, 2], for each kind where the first such part starts and how many bytes it has,
        zeros if there is none: EXIF and XMP; COLOR_KEY, a color of a PNG that is transparent;
        PACKED, text of a PNG that holds EXIF or XMP in another form; TRANSPARENT, a GIF whose first
        frame has a transparent color; PARTIAL, one whose first frame does not fill it.
    """
    return tf.case(
        [
            (format["jpeg"], lambda: _walk(raw, 2, _jpeg_segment)),
            (format["png"], lambda: _walk(raw, 8, _png_chunk)),
            (format["webp"], lambda: _walk(raw, 12, _webp_chunk)),
            (format["gif"], lambda: _walk(raw, _after_gif_header(raw), _gif_block)),
        ],
        default=_no_parts,
    )


def _no_parts():
    return tf.zeros([_KINDS, 2], tf.int64)


def _walk(raw, start, read: Callable):
    """`read(raw, position)` tells a part's kind, start, length, and where the next part is."""

    def step(position, found):
        kind, start, length, following = read(raw, position)
        is_first = (tf.range(_KINDS) == kind) & (found[:, 1] == 0)
        return following, tf.where(is_first[:, None], tf.stack([start, length]), found)

    before = tf.cast(start, tf.int64), _no_parts()
    return tf.while_loop(lambda position, _: position < _end(raw), step, before)[1]


def _end(raw):
    return tf.size(raw, tf.int64)


def _kind(cases):
    """The kind whose condition holds, or else none."""
    found = tf.constant(_NO_KIND)
    for kind, condition in cases.items():
        found = tf.where(condition, kind, found)
    return found


def _jpeg_segment(raw, position):
    places, xmp = _text(_XMP_IN_JPEG, 4)
    found = integers(raw, position, {"marker": (0, 2), "length": (2, 2), "six": (4, 6), **places})
    marker, length = found["marker"], tf.maximum(found["length"], 2)
    # Bytes between segments are skipped, as decoders do; after SOS come the pixels.
    no_marker = (marker < 0xFF01) | (marker == 0xFFFF)
    alone = ((marker >= 0xFFD0) & (marker <= 0xFFD8)) | (marker == 0xFF01)
    following = position + choice(no_marker, 1, choice(alone, 2, 2 + length))
    following = choice((marker == 0xFFDA) | (marker == 0xFFD9), _end(raw), following)
    is_app1 = marker == 0xFFE1
    is_exif = is_app1 & (found["six"] == int.from_bytes(b"Exif\0\0", "big"))
    kind = _kind({EXIF: is_exif, XMP: is_app1 & _is_text(found, xmp)})
    return kind, position + 4, length - 2, following


def _png_chunk(raw, position):
    xmp_places, xmp = _text(_XMP_IN_PNG, 8)
    profile_places, profile = _text(_PROFILE, 8)
    packed = (8 + len(_XMP_IN_PNG), 1)  # the flag after the keyword
    numbers = {"length": (0, 4), "name": (4, 4), "packed": packed}
    found = integers(raw, position, {**numbers, **xmp_places, **profile_places})
    length, start = found["length"], position + 8

    def is_named(*names):
        return tf.reduce_any([found["name"] == int.from_bytes(name, "big") for name in names])

    is_xmp = is_named(b"iTXt") & _is_text(found, xmp)
    is_profile = is_named(b"iTXt", b"tEXt", b"zTXt") & _is_text(found, profile)
    is_packed = found["packed"] == 1
    # By the color type in the header, the first chunk.
    has_palette = integers(raw, 25, {"type": (0, 1)})["type"] == 3
    kind = _kind(
        {
            EXIF: is_named(b"eXIf"),
            XMP: is_xmp & ~is_packed,
            PACKED: (is_xmp & is_packed) | is_profile,
            COLOR_KEY: is_named(b"tRNS") & ~has_palette,
        }
    )
    return kind, start, length, start + length + 4


def _webp_chunk(raw, position):
    found = integers(raw, position, {"name": (0, 4)})
    length = integers(raw, position, {"length": (4, 4)}, big=False)["length"]
    flags, start = integers(raw, 20, {"flags": (0, 1)})["flags"], position + 8
    # Chunks that the flags do not announce are ignored, as by WebP's own library.
    is_exif = (found["name"] == int.from_bytes(b"EXIF", "big")) & (flags // 8 % 2 == 1)
    is_xmp = (found["name"] == int.from_bytes(b"XMP ", "big")) & (flags // 4 % 2 == 1)
    return _kind({EXIF: is_exif, XMP: is_xmp}), start, length, start + length + length % 2


def _after_gif_header(raw):
    """Where the first block of a GIF is: after its global color table, if it has one."""
    flags = integers(raw, 10, {"flags": (0, 1)})["flags"]
    return 13 + choice(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)


def _gif_block(raw, position):
    places = {"first": (0, 1), "label": (1, 1), "flags": (3, 1), "corner": (1, 4), "sides": (5, 4)}
    found = integers(raw, position, places)
    canvas = integers(raw, 6, {"sides": (0, 4)})["sides"]
    is_extension, is_image = found["first"] == 0x21, found["first"] == 0x2C
    is_control = is_extension & (found["label"] == 0xF9)
    kind = _kind(
        {
            TRANSPARENT: is_control & (found["flags"] % 2 == 1),
            PARTIAL: is_image & ((found["corner"] != 0) | (found["sides"] != canvas)),
        }
    )
    # The first frame, or what is no block, ends the walk.
    following = tf.cond(
        is_extension, lambda: _after_sub_blocks(raw, position + 2), lambda: _end(raw)
    )
    return kind, position, tf.ones_like(position), following


def _after_sub_blocks(raw, position):
    """A sub-block is its length in one byte and its content; one of length 0 is the last."""

    def length(at):
        return integers(raw, at, {"length": (0, 1)})["length"]

    # An end of the file reads as a length of 0.
    [last] = tf.while_loop(lambda at: length(at) != 0, lambda at: [at + 1 + length(at)], [position])
    return last + 1
