"""Classifies image files with an exported BiT inside a Keras 3 model.

    pip install tensorflow keras pillow
    python keras3.py --model=served/1 cat.jpg dog.png

Prints each image's five likeliest classes. A TFSMLayer cannot be trained, only layers on top of it;
`bit_keras.load("served/1")` gives a Keras 3 model that can.
"""

import argparse
import contextlib
import json
import pathlib
import sys

import keras
import numpy as np
import PIL.Image
import PIL.ImageOps
import tensorflow as tf


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def read_labels(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        fail(f"{path} cannot be read; expected a text file with one class name a line.")


def read_picture(path):
    """Image file -> RGB, upright, over white."""
    try:
        image = PIL.Image.open(path)
        image.load()
    except OSError:
        fail(f"{path} cannot be read; expected an image file.")
    with contextlib.suppress(Exception):  # of any type, where metadata is damaged
        image = PIL.ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, which convert would cut off at 255
        image = image.point(lambda value: value / 256).convert("L")
    image = image.convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, "white")
    return PIL.Image.alpha_composite(white, image).convert("RGB")


def read_image(path, facts):
    """Image file -> float32 RGB [size, size, 3] in [0, 1], as the model's own test images were."""
    image = np.asarray(read_picture(path))
    size, short = facts["test_size"], facts.get("test_resize")
    if not short:
        return tf.image.resize(image, [size, size]) / 255
    least = min(image.shape[:2])
    height, width = ((side * short + least // 2) // least for side in image.shape[:2])
    top, left = (height - size) // 2, (width - size) // 2
    return tf.image.resize(image, [height, width])[top : top + size, left : left + size] / 255


def print_classes(path, logits, facts):
    """Prints the five likeliest classes of one image; by number, where the model has no names."""
    names = facts.get("class_names") or range(len(logits))
    if len(names) != len(logits):
        fail(f"--labels has {len(names)} names; expected {len(logits)}, one for each class.")
    logits = np.asarray(logits, "float64")
    if facts.get("loss") == "sigmoid":  # every class has a probability of its own
        probabilities = 1 / (1 + np.exp(-logits))
    else:
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
    print(path)
    for index in np.argsort(-probabilities, kind="stable")[:5]:
        print(f"  {probabilities[index]:.4f}  {names[index]}")


def read_facts(folder):
    """What the export says of its use, in a file beside the graph; nothing, if it has none."""
    path = pathlib.Path(folder, "assets.extra", "bit_keras.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def chosen(facts, args):
    """The model's own facts, or what the flags say in their place."""
    if args.labels:
        facts = {**facts, "class_names": read_labels(args.labels)}
    if args.size:
        facts = {**facts, "test_size": args.size, "test_resize": None}
    if not facts.get("test_size"):
        fail(f"{args.model} does not tell the size of its images; say --size.")
    return facts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder of the SavedModel")
    parser.add_argument("--labels", help="text file of class names; by default the model's own")
    parser.add_argument("--size", type=int, help="side in pixels; by default the model's own")
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    if not tf.saved_model.contains_saved_model(args.model):
        fail(f"{args.model} is not a folder with a saved_model.pb.")
    bit = keras.layers.TFSMLayer(args.model, call_endpoint="serving_default", trainable=False)
    inputs = keras.Input((None, None, 3))
    outputs = bit(inputs)
    if "logits" not in outputs:
        fail(f"{args.model} answers with features; expected a model with a head.")
    model = keras.Model(inputs, outputs["logits"])
    facts = chosen(read_facts(args.model), args)
    images = tf.stack([read_image(path, facts) for path in args.images])
    for path, logits in zip(args.images, model.predict(images, verbose=0), strict=True):
        print_classes(path, logits, facts)


if __name__ == "__main__":
    main()
