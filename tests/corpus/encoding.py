"""Encoded pictures, by Pillow or by hand where Pillow does not write what is wanted."""

import io
import struct
import zlib

import numpy as np
import PIL.Image

# For each EXIF orientation, how a picture is stored that it turns upright.
STORED = {
    1: None,
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_90,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_270,
}


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned(image, orientation, format, **options):
    """A picture that is stored turned, with the EXIF orientation that tells so."""
    how = STORED[orientation]
    stored = image if how is None else image.transpose(how)
    return encoded(stored, format, exif=tiff(orientation), **options)


def tiff(orientation, *, big=False, type=3, count=1, tag=0x0112):
    """EXIF of a directory of three entries, the second of which is the orientation."""
    order = ">" if big else "<"
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I"}[type], orientation)
    other = struct.pack(order + "HHI4s", 0x0110, 2, 3, b"ab\0\0")
    entries = other + struct.pack(order + "HHI4s", tag, type, count, value) + other
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "I", 8)
    return b"Exif\0\0" + head + struct.pack(order + "H", 3) + entries + struct.pack(order + "I", 0)


def xmp(text):
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d {text}</d></x:xmpmeta>'.encode()


def png(pixels, *chunks, size=None):
    """A PNG of 8 or 16 bits, [height, width, 1, 3 or 4 channels].

    Args:
        pixels: uint8 or uint16.
        chunks: (name, content) of others, before the pixels.
        size: (width, height) that the header tells, if others than those of the pixels.
    """
    height, width, channels = pixels.shape
    kind = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", *(size or (width, height)), 8 * pixels.itemsize, kind, 0, 0, 0)
    rows = pixels.astype(pixels.dtype.newbyteorder(">"))
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = (b"IHDR", header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def resized_header(content, place, size, order):
    """A file with another (width, height), of 16 or 32 bits, in its header."""
    content = bytearray(content)
    struct.pack_into(order, content, place, *size)
    return bytes(content)


def jpeg_of_size(content, width, height):
    """A JPEG whose header tells another size."""
    place = next(
        content.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in content
    )
    return resized_header(content, place + 5, (height, width), ">HH")


def over_white(pixels):
    """uint8 [h, w, 4] -> [h, w, 3]: what is seen of it on white paper."""
    color, alpha = pixels[..., :3].astype(float), pixels[..., 3:] / 255
    return np.rint(color * alpha + 255 * (1 - alpha)).astype(np.uint8)
