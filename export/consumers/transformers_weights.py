"""Classifies image files with an exported BiT, in transformers.

    pip install transformers torch torchvision pillow
    python transformers_weights.py --model=photos --labels=labels.txt --size=224 cat.jpg dog.png

The folder is one of `bit-export --format=transformers`. Prints each image's five likeliest classes.
"""

import argparse
import pathlib
import sys

import numpy as np
import PIL.Image
import torch
from transformers import BitForImageClassification, BitImageProcessor


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def read_labels(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        fail(f"{path} cannot be read; expected a text file with one class name a line.")


def read_image(path, size):
    """Image file -> PIL image, RGB, of size x size."""
    try:
        image = PIL.Image.open(path).convert("RGB")
    except OSError:
        fail(f"{path} cannot be read; expected an image file.")
    return image.resize((size, size), PIL.Image.Resampling.BILINEAR)


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
    parser.add_argument(
        "--model", required=True, help="folder with model.safetensors and config.json"
    )
    parser.add_argument("--labels", help="text file of class names, one a line")
    parser.add_argument("--size", type=int, default=224, help="side in pixels to resize images to")
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    labels = read_labels(args.labels) if args.labels else None
    if not pathlib.Path(args.model, "model.safetensors").is_file():
        fail(
            f"{args.model} holds no model.safetensors; expected a bit-export --format=transformers."
        )
    model = BitForImageClassification.from_pretrained(args.model).eval()
    if model.config.num_labels == 0:
        fail(f"{args.model} answers with features; expected a model with a head.")
    processor = BitImageProcessor.from_pretrained(args.model)  # normalizes, and leaves the size
    for path in args.images:
        inputs = processor(read_image(path, args.size), return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs).logits
        print_classes(path, logits[0].numpy(), labels)


if __name__ == "__main__":
    main()
