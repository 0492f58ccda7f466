"""What Pillow reads, for the formats and the rare files that TensorFlow's decoders do not."""

import io
import os
import pathlib

import numpy as np
import PIL.Image
import PIL.ImageOps

PIL.Image.init()
# Pillow's names of the formats that are read. Left out are videos, drawings (EPS starts a program
# that runs what is in the file) and containers of scientific data.
FORMATS = {
    *("AVIF", "BLP", "BMP", "CUR", "DCX", "DDS", "DIB", "FLI", "FTEX", "GBR", "GIF", "ICNS", "ICO"),
    *("IM", "JPEG", "JPEG2000", "MSP", "PCD", "PCX", "PIXAR", "PNG", "PPM", "PSD", "QOI", "SGI"),
    *("SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
} & PIL.Image.OPEN.keys()
READABLE = {suffix for suffix, kind in PIL.Image.registered_extensions().items() if kind in FORMATS}
# Suffixes of images that Pillow does not read (of .dng it reads the preview alone).
UNREADABLE = {
    *(".heic", ".heics", ".heif", ".hif", ".jxl", ".jxr", ".svg"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raw"),
}


def open_image(file: str | pathlib.Path | io.BytesIO) -> PIL.Image.Image:
    """Opens an image without decoding it; raises what Pillow raises, of many types."""
    return PIL.Image.open(file, formats=sorted(FORMATS))


def is_image(path: str) -> bool:
    """Whether a file is an image: by its suffix, or if it has none, by its first bytes."""
    suffix = pathlib.Path(path).suffix.lower()
    if suffix:
        return suffix in READABLE | UNREADABLE
    if not os.path.isfile(path):  # a folder, or a pipe, which may have nothing to read for ever
        return False
    try:
        with open_image(path):
            return True
    except Exception:  # no image
        return False


def rgb_pixels(image: PIL.Image.Image) -> np.ndarray:
    """Decodes an image: its first frame, upright, what is transparent over white.

    Returns:
        uint8 [height, width, 3]. Of 16 bits the upper 8 are taken, as TensorFlow does.

    Raises:
        ValueError: If pixels are numbers whose range is unknown; or what Pillow raises.
    """
    image = PIL.ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        gray = _eight_bits(np.asarray(image))
        return np.repeat(gray[:, :, np.newaxis], 3, axis=2)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    pixels = np.asarray(image.convert("RGBA")).astype(np.uint16)
    color, alpha = pixels[:, :, :3], pixels[:, :, 3:]
    return ((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def decoded(encoded: bytes) -> np.ndarray:
    """Returns `rgb_pixels` of the content of a file."""
    with open_image(io.BytesIO(encoded)) as image:
        return rgb_pixels(image)


def _eight_bits(values):
    """Gray values of 16 bits, or floats in [0, 1] or 0 .. 255, as uint8."""
    lowest, highest = values.min(), values.max()
    if values.dtype.kind != "f" and lowest >= 0 and highest < 2**16:
        return (values // 256).astype(np.uint8)
    if values.dtype.kind == "f" and lowest >= 0 and highest <= 255:  # not so if one is nan
        return np.rint(values * (255 if highest <= 1 else 1)).astype(np.uint8)
    raise ValueError(
        f"its pixels lie in [{lowest:g}, {highest:g}], where 16 bits, or floats in [0, 1] or "
        "0 .. 255, were expected"
    )
