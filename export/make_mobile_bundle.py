"""Packs a model for a phone: a LiteRT file, its labels, and what it takes and answers.

    python export/make_mobile_bundle.py --model=runs/photos --output=photos.zip
    python export/make_mobile_bundle.py --model=runs/photos --images=photos/ --output=small.zip

The zip holds model.tflite, labels.txt (where the model has a head), metadata.json and README.md.
The LiteRT file has float16 weights, or, with images like those to come, 8-bit ones. It was read
back and compared with the model.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import tempfile
import zipfile
from typing import TYPE_CHECKING

from absl import flags

import bit_keras
from bit_keras.cli import application

if TYPE_CHECKING:  # imports TensorFlow, which commands quiet when they start
    from bit_keras.models.spec import ModelSpec

MODEL = flags.DEFINE_string("model", None, "A run, or what else bit_keras.load takes.")
LABELS = flags.DEFINE_string("labels", None, "A file of class names; by default the model's.")
SIZE = flags.DEFINE_integer("size", None, "Side of its images; by default the model's own.")
IMAGES = flags.DEFINE_string(
    "images",
    None,
    "Images to calibrate 8-bit weights on: a folder of class folders, a TFDS name, or "
    '"digits". By default weights are float16.',
)
OUTPUT = flags.DEFINE_string("output", None, "The .zip to write.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an older bundle.")
flags.mark_flags_as_required(["model", "output"])

README = """\
# {model}

`model.tflite` is a Big Transfer (BiT) image model for LiteRT, with {precision} weights.

- It takes `images`: one float32 RGB image, `[1, {size}, {size}, 3]`, in [0, 1]: divide pixels of 0
  to 255 by 255. Resize to {size} x {size} without keeping the aspect.
- It answers `{answer}`: float32 `[1, {outputs}]`.{classes}
- Proof: {proof}.

`metadata.json` tells the same to programs.

```
{notice}```
"""


def labels_of(path: str | None, spec: "ModelSpec") -> list[str]:
    """Class names from a file, or the model's own; none where it has no head.

    Raises:
        ValueError: If there are not as many names as classes.
    """
    if path is None:
        return list(spec.names())
    labels = bit_keras.classification.read_labels(path)
    if len(labels) != spec.num_classes:
        raise ValueError(
            f"{path} has {len(labels)} names; expected {spec.num_classes}, one for each class."
        )
    return labels


def describe(model, spec, tflite: pathlib.Path, labels, size: int) -> tuple[dict, str]:
    """The metadata, and the same to be read."""
    proof = json.loads(pathlib.Path(f"{tflite}.proof.json").read_text())
    answer = "logits" if labels else "features"
    outputs = model.output_shape[-1]
    metadata = {
        "model": model.name,
        "file": {"name": tflite.name, "sha256": hashlib.sha256(tflite.read_bytes()).hexdigest()},
        "precision": proof["precision"],
        "input": {
            "name": "images",
            "shape": [1, size, size, 3],
            "dtype": "float32",
            "channels": "RGB",
            "range": [0, 1],
        },
        "output": {"name": answer, "shape": [1, outputs], "dtype": "float32"},
        "labels": "labels.txt" if labels else None,
        "probabilities": (spec.loss or "softmax") if labels else None,
        "proof": proof,
    }
    told = (
        f"on {proof['images']} images answers differ from those of the float32 model by at most "
        f"{proof['largest_difference']:.2g}, where the largest is {proof['scale']:.2g}"
    )
    if labels:
        told += f"; {proof['top1_agreement']:.1%} of them keep their class"
    readme = README.format(
        model=model.name,
        precision="8-bit" if proof["precision"] == "int8" else proof["precision"],
        size=size,
        answer=answer,
        outputs=outputs,
        classes=" Line n of `labels.txt` names the n-th class; a "
        f"{spec.loss or 'softmax'} makes probabilities of them."
        if labels
        else "",
        proof=told,
        notice=spec.notice,
    )
    return metadata, readme


def write_zip(path: pathlib.Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in files.items():
            # Of 1980, like every file without a date: the same files make the same zip.
            bundle.writestr(zipfile.ZipInfo(name), content)


def main():
    from bit_keras.models.spec import spec_of

    output = pathlib.Path(OUTPUT.value)
    if output.suffix != ".zip":
        raise ValueError(f"--output must end in .zip, got {output}.")
    if output.exists() and not OVERWRITE.value:
        raise ValueError(f"{output} exists already; say --overwrite to replace it.")
    bit_keras.models.check_source(MODEL.value)
    model = bit_keras.load(MODEL.value)
    spec = spec_of(model)
    labels, size = labels_of(LABELS.value, spec), SIZE.value or spec.test_size or 224
    images = bit_keras.data.from_name(IMAGES.value)[0] if IMAGES.value else None
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=output.parent) as scratch:
        tflite = pathlib.Path(scratch) / "model.tflite"
        with contextlib.redirect_stdout(io.StringIO()):  # it names a file that will be gone
            difference = bit_keras.export(
                model,
                tflite,
                "litert",
                precision="int8" if IMAGES.value else "float16",
                labels=labels or None,
                size=size,
                images=images,
            )
        metadata, readme = describe(model, spec, tflite, labels, size)
        files = {
            "model.tflite": tflite.read_bytes(),
            "metadata.json": (json.dumps(metadata, indent=2) + "\n").encode(),
            "README.md": readme.encode(),
        }
        if labels:
            files["labels.txt"] = "".join(f"{label}\n" for label in labels).encode()
        bundle = pathlib.Path(scratch) / "bundle.zip"
        write_zip(bundle, files)
        os.replace(bundle, output)
    print(f"{output}: {metadata['precision']}, answers within {difference:.2g} of the model")


if __name__ == "__main__":
    application.run(main)
