"""Classifies image files with an exported BiT, by TensorFlow alone.

    pip install tensorflow
    python consume_saved_model.py --model=served/1 cat.jpg dog.png

Prints each image's most probable classes, with their probabilities.
"""

import argparse
import sys

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
    module = tf.saved_model.load(args.model)
    # TensorFlow Serving calls the same signature. One without a head answers with "features".
    serve = module.signatures["serving_default"]
    if "logits" not in serve.structured_outputs:
        fail(f"{args.model} answers with features; expected a model with a head.")
    print(f"{args.model}: {len(module.variables)} variables")
    logits = serve(images=images)["logits"]
    for path, probabilities in zip(args.images, tf.nn.softmax(logits).numpy(), strict=True):
        print(path)
        for index in np.argsort(-probabilities)[: args.top]:
            print(f"  {probabilities[index]:.4f}  {index}")


if __name__ == "__main__":
    main()
