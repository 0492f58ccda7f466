"""Sets of boxed images made up for tests."""

import numpy as np
import tensorflow as tf

from bit_keras import data

COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)  # by class


def rectangles(*images, size=(48, 64), **fields):
    """Black images with filled rectangles, each (class, left, top, right, bottom)."""
    height, width = size
    pixels = np.zeros((len(images), height, width, 3), np.uint8)
    for image, objects in zip(pixels, images, strict=True):
        for label, left, top, right, bottom in objects:
            image[top:bottom, left:right] = COLORS[label]
    pixels = tf.constant(pixels)
    objects = [each for image in images for each in image]
    return data.BoxedImages(
        "rectangles",
        ("red", "green", "blue"),
        lambda index: tf.gather(pixels, index),
        image_sizes=np.tile(size, (len(images), 1)),
        boxes=np.array([box for _, *box in objects]),
        classes=np.array([label for label, *_ in objects], int),
        starts=np.cumsum([0, *map(len, images)]),
        **fields,
    )


def of_image(images, i):
    """What a set says of one image: [(class, box, crowd)]."""
    rows = slice(images.starts[i], images.starts[i + 1])
    parts = (images.classes[rows], images.boxes[rows].round(3), images.crowd[rows])
    return [tuple(each) for each in zip(*(part.tolist() for part in parts), strict=True)]
