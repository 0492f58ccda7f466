"""Classifies image files with an exported BiT, by `hub.load`.

    pip install tensorflow tf-keras tensorflow-hub "setuptools<81"
    python hub_load.py --model=served/1 --labels=labels.txt --size=224 cat.jpg dog.png

--model may also be the URL of an archive. Prints each image's five likeliest classes.
"""

import argparse
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def read_labels(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        fail(f"{path} cannot be read; expected a text file with one class name a line.")


def read_image(path, size):
    """Image file -> float32 RGB [size, size, 3] in [0, 1]."""
    try:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    except tf.errors.OpError:
        fail(f"{path} cannot be read; expected a JPEG, PNG, BMP or GIF file.")
    return tf.image.resize(image, [size, size]) / 255


def print_classes(path, logits, labels):
    """Prints the five likeliest classes of one image; by number, if `labels` is None."""
    if labels and len(labels) != len(logits):
        fail(f"--labels has {len(labels)} names; expected {len(logits)}, one for each class.")
    probabilities = tf.nn.softmax(logits).numpy()
    print(path)
    for index in np.argsort(-probabilities)[:5]:
        print(f"  {probabilities[index]:.4f}  {labels[index] if labels else index}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder or URL of the SavedModel")
    parser.add_argument("--labels", help="text file of class names, one a line")
    parser.add_argument("--size", type=int, default=224, help="side in pixels to resize images to")
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    labels = read_labels(args.labels) if args.labels else None
    images = tf.stack([read_image(path, args.size) for path in args.images])
    try:
        module = hub.load(args.model)
    except (OSError, ValueError):
        fail(f"{args.model} cannot be loaded; expected the folder or the URL of a SavedModel.")
    if "logits" not in module.signatures["serving_default"].structured_outputs:
        fail(f"{args.model} answers with features; expected a model with a head.")
    for path, logits in zip(args.images, module(images), strict=True):
        print_classes(path, logits, labels)


if __name__ == "__main__":
    main()
