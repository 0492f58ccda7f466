"""Classifies image files with an exported BiT, in transformers.

    pip install transformers torch torchvision pillow
    python transformers_weights.py --model=photos cat.jpg dog.png

The folder is one of `bit-export --format=transformers`. Prints each image's five likeliest classes.
transformers smooths images when it makes them smaller, which bit_keras does not, so probabilities
differ a little.
"""

import argparse
import contextlib
import pathlib
import sys

import PIL.Image
import PIL.ImageOps
from transformers import pipeline


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", required=True, help="folder with model.safetensors and config.json"
    )
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    if not pathlib.Path(args.model, "model.safetensors").is_file():
        fail(
            f"{args.model} holds no model.safetensors; expected a bit-export --format=transformers."
        )
    # Softmax or sigmoid, size and names are in the folder's two JSON files.
    classify = pipeline("image-classification", model=args.model)
    if classify.model.config.num_labels == 0:
        fail(f"{args.model} answers with features; expected a model with a head.")
    for path in args.images:
        print(path)
        for answer in classify(read_picture(path), top_k=5):
            print(f"  {answer['score']:.4f}  {answer['label']}")


if __name__ == "__main__":
    main()
