"""Finds objects on image files with an exported detector, in ONNX Runtime.

    pip install onnxruntime pillow
    python detector_onnx.py --model=cells.onnx street.jpg park.png

The file is one of `bit-detect export --format=onnx`. It takes pictures of any size, and prepares
them itself. Prints each image's objects, the surest first: score, name, and left, top, right and
bottom in pixels of the upright picture.
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


def print_objects(path, found, names, threshold):
    """Prints the objects of one image whose score is the threshold or more."""
    print(path)
    for score, number, box in zip(found["scores"], found["classes"], found["boxes"], strict=True):
        if number >= 0 and score >= threshold:  # beyond the last object, classes are -1
            sides = " ".join(f"{side:.1f}" for side in box)
            print(f"  {score:.4f}  {names[number] if names else number}  {sides}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="the .onnx file")
    parser.add_argument("--threshold", type=float, default=0.3, help="least score; 0.3 by default")
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    if not 0 <= args.threshold <= 1:
        fail(f"--threshold must be a score in [0, 1], got {args.threshold:g}.")
    if not pathlib.Path(args.model).is_file():
        fail(f"there is no file {args.model}; expected one of bit-detect export --format=onnx.")
    # Where a GPU is installed: "CUDAExecutionProvider" before it.
    try:
        session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    except Exception:  # of a type that is the runtime's own
        fail(f"{args.model} cannot be read; expected a file of bit-detect export --format=onnx.")
    outputs = [output.name for output in session.get_outputs()]
    if "boxes" not in outputs:
        fail(f"{args.model} is no detector; expected a file of bit-detect export --format=onnx.")
    stored = session.get_modelmeta().custom_metadata_map.get("bit_keras", "{}")
    names = json.loads(stored).get("class_names")
    for path in args.images:
        image = np.asarray(read_picture(path), "float32") / 255
        answers = session.run(outputs, {"images": image[None]})
        found = {name: part[0] for name, part in zip(outputs, answers, strict=True)}
        print_objects(path, found, names, args.threshold)


if __name__ == "__main__":
    main()
