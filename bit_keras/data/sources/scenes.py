"""Drawn scenes: handwritten digits and simple shapes on textured backgrounds, with exact boxes."""

import functools
import math
import zlib
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw
import tensorflow as tf

from ..boxed_images import BoxedImages
from ..labeled_images import DataError
from ..masks import can_encode, mask_code

_SHAPES = ("cross", "ring", "star", "triangle")
_CLASS_NAMES = (*map(str, range(10)), *_SHAPES)
_HELD_OUT = 2**31  # the index of the first test scene, whose digits are in no training scene
_MOST_OBJECTS = 6
_SIDES = (0.16, 0.42)  # of an object, as a part of the scene's
_TRIES = 20  # of finding a free place, before an object is left out
_FINER = 4  # times the resolution in which shapes are drawn


class Scene(NamedTuple):
    """A drawn scene of D objects, D from 1 to 6.

    Attributes:
        image: uint8 [size, size, 3].
        boxes: float32 [D, 4], as in `BoxedImages`; they do not overlap.
        classes: int32 [D], 0 to 9 for the digits, then cross, ring, star and triangle.
        masks: bool [D, size, size], the pixels that an object covers by half or more. Its box is
            the smallest around them.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    masks: np.ndarray


def scenes(
    num_images: int = 2000, *, num_test: int = 400, size: int = 128, seed: int = 0
) -> tuple[BoxedImages, BoxedImages]:
    """Returns (train, test) of drawn scenes in 14 classes; needs no download.

    They are scikit-learn's handwritten digits, enlarged, turned a little and colored, and four
    simple shapes, at random places over random textures. Train has the scenes 0 to `num_images` - 1
    of the seed, and more images begin with the same. The test scenes are others, of digits that no
    training scene shows. Every object has its mask, if pycocotools is there. All are drawn at once,
    in a few milliseconds each, and kept in memory.

    Args:
        num_images, num_test: How many to train and to test on.
        size: Side of a scene, in pixels.
        seed: 0 or more.

    Raises:
        DataError: If a number is below 1, `size` below 32 or `seed` negative.
    """
    if num_images < 1 or num_test < 1:
        raise DataError(
            f"scenes needs 1 image or more to train and to test on, got num_images={num_images} "
            f"and num_test={num_test}"
        )
    if size < 32 or seed < 0:
        raise DataError(
            f"scenes are drawn from size 32 and seed 0 on, got size={size}, seed={seed}"
        )
    train = _drawn("scenes/train", range(num_images), size, seed)
    return train, _drawn("scenes/test", range(_HELD_OUT, _HELD_OUT + num_test), size, seed)


def scene(index: int, *, size: int = 128, seed: int = 0) -> Scene:
    """Draws the scene of an index, which depends on (seed, index, size) alone.

    Args:
        index: 0 or more; from 2 ** 31 on, digits are of those that are held out for tests.
        size, seed: As in `scenes`.
    """
    random = np.random.default_rng([seed, index])
    image = _texture(random, size)
    boxes, classes, masks = [], [], []
    for _ in range(random.integers(1, _MOST_OBJECTS + 1)):
        label = int(random.integers(len(_CLASS_NAMES)))
        opacity = _object(random, label, size, index >= _HELD_OUT)
        height, width = opacity.shape
        place = _free_place(random, boxes, height, width, size)
        if place is None:
            continue
        top, left = place
        behind = image[top : top + height, left : left + width]
        darkest, lightest = (0, 60) if behind.mean() > 127 else (195, 255)
        color = random.uniform(darkest, lightest, 3).astype(np.float32)
        behind += opacity[:, :, np.newaxis] * (color - behind)
        mask = np.zeros((size, size), bool)
        mask[top : top + height, left : left + width] = opacity >= 0.5
        boxes.append((left, top, left + width, top + height))
        classes.append(label)
        masks.append(mask)
    grain = np.float32(random.uniform(0, 8))
    image += grain * random.standard_normal(image.shape, np.float32)
    return Scene(
        np.clip(np.rint(image), 0, 255).astype(np.uint8),
        np.array(boxes, np.float32),
        np.array(classes, np.int32),
        np.stack(masks),
    )


def _drawn(name, indices, size, seed):
    pixels = np.empty((len(indices), size, size, 3), np.uint8)
    boxes, classes, masks = [], [], []
    code = mask_code if can_encode() else lambda _: None
    for i, index in enumerate(indices):
        pixels[i], of_scene, of_objects, shapes = scene(index, size=size, seed=seed)
        boxes.append(of_scene)
        classes.append(of_objects)
        masks += map(code, shapes)
    with tf.device("CPU:0"):
        kept = tf.constant(pixels)
    return BoxedImages(
        name,
        _CLASS_NAMES,
        lambda index: tf.gather(kept, index),
        image_sizes=np.full((len(indices), 2), size),
        boxes=np.concatenate(boxes),
        classes=np.concatenate(classes),
        starts=np.cumsum([0, *map(len, boxes)]),
        masks=masks,
        fingerprint=zlib.crc32(pixels),
        augmentations=frozenset(),  # a mirrored digit is no digit
        num_bytes=pixels.nbytes,
    )


def _texture(random, size):
    """A background, float32 [size, size, 3] in about 0 .. 255: clouds of three sizes, stripes."""
    image = np.tile(random.uniform(40, 215, 3).astype(np.float32), (size, size, 1))
    for cells, strength in ((3, 25), (8, 15), (24, 10)):
        noise = random.normal(0, strength * random.random(), (cells, cells)).astype(np.float32)
        smooth = PIL.Image.fromarray(noise).resize((size, size), PIL.Image.Resampling.BICUBIC)
        color = random.uniform(0.4, 1, 3).astype(np.float32)
        image += np.asarray(smooth)[:, :, np.newaxis] * color
    across, down = np.ogrid[0 : 2 * math.pi : size * 1j, 0 : 2 * math.pi : size * 1j]
    waves = random.uniform(-12, 12, 2)
    phase = random.uniform(0, 2 * math.pi)
    stripes = random.uniform(0, 20) * np.sin(waves[0] * across + waves[1] * down + phase)
    return image + stripes.astype(np.float32)[:, :, np.newaxis]


def _object(random, label, size, held_out):
    """The opacity of an object's pixels, float32 [height, width], cut to those of 1/2 or more."""
    lowest, highest = _SIDES
    side = round(size * lowest * (highest / lowest) ** random.random())
    if label < 10:
        digits = _digits(held_out)[label]
        digit = PIL.Image.fromarray(digits[random.integers(len(digits))])
        width = round(side * random.uniform(0.85, 1.15))
        large = digit.resize((width, side), PIL.Image.Resampling.BICUBIC)
        angle = random.uniform(-15, 15)
        large = large.rotate(angle, PIL.Image.Resampling.BICUBIC, expand=True)
        opacity = np.clip((np.asarray(large) - 0.4) * 3 + 0.5, 0, 1)
    else:
        opacity = _shape(_SHAPES[label - 10], side, random.uniform(0, 2 * math.pi))
    covered = opacity >= 0.5
    (top, bottom), (left, right) = (np.flatnonzero(covered.any(axis))[[0, -1]] for axis in (1, 0))
    return opacity[top : bottom + 1, left : right + 1]


