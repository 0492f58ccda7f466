"""Classifies image files with an exported BiT, by `hub.load`.

    pip install tensorflow tf-keras tensorflow-hub "setuptools<81"
    python consume_hub_load.py --model=served/1 --labels=names.txt cat.jpg dog.png

Prints, for each image, its most probable classes and their probabilities.
"""

import argparse
import pathlib
import sys

import tensorflow as tf
import tensorflow_hub as hub


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def read_image(path, size):
    """Image file -> float32 RGB [size, size, 3] in [0, 1]."""
    try:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    except tf.errors.OpError:
        fail(f"cannot read {path}, expected a JPEG, PNG, BMP or GIF file.")
    return tf.image.resize(image, [size, size]) / 255


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder of the exported SavedModel")
    parser.add_argument("--labels", help="text file with one class name a line")
    parser.add_argument("--size", type=int, default=128, help="side images are resized to")
    parser.add_argument("--top", type=int, default=5, help="classes to print")
    parser.add_argument("images", nargs="+", help="image files")
    args = parser.parse_args()
    if not tf.saved_model.contains_saved_model(args.model):
        fail(f"{args.model} is not a folder with a saved_model.pb.")

    module = hub.load(args.model)
    if "logits" not in module.signatures["serving_default"].structured_outputs:
        fail(f"{args.model} answers with features, not classes.")
    logits = module(tf.stack([read_image(path, args.size) for path in args.images]))
    classes = logits.shape[1]
    names = range(classes)
    if args.labels:
        try:
            names = pathlib.Path(args.labels).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            fail(f"cannot read the labels {args.labels}: {error.strerror}.")
        if len(names) != classes:
            fail(f"{args.labels} has {len(names)} lines where the model has {classes} classes.")

    best = tf.math.top_k(tf.nn.softmax(logits), min(args.top, classes))
    for path, indices, probabilities in zip(args.images, *map(...)):
        pass
