"""Classifies image files with an exported BiT inside a Keras 3 model.

    pip install tensorflow keras
    python keras3.py --model=served/1 --labels=labels.txt --size=224 cat.jpg dog.png

Prints each image's five likeliest classes. A TFSMLayer cannot be trained, only layers on top of it;
`bit_keras.load("served/1")` gives a Keras 3 model that can.
"""

import argparse
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf


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
    parser.add_argument("--model", required=True, help="folder of the SavedModel")
    parser.add_argument("--labels", help="text file of class names, one a line")
    parser.add_argument("--size", type=int, default=224, help="side in pixels to resize images to")
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    labels = read_labels(args.labels) if args.labels else None
    if not tf.saved_model.contains_saved_model(args.model):
        fail(f"{args.model} is not a folder with a saved_model.pb.")
    images = tf.stack([read_image(path, args.size) for path in args.images])
    bit = keras.layers.TFSMLayer(args.model, call_endpoint="serving_default", trainable=False)
    inputs = keras.Input((None, None, 3))
    outputs = bit(inputs)
    if "logits" not in outputs:
        fail(f"{args.model} answers with features; expected a model with a head.")
    model = keras.Model(inputs, outputs["logits"])
    for path, logits in zip(args.images, model.predict(images, verbose=0), strict=True):
        print_classes(path, logits, labels)


if __name__ == "__main__":
    main()
