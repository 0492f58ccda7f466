"""Classifies image files with an exported BiT, in timm.

    pip install timm pillow
    python timm_weights.py --model=photos cat.jpg dog.png

The folder is one of `bit-export --format=timm`. Prints each image's five likeliest classes. timm
smooths images when it makes them smaller, which bit_keras does not, so probabilities differ a bit.
"""

import argparse
import contextlib
import json
import pathlib
import sys

import PIL.Image
import PIL.ImageOps
import timm
import torch


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
        fail(f"{args.model} holds no model.safetensors; expected a bit-export --format=timm.")
    model = timm.create_model(f"local-dir:{args.model}", pretrained=True).eval()
    if model.num_classes == 0:
        fail(f"{args.model} answers with features; expected a model with a head.")
    config = json.loads(pathlib.Path(args.model, "config.json").read_text(encoding="utf-8"))
    names = config["pretrained_cfg"].get("label_names") or range(model.num_classes)
    sigmoid = config.get("bit_keras", {}).get("loss") == "sigmoid"
    prepare = timm.data.create_transform(**timm.data.resolve_data_config(model.pretrained_cfg))
    for path in args.images:
        with torch.inference_mode():
            logits = model(prepare(read_picture(path))[None])[0]
        probabilities = logits.sigmoid() if sigmoid else logits.softmax(0)
        print(path)
        for index in torch.argsort(-probabilities, stable=True)[:5].tolist():
            print(f"  {probabilities[index]:.4f}  {names[index]}")


if __name__ == "__main__":
    main()
