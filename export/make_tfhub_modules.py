"""Writes models as TF-Hub archives: feature vectors, and classifiers where there is a head.

    python export/make_tfhub_modules.py --models="BiT-M-R50x1,BiT-S-*" --output=hub

writes hub/BiT-M-R50x1/feature_vector.tar.gz and hub/BiT-M-R50x1/classification.tar.gz, each with a
model card beside it (feature_vector.md). Any static web server can serve the folder: users give
`hub.load` or `hub.KerasLayer` the URL of an archive (export/consumers/). What is packed was read
back and compared with the model first.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import pathlib
import tarfile
import tempfile
from typing import TYPE_CHECKING

from absl import flags

import bit_keras
from bit_keras.cli import application

if TYPE_CHECKING:  # imports TensorFlow, which commands quiet when they start
    from bit_keras.models.spec import ModelSpec

KINDS = ("feature_vector", "classification")
MODELS = flags.DEFINE_list(
    "models",
    None,
    "Names or patterns of bit_keras.list_models(), or anything bit_keras.load takes.",
)
KIND = flags.DEFINE_multi_enum("kind", KINDS, KINDS, "What to write; may be given twice.")
OUTPUT = flags.DEFINE_string("output", "hub", "The folder of archives.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace older archives and their cards.")
flags.mark_flag_as_required("models")

CARD = """\
# {name}, {kind}

{meaning} of a Big Transfer (BiT) ResNet-v2, for `hub.load` and `hub.KerasLayer`; it can be trained.

| | |
| --- | --- |
| input | float32 RGB in [0, 1], `[batch, height, width, 3]`, any height and width from 32 pixels |
| output | float32 {answer}, `[batch, {outputs}]` |
| parameters | {parameters:,} |
| arithmetic | {flops:,} FLOPs, or {multiply_adds:,} multiply-adds, for an image of 224 x 224 |
| weights | {source} |
| license | {license} |
| proof | answers differ from the model's by at most {difference:.2g}, of {scale:.2g}, on {images} \
images of {sizes} |
| archive | `{archive}`, {megabytes:.1f} MB, SHA-256 `{sha256}` |

## Citation

```bibtex
@inproceedings{{kolesnikov2020big,
  title     = {{Big Transfer (BiT): General Visual Representation Learning}},
  author    = {{Kolesnikov, Alexander and Beyer, Lucas and Zhai, Xiaohua and Puigcerver, Joan and
               Yung, Jessica and Gelly, Sylvain and Houlsby, Neil}},
  booktitle = {{European Conference on Computer Vision (ECCV)}},
  year      = {{2020}},
  url       = {{https://arxiv.org/abs/1912.11370}}
}}
```
"""


def sources(patterns: list[str]) -> dict[str, str]:
    """Folder names of archives -> what `bit_keras.load` takes.

    Raises:
        ValueError: If a pattern matches nothing, a source cannot be loaded, or two have one name.
    """
    found = {}
    for pattern in patterns:
        matching = bit_keras.list_models(pattern)
        if not matching:
            bit_keras.models.check_source(pattern)
        for source in matching or [pattern]:
            path = pathlib.Path(source)
            name = path.stem if path.suffix in (".npz", ".safetensors", ".keras") else path.name
            if found.setdefault(name, source) != source:
                raise ValueError(
                    f"{found[name]} and {source} would both be written to {name}; give them one by "
                    "one, with an --output each."
                )
    return found


def forget_uuid(module: pathlib.Path) -> None:
    """Drops the one thing in a SavedModel that is drawn anew each time it is written."""
    from tensorflow.core.protobuf import fingerprint_pb2

    path = module / "fingerprint.pb"
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    fingerprint.ClearField("uuid")
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def pack(folder: pathlib.Path, path: pathlib.Path) -> None:
    """Packs a folder as a .tar.gz of its files, whose bytes depend on nothing but theirs."""

    def anonymous(member):
        member.mtime = member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mode = 0o755 if member.isdir() else 0o644
        return member

    with (
        open(path, "wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for item in sorted(folder.rglob("*")):
            archive.add(
                item, arcname=str(item.relative_to(folder)), recursive=False, filter=anonymous
            )


def sha256_of(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def origin(source: str, spec: "ModelSpec") -> tuple[str, str]:
    """Where a model's weights are from, and their license."""
    shown = source if "://" in source or source == spec.name else pathlib.Path(source).name
    told = f", {spec.source}" if spec.source not in ("", source) else ""
    return f"`{shown}`{told}", spec.license or "that of these weights, which do not tell it"


def write_module(model, kind, name, source, folder: pathlib.Path) -> None:
    """Exports, packs, describes; archive and card appear when both are complete."""
    from bit_keras.models.spec import spec_of

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
        scratch = pathlib.Path(scratch)
        with contextlib.redirect_stdout(io.StringIO()):  # it names a folder that will be gone
            bit_keras.export(model, scratch / "module")
        proof = json.loads((scratch / "module.proof.json").read_text())
        archive, card = scratch / f"{kind}.tar.gz", scratch / f"{kind}.md"
        forget_uuid(scratch / "module")
        pack(scratch / "module", archive)
        sha256 = sha256_of(archive)
        flops = bit_keras.training.forward_flops(model, (224, 224, 3))
        weights, license = origin(source, spec_of(model))
        card.write_text(
            CARD.format(
                name=name,
                kind=kind.replace("_", " "),
                meaning="Pooled features" if kind == "feature_vector" else "Logits",
                answer="features" if kind == "feature_vector" else "logits",
                outputs=model.output_shape[-1],
                parameters=model.count_params(),
                flops=flops,
                multiply_adds=flops // 2,
                source=weights,
                license=license,
                difference=proof["largest_difference"],
                scale=proof["scale"],
                images=proof["images"],
                sizes=", ".join(f"{height} x {width}" for height, width in proof["sizes"]),
                archive=archive.name,
                megabytes=archive.stat().st_size / 1e6,
                sha256=sha256,
            ),
            encoding="utf-8",
        )
        for written in (archive, card):
            os.replace(written, folder / written.name)
    difference = proof["largest_difference"]
    print(
        f"{folder / archive.name}: answers within {difference:.2g} of the model, SHA-256 {sha256}"
    )


def main():
    from bit_keras.models.resnet_v2 import with_head

    found = sources(MODELS.value)
    output = pathlib.Path(OUTPUT.value)
    for name in found:
        for kind in KIND.value:
            for path in (output / name / f"{kind}.tar.gz", output / name / f"{kind}.md"):
                if path.exists() and not OVERWRITE.value:
                    raise ValueError(f"{path} exists already; say --overwrite to replace it.")
    for name, source in found.items():
        model = bit_keras.load(source)
        if "feature_vector" in KIND.value:
            write_module(with_head(model, 0), "feature_vector", name, source, output / name)
        if "classification" in KIND.value:
            if model.layers[-1].name == "head":
                write_module(model, "classification", name, source, output / name)
            else:
                print(f"{name} has no head, so there is no classification archive of it")


if __name__ == "__main__":
    application.run(main)
