"""Classifies image files with an exported BiT, by TensorFlow alone.

    pip install tensorflow
    python saved_model.py --model=served/1 cat.jpg dog.png

A file's bytes go in as they are: the signature "serve_encoded" decodes them, prepares pictures as
the model was tested, and names classes. Two more, "serving_default" and "serve_uint8", take pixels.
TensorFlow Serving offers all three. Prints each image's five likeliest classes.
"""

import argparse
import pathlib
import re
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
        fail(f"{path} cannot be read; expected a JPEG, PNG, WebP, BMP or GIF file.")


def print_classes(path, outputs, labels):
    """Prints the five likeliest classes of one image, whose names and order are in the outputs."""
    probabilities = outputs["probabilities"][0].numpy()
    names = [name.decode() for name in outputs["class_names"][0].numpy()]
    if labels and len(labels) != len(names):
        fail(f"--labels has {len(labels)} names; expected {len(names)}, one for each class.")
    if labels:
        order = np.argsort(-outputs["logits"][0].numpy(), kind="stable")
        names = [labels[index] for index in order]
    print(path)
    for probability, name in list(zip(probabilities, names, strict=True))[:5]:
        print(f"  {probability:.4f}  {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder of the SavedModel")
    parser.add_argument("--labels", help="text file of class names, one a line; by default its own")
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    labels = read_labels(args.labels) if args.labels else None
    if not tf.saved_model.contains_saved_model(args.model):
        fail(f"{args.model} is not a folder with a saved_model.pb.")
    signatures = tf.saved_model.load(args.model).signatures
    if "logits" not in signatures["serving_default"].structured_outputs:
        fail(f"{args.model} answers with features; expected a model with a head.")
    for path in args.images:
        data = read_bytes(path)
        try:
            outputs = signatures["serve_encoded"](encoded=tf.constant([data]))
        except tf.errors.OpError as error:
            # The signature refuses what it would decode wrongly, and says why.
            why = re.search(r"assertion failed: \[(.*?)\.?\]", error.message)
            why = why[1] if why else "expected a JPEG, PNG, WebP, BMP or GIF file"
            fail(f"{path} cannot be read; {why}.")
        print_classes(path, outputs, labels)


if __name__ == "__main__":
    main()
