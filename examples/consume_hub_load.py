"""Classifies image files with an exported BiT, by `hub.load`.

    pip install tensorflow tf-keras tensorflow-hub "setuptools<81"
    python consume_hub_load.py --model=served/1 --labels=names.txt cat.jpg dog.png

Prints each image's most probable classes, with their probabilities.
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


def read_image(path, size):
    """Image file -> float32 RGB [size, size, 3] in [0, 1]."""
    try:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    except tf.errors.OpError:
        fail(f"{path} cannot be read; expected a JPEG, PNG, BMP or GIF file.")
    return tf.image.resize(image, [size, size]) / 255


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder of the exported SavedModel")
    parser.add_argument("--labels", type=pathlib.Path, help="text file, one class name a line")
    parser.add_argument("--size", type=int, default=128, help="side to resize images to")
    parser.add_argument("--top", type=int, default=5, help="how many classes to print")
    parser.add_argument("images", nargs="+", help="image files")
    args = parser.parse_args()
    if not tf.saved_model.contains_saved_model(args.model):
        fail(f"{args.model} is not a folder with a saved_model.pb.")
    if args.labels and not args.labels.is_file():
        fail(f"there is no file {args.labels}; expected one class name a line.")

    images = tf.stack([read_image(path, args.size) for path in args.images])
    module = hub.load(args.model)
    if "logits" not in module.signatures["serving_default"].structured_outputs:
        fail(f"{args.model} answers with features; expected a model with a head.")
    logits = module(images)
    names = range(logits.shape[1])
    if args.labels:
        names = args.labels.read_text(encoding="utf-8").splitlines()
        if len(names) != logits.shape[1]:
            fail(f"{args.labels} has {len(names)} names for {logits.shape[1]} classes.")
    for path, probabilities in zip(args.images, tf.nn.softmax(logits).numpy(), strict=True):
        print(path)
        for index in np.argsort(-probabilities)[: args.top]:
            print(f"  {probabilities[index]:.4f}  {names[index]}")


if __name__ == "__main__":
    main()
