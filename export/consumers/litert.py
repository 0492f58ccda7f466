"""Classifies image files with an exported BiT, in LiteRT, as phones do.

    pip install ai-edge-litert pillow
    python litert.py --model=photos.tflite --labels=labels.txt cat.jpg dog.png

The file is one of `bit-export --format=litert`, or of a mobile bundle. Most such files take images
of one size; for others say --size. Prints each image's five likeliest classes.
"""

import argparse
import pathlib
import sys

import numpy as np
import PIL.Image
from ai_edge_litert.interpreter import Interpreter


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def read_labels(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        fail(f"{path} cannot be read; expected a text file with one class name a line.")


def read_image(path, size):
    """Image file -> float32 RGB [1, size, size, 3] in [0, 1]."""
    try:
        image = PIL.Image.open(path).convert("RGB")
    except OSError:
        fail(f"{path} cannot be read; expected an image file.")
    image = image.resize((size, size), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image, "float32")[None] / 255


def print_classes(path, logits, labels):
    """Prints the five likeliest classes of one image; by number, if `labels` is None."""
    if labels and len(labels) != len(logits):
        fail(f"--labels has {len(labels)} names; expected {len(logits)}, one for each class.")
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    print(path)
    for index in np.argsort(-probabilities)[:5]:
        print(f"  {probabilities[index]:.4f}  {labels[index] if labels else index}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="the .tflite file")
    parser.add_argument("--labels", help="text file of class names, one a line")
    parser.add_argument("--size", type=int, help="side in pixels to resize images to")
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    labels = read_labels(args.labels) if args.labels else None
    if not pathlib.Path(args.model).is_file():
        fail(f"there is no file {args.model}; expected one of bit-export --format=litert.")
    interpreter = Interpreter(args.model)
    model = interpreter.get_signature_runner()  # resizes the input of a file for any size
    if "logits" not in model.get_output_details():
        fail(f"{args.model} answers with features; expected a model with a head.")
    side = int(model.get_input_details()["images"]["shape_signature"][1])  # -1 is any
    if args.size and side not in (-1, args.size):
        fail(f"{args.model} takes images of {side} pixels, not of {args.size}; leave --size out.")
    size = args.size or (224 if side == -1 else side)
    for path in args.images:
        logits = model(images=read_image(path, size))["logits"]
        print_classes(path, logits[0], labels)


if __name__ == "__main__":
    main()
