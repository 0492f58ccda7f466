"""Finds objects on image files with an exported detector, by TensorFlow alone.

    pip install tensorflow
    python detector_saved_model.py --model=served/1 street.jpg park.png

The folder is one of `bit-detect export`. A file's bytes go in as they are: the signature
"serve_encoded" decodes them, prepares pictures as the detector was tested, and names classes. Two
more, "serving_default" and "serve_uint8", take pixels. TensorFlow Serving offers all three. Prints
each image's objects, the surest first: score, name, and left, top, right and bottom in pixels; of a
detector that finds masks also the number of pixels that the object covers.
"""

import argparse
import pathlib
import re
import sys

import tensorflow as tf


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def read_bytes(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError:
        fail(f"{path} cannot be read; expected a JPEG, PNG, WebP, BMP or GIF file.")


def print_objects(path, found, threshold):
    """Prints the objects of one image whose score is the threshold or more."""
    print(path)
    masks = found.get("masks")  # [objects, height, width], 1 where an object is and 0 elsewhere
    rows = zip(found["scores"], found["class_names"], found["boxes"], strict=True)
    for n, (score, name, box) in enumerate(rows):
        if name and score >= threshold:  # beyond the last object, names are empty
            pixels = "" if masks is None else f"  {masks[n].sum()} pixels"
            sides = " ".join(f"{side:.1f}" for side in box)
            print(f"  {score:.4f}  {name.decode()}  {sides}{pixels}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder of the SavedModel")
    parser.add_argument("--threshold", type=float, default=0.3, help="least score; 0.3 by default")
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    if not 0 <= args.threshold <= 1:
        fail(f"--threshold must be a score in [0, 1], got {args.threshold:g}.")
    if not tf.saved_model.contains_saved_model(args.model):
        fail(f"{args.model} is not a folder with a saved_model.pb.")
    signatures = tf.saved_model.load(args.model).signatures
    if "boxes" not in signatures["serving_default"].structured_outputs:
        fail(f"{args.model} is no detector; expected a folder of bit-detect export.")
    for path in args.images:
        data = read_bytes(path)
        try:
            found = signatures["serve_encoded"](encoded=tf.constant([data]))
        except tf.errors.OpError as error:
            # The signature refuses what it would decode wrongly, and says why.
            why = re.search(r"assertion failed: \[(.*?)\.?\]", error.message)
            why = why[1] if why else "expected a JPEG, PNG, WebP, BMP or GIF file"
            fail(f"{path} cannot be read; {why}.")
        found = {name: part.numpy()[0] for name, part in found.items()}
        print_objects(path, found, args.threshold)


if __name__ == "__main__":
    main()
