"""Encoded pictures with an orientation, and in unusual forms."""

import io
import struct

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
from pictures import picture

# Of pictures that no graph of TensorFlow decodes as they are meant: the refusal.
REFUSED = {
    "bits.bmp": "This form of BMP cannot be decoded here; save it as PNG",
    "core.bmp": "This form of BMP",
    "fields.bmp": "This form of BMP",
    "moving.webp": "An animated WebP",
    "clear.gif": "A GIF with transparency",
    "smaller.gif": "A GIF whose first frame does not fill it",
    "key.png": "A PNG with a transparent color",
    "gray_key.png": "A PNG with a transparent color",
    "profile.png": "A PNG with EXIF or XMP as text",
    "packed.png": "A PNG with EXIF or XMP as text",
    "notes.txt": "Unknown image file format",
    "empty.jpg": "image",
}


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


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


def other(name):
    """Pictures that are no plain RGB, by name."""
    image = picture(21, 30)
    clear = image.copy()
    clear.putalpha(PIL.Image.linear_gradient("L").resize(image.size))
    few = image.quantize(16)
    deep = PIL.Image.fromarray(np.linspace(0, 65535, 630).reshape(21, 30).astype(np.uint16))
    gray, key = image.convert("L"), image.getpixel((0, 0))
    more = {"save_all": True, "append_images": [picture(21, 30, seed=1)]}
    smaller = bytearray(encoded(few, "GIF"))
    smaller[6] += 2  # of the canvas
    profile = PIL.PngImagePlugin.PngInfo()
    profile.add_text("Raw profile type exif", f"\nexif\n 9\n{tiff(6).hex()}", zip=True)
    packed = PIL.PngImagePlugin.PngInfo()
    packed.add_itxt("XML:com.adobe.xmp", xmp('tiff:Orientation="6"/>').decode(), zip=True)
    core = encoded(image, "BMP")
    core = core[:14] + struct.pack("<IHHHH", 12, 30, 21, 1, 24) + core[54:]
    fields = bytearray(encoded(image.convert("RGBA"), "BMP"))
    fields[30] = 3
    return {
        "gray.jpg": lambda: encoded(gray, "JPEG", quality=95),
        "cmyk.jpg": lambda: encoded(image.convert("CMYK"), "JPEG", quality=95),
        "clear.png": lambda: encoded(clear, "PNG"),
        "clear_gray.png": lambda: encoded(clear.convert("LA"), "PNG"),
        "palette.png": lambda: encoded(few, "PNG"),
        "clear_palette.png": lambda: encoded(few, "PNG", transparency=bytes(range(0, 160, 10))),
        "bits.png": lambda: encoded(image.convert("1"), "PNG"),
        "clear.webp": lambda: encoded(clear, "WEBP", lossless=True),
        "palette.bmp": lambda: encoded(few, "BMP"),
        "full_palette.bmp": lambda: encoded(image.convert("P"), "BMP"),
        "gray.bmp": lambda: encoded(gray, "BMP"),
        "color.bmp": lambda: encoded(image, "BMP"),
        "padded.bmp": lambda: encoded(image.convert("RGBA"), "BMP"),
        "moving.gif": lambda: encoded(image, "GIF", **more),
        "commented.gif": lambda: encoded(few, "GIF", comment=b"!" * 700),
        "deep.png": lambda: encoded(deep, "PNG"),
        "bits.bmp": lambda: encoded(image.convert("1"), "BMP"),
        "core.bmp": lambda: core,
        "fields.bmp": lambda: bytes(fields),
        "moving.webp": lambda: encoded(image, "WEBP", **more),
        "clear.gif": lambda: encoded(few, "GIF", transparency=few.getpixel((0, 0))),
        "smaller.gif": lambda: bytes(smaller),
        "key.png": lambda: encoded(image, "PNG", transparency=key),
        "gray_key.png": lambda: encoded(gray, "PNG", transparency=gray.getpixel((0, 0))),
        "profile.png": lambda: encoded(image, "PNG", pnginfo=profile),
        "packed.png": lambda: encoded(image, "PNG", pnginfo=packed),
        "notes.txt": lambda: b"no picture at all",
        "empty.jpg": lambda: b"",
    }[name]()
