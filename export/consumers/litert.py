"""Classifies image files with an exported BiT, in LiteRT, as phones do.

    pip install ai-edge-litert pillow
    python litert.py --model=photos.tflite cat.jpg dog.png

The file is one of `bit-export --format=litert`, or of a mobile bundle. Prints each image's five
likeliest classes.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import zipfile

import numpy as np
import PIL.Image
import PIL.ImageOps
from ai_edge_litert.interpreter import Interpreter


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def read_labels(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        fail(f"{path} cannot be read; expected a text file with one class name a line.")


def resized(image, height, width):
    """Bilinear without antialiasing, as the model's own test images were resized."""

    def neighbors(old, new):
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        first = at.astype(int)
        return first, np.minimum(first + 1, old - 1), (at - first).astype("float32")

    top, bottom, down = neighbors(len(image), height)
    left, right, along = neighbors(len(image[0]), width)
    rows = image[top] + (image[bottom] - image[top]) * down[:, None, None]
    return rows[:, left] + (rows[:, right] - rows[:, left]) * along[:, None]


def prepared(image, facts):
    """RGB image -> float32 [1, size, size, 3] in [0, 1], as `facts` say."""
    size, short = facts["test_size"], facts.get("test_resize")
    image = np.asarray(image, "float32") / 255
    if not short:
        return resized(image, size, size)[None]
    least = min(image.shape[:2])
    height, width = ((side * short + least // 2) // least for side in image.shape[:2])
    top, left = (height - size) // 2, (width - size) // 2
    return resized(image, height, width)[None, top : top + size, left : left + size]


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


def answers(model, images):
    """float32 images to float32 logits; in a file of integers, n is (n - zero point) * scale."""
    taken, given = model.get_input_details()["images"], model.get_output_details()["logits"]
    if taken["dtype"] == np.uint8:
        scale, zero_point = taken["quantization"]
        images = np.rint(images / scale + zero_point).clip(0, 255).astype("uint8")
    logits = model(images=images)["logits"]
    if given["dtype"] == np.int8:
        scale, zero_point = given["quantization"]
        logits = (logits.astype("float32") - zero_point) * scale
    return logits


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
    parser.add_argument("--model", required=True, help="the .tflite file")
    parser.add_argument("--labels", help="text file of class names; by default the model's own")
    parser.add_argument("--size", type=int, help="side in pixels; by default the model's own")
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    if not pathlib.Path(args.model).is_file():
        fail(f"there is no file {args.model}; expected one of bit-export --format=litert.")
    interpreter = Interpreter(args.model)
    model = interpreter.get_signature_runner()  # resizes the input of a file for any size
    if "logits" not in model.get_output_details():
        fail(f"{args.model} answers with features; expected a model with a head.")
    side = int(model.get_input_details()["images"]["shape_signature"][1])  # -1 is any
    if args.size and side not in (-1, args.size):
        fail(f"{args.model} takes images of {side} pixels, not of {args.size}; leave --size out.")
    facts = {} if side == -1 else {"test_size": side}
    if zipfile.is_zipfile(args.model):  # at the end of the file, as LiteRT's own metadata
        with zipfile.ZipFile(args.model) as archive:
            facts = json.loads(archive.read("bit_keras.json"))
    facts = chosen(facts, args)
    for path in args.images:
        logits = answers(model, prepared(read_picture(path), facts))
        print_classes(path, logits[0], facts)


if __name__ == "__main__":
    main()