@functools.cache
def _digits(held_out):
    """By class, float32 [n, 8, 8] in [0, 1]: every fifth of scikit-learn's, or the others."""
    import sklearn.datasets

    bunch = sklearn.datasets.load_digits()
    chosen = (np.arange(len(bunch.target)) % 5 == 0) == held_out
    images = (bunch.images / 16).astype(np.float32)
    return [images[chosen & (bunch.target == label)] for label in range(10)]


def _shape(name, side, angle):
    """The opacity of a shape within a square of about `side` pixels, turned by `angle` radians."""
    fine = side * _FINER
    picture = PIL.Image.new("L", (fine, fine))
    draw = PIL.ImageDraw.Draw(picture)
    if name == "ring":
        draw.ellipse((0, 0, fine - 1, fine - 1), outline=255, width=fine // 5)
    else:
        turned = [
            (fine / 2 * (1 + radius * math.cos(angle + turn)),
             fine / 2 * (1 + radius * math.sin(angle + turn)))
            for radius, turn in _corners(name)
        ]  # fmt: skip
        draw.polygon(turned, fill=255)
    return np.asarray(picture.reduce(_FINER), np.float32) / 255


def _corners(name):
    """Polar coordinates of a shape's corners, of radius 1 at most."""
    if name == "triangle":
        return [(1, 2 * math.pi * i / 3) for i in range(3)]
    if name == "star":
        return [(1 if i % 2 == 0 else 0.4, math.pi * i / 5) for i in range(10)]
    narrow = math.atan2(0.25, 1)  # of a cross whose arms are a quarter as wide as it
    outer, inner = 1, 0.25 * math.sqrt(2) * math.cos(narrow)
    return [
        corner
        for i in range(4)
        for corner in (
            (outer, math.pi / 2 * i - narrow),
            (outer, math.pi / 2 * i + narrow),
            (inner, math.pi / 2 * i + math.pi / 4),
        )
    ]


def _free_place(random, boxes, height, width, size):
    """(top, left) of a box that overlaps none of the others; None if none is found."""
    for _ in range(_TRIES):
        top, left = (int(random.integers(size - side + 1)) for side in (height, width))
        if all(
            left >= right or left + width <= other or top >= bottom or top + height <= above
            for other, above, right, bottom in boxes
        ):
            return top, left
    return None
