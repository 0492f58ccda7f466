"""Image files: truncated, in rare forms, turned, of extreme sizes, misnamed, or bombs."""

import os
import struct
import zlib
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
from pictures import picture

from corpus.encoding import (
    encoded,
    jpeg_of_size,
    over_white,
    png,
    resized_header,
    tiff,
    turned,
    xmp,
)


class Picture(NamedTuple):
    """A file, and what is read from it.

    Attributes:
        content: Its bytes.
        expected: The pixels, uint8 [height, width, 3], or what the refusal says, an expression.
        in_graph: What a graph of TensorFlow, which gets bytes alone, says where it refuses a
            picture that files show.
        tolerance: The most by which a value may differ: lossy formats, and roundings.
    """

    content: bytes
    expected: np.ndarray | str
    in_graph: str | None = None
    tolerance: int = 0


IMAGE = picture(21, 30)
PIXELS = np.asarray(IMAGE)
GRAY, FEW, OTHER = IMAGE.convert("L"), IMAGE.quantize(16), picture(21, 30, seed=1)
CLEAR = IMAGE.copy()
CLEAR.putalpha(PIL.Image.linear_gradient("L").resize(IMAGE.size))
DEEP = np.linspace(0, 65535, 630).reshape(21, 30).astype(np.uint16)
MORE = {"save_all": True, "append_images": [OTHER]}
LOSSY = 16  # of values, in a JPEG of quality 95
UNKNOWN = "cannot identify image file"
_BMP = "This form of BMP cannot be decoded here; save it as PNG"
_KEY = "A PNG with a transparent color"
_TEXT = "A PNG with EXIF or XMP as text"
_TOO_LARGE = "exceeds limit of 178956970 pixels"


def _of(pixels):
    """Pixels of one channel as gray ones of three."""
    return np.repeat(np.asarray(pixels, np.uint8)[..., None], 3, axis=2)


def _keyed(image, key):
    """Pixels with one color replaced by white."""
    pixels = np.asarray(image.convert("RGB")).copy()
    pixels[(pixels == key).all(-1)] = 255
    return pixels


def _common():
    """Usual forms, each of one picture."""
    jpeg = {"quality": 95, "subsampling": 0}
    clear, gray, few = np.asarray(CLEAR), np.asarray(GRAY), np.asarray(FEW.convert("RGB"))
    alpha = bytes(range(0, 160, 10))
    clear_few = np.dstack([few, np.frombuffer(alpha, np.uint8)[np.asarray(FEW)]])
    return {
        "color.jpg": Picture(encoded(IMAGE, "JPEG", **jpeg), PIXELS, tolerance=LOSSY),
        "progressive.jpg": Picture(
            encoded(IMAGE, "JPEG", progressive=True, **jpeg), PIXELS, tolerance=LOSSY
        ),
        "gray.jpg": Picture(encoded(GRAY, "JPEG", **jpeg), _of(gray), tolerance=LOSSY),
        "cmyk.jpg": Picture(
            encoded(IMAGE.convert("CMYK"), "JPEG", **jpeg), PIXELS, tolerance=LOSSY
        ),
        "color.png": Picture(encoded(IMAGE, "PNG"), PIXELS),
        "gray.png": Picture(encoded(GRAY, "PNG"), _of(gray)),
        "bits.png": Picture(encoded(GRAY.convert("1"), "PNG"), _of(GRAY.convert("1").convert("L"))),
        "palette.png": Picture(encoded(FEW, "PNG"), few),
        "clear.png": Picture(encoded(CLEAR, "PNG"), over_white(clear), tolerance=1),
        "clear_gray.png": Picture(
            encoded(CLEAR.convert("LA"), "PNG"),
            over_white(np.dstack([_of(gray), clear[..., 3]])),
            tolerance=1,
        ),
        "clear_palette.png": Picture(
            encoded(FEW, "PNG", transparency=alpha), over_white(clear_few), tolerance=1
        ),
        "clear.webp": Picture(
            encoded(CLEAR, "WEBP", lossless=True, exact=True), over_white(clear), tolerance=1
        ),
        "color.webp": Picture(encoded(IMAGE, "WEBP", lossless=True), PIXELS),
        "palette.bmp": Picture(encoded(FEW, "BMP"), few),
        "full_palette.bmp": Picture(
            encoded(IMAGE.convert("P"), "BMP"), np.asarray(IMAGE.convert("P").convert("RGB"))
        ),
        "gray.bmp": Picture(encoded(GRAY, "BMP"), _of(gray)),
        "color.bmp": Picture(encoded(IMAGE, "BMP"), PIXELS),
        "padded.bmp": Picture(encoded(IMAGE.convert("RGBA"), "BMP"), PIXELS),
        "still.gif": Picture(encoded(FEW, "GIF"), few),
        "commented.gif": Picture(encoded(FEW, "GIF", comment=b"!" * 700), few),
    }


