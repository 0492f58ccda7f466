"""Classifies image files with an exported BiT, in ONNX Runtime.

    pip install onnxruntime pillow
    python onnx_runtime.py --model=photos.onnx cat.jpg dog.png

The file is one of `bit-export --format=onnx`. Prints each image's five likeliest classes.
"""

import argparse
import contextlib
import json
import pathlib
import sys

import numpy as np
import onnxruntime
import PIL.Image
import PIL.ImageOps


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
    parser.add_argument("--model", required=True, help="the .onnx file")
    parser.add_argument("--labels", help="text file of class names; by default the model's own")
    parser.add_argument("--size", type=int, help="side in pixels; by default the model's own")
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    if not pathlib.Path(args.model).is_file():
        fail(f"there is no file {args.model}; expected one of bit-export --format=onnx.")
    # Where a GPU is installed: "CUDAExecutionProvider" before it.
    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    if "logits" not in [output.name for output in session.get_outputs()]:
        fail(f"{args.model} answers with features; expected a model with a head.")
    stored = session.get_modelmeta().custom_metadata_map.get("bit_keras", "{}")
    facts = chosen(json.loads(stored), args)
    for path in args.images:
        [logits] = session.run(["logits"], {"images": prepared(read_picture(path), facts)})
        print_classes(path, logits[0], facts)


if __name__ == "__main__":
    main()
