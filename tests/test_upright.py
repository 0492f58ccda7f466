"""Encoded images in a graph of TensorFlow alone, against Pillow."""

import io
import itertools

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
import PIL.PngImagePlugin
import pytest
import tensorflow as tf
from corpus.encoding import encoded, tiff, xmp
from pictures import picture

from bit_keras.data.sources.upright import decode_upright, exif_orientation

FILE = [tf.TensorSpec([], tf.string)]
decode = tf.function(decode_upright, input_signature=FILE, autograph=False)
orientation_of = tf.function(exif_orientation, input_signature=FILE, autograph=False)


def with_exif(format, exif, **options):
    return encoded(picture(10, 16), format, exif=exif, **options)


def by_pillow(file):
    with PIL.Image.open(io.BytesIO(file)) as image:
        image = PIL.ImageOps.exif_transpose(image).convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, "white")
    return np.asarray(PIL.Image.alpha_composite(white, image).convert("RGB"))


def assert_alike(file, allowed=0):
    found, expected = decode(file).numpy().astype(int), by_pillow(file)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= allowed


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_every_orientation_turns_a_picture_as_pillow_does(format, big):
    options = {"quality": 95, "subsampling": 0} if format == "JPEG" else {"lossless": True}
    for orientation, type in itertools.product(range(1, 9), (3, 4)):
        file = with_exif(format, tiff(orientation, big=big, type=type), **options)
        assert orientation_of(file) == orientation
        # TensorFlow decodes JPEG by a faster DCT.
        assert_alike(file, allowed=16 if format == "JPEG" else 0)


def test_a_webp_may_name_exif_once_more():
    file = with_exif("WEBP", tiff(6))
    at = file.index(b"EXIF") + 4
    size = int.from_bytes(file[at : at + 4], "little")
    longer = (size + 6).to_bytes(4, "little") + b"Exif\0\0" + file[at + 4 :]
    file = file[:at] + longer
    file = file[:4] + (len(file) - 8).to_bytes(4, "little") + file[8:]
    assert orientation_of(file) == 6
    assert_alike(file)


@pytest.mark.parametrize("text", ['tiff:Orientation="6"/>', "><tiff:Orientation>6</tiff:O>"])
def test_xmp_speaks_where_exif_does_not(text):
    info = PIL.PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp(text).decode())
    image = picture(10, 16)
    for file in (
        encoded(image, "JPEG", xmp=xmp(text)),
        encoded(image, "WEBP", xmp=xmp(text)),
        encoded(image, "PNG", pnginfo=info),
        encoded(image, "JPEG", xmp=xmp(text), exif=tiff(3, tag=0x0111)),
    ):
        assert orientation_of(file) == 6
        assert_alike(file, allowed=16)
    for exif, expected in ((tiff(3), 3), (tiff(9), 1), (b"Exif\0\0MM", 1)):
        assert orientation_of(encoded(image, "JPEG", xmp=xmp(text), exif=exif)) == expected
    assert orientation_of(encoded(image, "JPEG", xmp=xmp(text.replace("6", "9")))) == 1


def pillows_orientation(file):
    """As the checks before training find it."""
    with PIL.Image.open(io.BytesIO(file)) as image:
        try:
            found = image.getexif().get(PIL.ExifTags.Base.Orientation, 1)
        except Exception:
            return 1
    return found if found in range(1, 9) else 1


@pytest.mark.filterwarnings("ignore")  # Pillow's, of corrupt EXIF
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_never_fails_and_is_read_as_by_pillow(format):
    random = np.random.default_rng(0)
    whole = tiff(6, big=True)
    damaged = [whole[:n] for n in range(6, len(whole), 3)]
    for _ in range(60):
        some = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            some[random.integers(6, len(some))] = random.choice([0, 1, 3, 6, 18, 127, 255])
        damaged.append(bytes(some))
    damaged += [tiff(n) for n in (0, 9, 255, 65535)] + [tiff(6, type=1), tiff(6, count=2**31)]
    for exif in damaged:
        file = with_exif(format, exif)
        assert orientation_of(file) == pillows_orientation(file), exif
    for end in range(0, len(file), 7):  # headers that end anywhere
        assert 1 <= orientation_of(file[:end]) <= 8
