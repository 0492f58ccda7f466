"""Classifies image files with an exported BiT, by TensorFlow alone.

    pip install tensorflow
    python saved_model.py --model=served/1 cat.jpg dog.png

A file's bytes go in as they are: the signature "serve_encoded" decodes them, resizes to the size
that the model was exported with, and names classes. With --size=384 that happens here, and pixels
go to the signature "serving_default". Prints each image's five likeliest classes.
"""

import argparse
import pathlib
import sys

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


def read_bytes(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError:
        fail(f"{path} cannot be read; expected a JPEG, PNG, BMP or GIF file.")


def read_image(data, size):
    """Bytes of an image file -> float32 RGB [size, size, 3] in [0, 1]."""
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    return tf.image.resize(image, [size, size]) / 255


def print_classes(path, outputs, labels):
    """Prints the five likeliest classes of one image, by the first names that are known."""
    probabilities = tf.nn.softmax(outputs["logits"][0]).numpy()
    if labels and len(labels) != len(probabilities):
        fail(f"--labels has {len(labels)} names; expected {len(probabilities)}, one a class.")
    order = np.argsort(-probabilities, kind="stable")
    names = order
    if labels:
        names = [labels[index] for index in order]
    elif "class_names" in outputs:  # of "serve_encoded": the likeliest first
        names = [name.decode() for name in outputs["class_names"][0].numpy()]
    print(path)
    for index, name in list(zip(order, names, strict=True))[:5]:
        print(f"  {probabilities[index]:.4f}  {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder of the SavedModel")
    parser.add_argument("--labels", help="text file of class names, one a line; by default its own")
    parser.add_argument("--size", type=int, help="side in pixels to resize images to, here")
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    labels = read_labels(args.labels) if args.labels else None
    if not tf.saved_model.contains_saved_model(args.model):
        fail(f"{args.model} is not a folder with a saved_model.pb.")
    # TensorFlow Serving offers the same signatures. One more, "serve_uint8", takes 0 to 255.
    signatures = tf.saved_model.load(args.model).signatures
    if "logits" not in signatures["serving_default"].structured_outputs:
        fail(f"{args.model} answers with features; expected a model with a head.")
    for path in args.images:
        data = read_bytes(path)
        try:
            if args.size:
                image = read_image(data, args.size)
                outputs = signatures["serving_default"](images=image[None])
            else:
                outputs = signatures["serve_encoded"](encoded=tf.constant([data]))
        except tf.errors.OpError:
            fail(f"{path} cannot be read; expected a JPEG, PNG, BMP or GIF file.")
        print_classes(path, outputs, labels)


if __name__ == "__main__":
    main()
