"""Classifies image files with an exported BiT inside a Keras 3 model.

    pip install tensorflow keras
    python consume_keras3.py --model=served/1 cat.jpg dog.png

Prints each image's most probable classes, with their probabilities.
"""

import argparse
import sys

import keras
import numpy as np
import tensorflow as tf


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
    parser.add_argument("--size", type=int, default=128, help="side to resize images to")
    parser.add_argument("--top", type=int, default=5, help="how many classes to print")
    parser.add_argument("images", nargs="+", help="image files")
    args = parser.parse_args()
    if not tf.saved_model.contains_saved_model(args.model):
        fail(f"{args.model} is not a folder with a saved_model.pb.")

    images = tf.stack([read_image(path, args.size) for path in args.images])
    # A TFSMLayer cannot be trained, only layers on top of it; where the model itself is to be
    # trained, bit_keras.load gives a Keras 3 model that can be.
    bit = keras.layers.TFSMLayer(args.model, call_endpoint="serving_default", trainable=False)
    inputs = keras.Input((None, None, 3))
    outputs = bit(inputs)
    if "logits" not in outputs:
        fail(f"{args.model} answers with features; expected a model with a head.")
    model = keras.Model(inputs, keras.layers.Softmax()(outputs["logits"]))
    for path, probabilities in zip(args.images, model.predict(images, verbose=0), strict=True):
        print(path)
        for index in np.argsort(-probabilities)[: args.top]:
            print(f"  {probabilities[index]:.4f}  {index}")


if __name__ == "__main__":
    main()