def _deep():
    """Of 16 bits, of which the upper 8 are taken."""
    high, color = (DEEP // 256).astype(np.uint8), np.dstack([DEEP, DEEP[::-1], DEEP[:, ::-1]])
    alpha = np.dstack([color, np.full_like(DEEP, 65535)])
    return {
        "deep.png": Picture(encoded(PIL.Image.fromarray(DEEP), "PNG"), _of(high), tolerance=1),
        "deep_color.png": Picture(png(color), color // 256, tolerance=1),
        "deep_clear.png": Picture(png(alpha), color // 256, tolerance=1),
    }


def _moving():
    """Animations, of which the first frame is taken."""
    first = np.asarray(IMAGE.quantize(256).convert("RGB"))
    return {
        "moving.gif": Picture(encoded(IMAGE.quantize(256), "GIF", **MORE), first),
        "moving.png": Picture(encoded(IMAGE, "PNG", **MORE), PIXELS),
        "moving.webp": Picture(
            encoded(IMAGE, "WEBP", lossless=True, **MORE), PIXELS, "An animated WebP"
        ),
    }


def _rare():
    """What TensorFlow alone would decode wrongly."""
    core = encoded(IMAGE, "BMP")
    core = core[:10] + struct.pack("<IIHHHH", 26, 12, 30, 21, 1, 24) + core[54:]
    fields = bytearray(encoded(IMAGE.convert("RGBA"), "BMP"))
    fields[30] = 3
    smaller = bytearray(encoded(FEW, "GIF"))
    smaller[6] += 2  # of the canvas
    profile, packed = PIL.PngImagePlugin.PngInfo(), PIL.PngImagePlugin.PngInfo()
    stored = IMAGE.transpose(PIL.Image.Transpose.ROTATE_90)
    profile.add_text("Raw profile type exif", f"\nexif\n 9\n{tiff(6).hex()}", zip=True)
    packed.add_itxt("XML:com.adobe.xmp", xmp('tiff:Orientation="6"/>').decode(), zip=True)
    key, index, light = IMAGE.getpixel((0, 0)), FEW.getpixel((0, 0)), GRAY.getpixel((0, 0))
    few = np.asarray(FEW.convert("RGB"))
    wider = np.full((21, 32, 3), FEW.getpalette()[:3], np.uint8)  # the rest is of color 0
    wider[:, :30] = few
    bits = _of(GRAY.convert("1").convert("L"))
    clear_few = few.copy()
    clear_few[np.asarray(FEW) == index] = 255
    return {
        "bits.bmp": Picture(encoded(GRAY.convert("1"), "BMP"), bits, _BMP),
        "core.bmp": Picture(core, PIXELS, "This form of BMP"),
        "fields.bmp": Picture(bytes(fields), "", "This form of BMP"),
        "clear.gif": Picture(
            encoded(FEW, "GIF", transparency=index), clear_few, "A GIF with transparency"
        ),
        "smaller.gif": Picture(bytes(smaller), wider, "A GIF whose first frame does not fill it"),
        "key.png": Picture(encoded(IMAGE, "PNG", transparency=key), _keyed(IMAGE, key), _KEY),
        "gray_key.png": Picture(
            encoded(GRAY, "PNG", transparency=light), _keyed(GRAY, (light,) * 3), _KEY
        ),
        "profile.png": Picture(encoded(stored, "PNG", pnginfo=profile), PIXELS, _TEXT),
        "packed.png": Picture(encoded(stored, "PNG", pnginfo=packed), PIXELS, _TEXT),
        "color.tif": Picture(encoded(IMAGE, "TIFF"), PIXELS, "Unknown image"),
        "deep.tif": Picture(
            encoded(PIL.Image.fromarray(DEEP), "TIFF"), _of(DEEP // 256), "Unknown image"
        ),
    }


def _turned():
    """Stored in each of the eight ways that EXIF knows."""
    return {
        f"turned{n}.{suffix}": Picture(turned(IMAGE, n, format, **options), PIXELS, None, allowed)
        for n in range(1, 9)
        for suffix, format, options, allowed in (
            ("jpg", "JPEG", {"quality": 95, "subsampling": 0}, LOSSY),
            ("png", "PNG", {}, 0),
            ("webp", "WEBP", {"lossless": True}, 0),
        )
    }


def _extreme():
    long = np.tile(np.arange(30_000, dtype=np.uint32)[:, None, None] // 120, (1, 10, 3))
    long = long.astype(np.uint8)
    dot = np.array([[[10, 200, 90]]], np.uint8)
    return {
        "dot.png": Picture(png(dot), dot),
        "dot.jpg": Picture(encoded(PIL.Image.fromarray(dot), "JPEG"), dot, tolerance=LOSSY),
        "dot.gif": Picture(encoded(PIL.Image.fromarray(dot), "GIF"), dot),
        "long.png": Picture(encoded(PIL.Image.fromarray(long), "PNG"), long),
        "wide.jpg": Picture(
            encoded(PIL.Image.fromarray(long.swapaxes(0, 1)), "JPEG", quality=95),
            long.swapaxes(0, 1),
            tolerance=LOSSY,
        ),
    }


def _misnamed():
    return {
        "really_a_png.jpg": Picture(encoded(IMAGE, "PNG"), PIXELS),
        "really_a_jpeg.png": Picture(
            encoded(IMAGE, "JPEG", quality=95, subsampling=0), PIXELS, tolerance=LOSSY
        ),
        "really_a_gif.webp": Picture(encoded(FEW, "GIF"), np.asarray(FEW.convert("RGB"))),
        "no_suffix": Picture(encoded(IMAGE, "PNG"), PIXELS),
        "upper.PNG": Picture(encoded(IMAGE, "PNG"), PIXELS),
        "text.jpg": Picture(b"no picture at all", UNKNOWN, "Unknown image"),
        "page.png": Picture(b"<!DOCTYPE html><html></html>", UNKNOWN, "Unknown image"),
        "script.jpg": Picture(  # Ghostscript would run it
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", UNKNOWN, "Unknown image"
        ),
        "photo.heic": Picture(
            b"\0\0\0\x18ftypheic", "the format .heic is not supported", "Unknown"
        ),
        "empty.jpg": Picture(b"", UNKNOWN, "image"),
        "empty.png": Picture(b"", UNKNOWN, "image"),
        "zeros.jpg": Picture(bytes(5000), UNKNOWN, "Unknown image"),
    }


def _cut():
    """The first half of a file, and its header alone."""
    kinds = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF"}
    found = {}
    for suffix, format in kinds.items():
        content = encoded(picture(90, 120), format)
        for name, end in (("half", len(content) // 2), ("head", 30)):
            found[f"{name}.{suffix}"] = Picture(content[:end], "truncated|identify|.", ".")
    return found


def _bombs():
    """Small files of which decoders make gigabytes."""
    small = np.zeros((4, 4, 3), np.uint8)
    text = zlib.compress(bytes(1 << 27), 9)
    few = encoded(FEW, "GIF")
    return {
        "bomb.png": Picture(png(small, size=(30_000, 30_000)), _TOO_LARGE, "."),
        "bomb.jpg": Picture(jpeg_of_size(encoded(IMAGE, "JPEG"), 65_500, 65_500), _TOO_LARGE, "."),
        "bomb.gif": Picture(resized_header(few, 6, (65_535, 65_535), "<HH"), _TOO_LARGE, "."),
        "bomb.bmp": Picture(
            resized_header(encoded(IMAGE, "BMP"), 18, (40_000, 40_000), "<ii"), _TOO_LARGE, "."
        ),
        "text_bomb.png": Picture(
            png(small, (b"zTXt", b"Comment\0\0" + text)), "Decompressed data too large", None
        ),
    }


# Names that a file may have; each is a picture of its own.
NAMES = (
    *("with space.png", "line\nbreak.png", "tab\there.png", "手サイン.png", "жест ä é.png"),
    *("😀.png", "ؤ.png", os.fsdecode(b"\xff\xfe.png"), "quote\"'.png", "star*?[1].png", "-x.png"),
    *("$HOME.png", "~root.png", "%s{}.png", "\x1b[31mred.png", "a,b|c.png", f"{'n' * 200}.png"),
)


def pictures():
    """{name: Picture} of all."""
    groups = (_common, _deep, _moving, _rare, _turned, _extreme, _misnamed, _cut, _bombs)
    found = {name: one for group in groups for name, one in group().items()}
    for i, name in enumerate(NAMES):
        one = picture(8, 9, seed=i)
        found[name] = Picture(encoded(one, "PNG"), np.asarray(one))
    return found


def write_pictures(folder):
    """Writes all into a folder, and beside them what only looks like a file; returns the table.

    Of the latter the contents are empty.
    """
    folder.mkdir(parents=True)
    found = pictures()
    for name, one in found.items():
        (folder / name).write_bytes(one.content)
    (folder / "linked.png").symlink_to("color.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "ring_a.png").symlink_to("ring_b.png")
    (folder / "ring_b.png").symlink_to("ring_a.png")
    (folder / "gone.png").symlink_to("nowhere/gone.png")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")  # is no image, and is left out
    return found | {
        "linked.png": Picture(b"", PIXELS),
        "loop.png": Picture(b"", "Too many levels of symbolic links"),
        "ring_a.png": Picture(b"", "Too many levels of symbolic links"),
        "ring_b.png": Picture(b"", "Too many levels of symbolic links"),
        "gone.png": Picture(b"", "No such file or directory"),
        "pipe.png": Picture(b"", "not a regular file"),
    }
