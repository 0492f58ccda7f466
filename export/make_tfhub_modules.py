"""Writes zoo models as TF-Hub archives: a feature vector, and a classifier where there is a head.

    python export/make_tfhub_modules.py --models="BiT-M-R50x1,BiT-M-R101x1" --output=hub

writes hub/BiT-M-R50x1/feature_vector.tar.gz and hub/BiT-M-R50x1/classification.tar.gz, as the hub
serves them: a SavedModel at the archive's root. Each was read back and compared before it was
packed. A consumer unpacks one and gives the folder to `hub.KerasLayer` (examples/consume_*.py).
"""

import pathlib
import tarfile
import tempfile

from absl import flags

import bit_keras
from bit_keras.cli import application
from bit_keras.resnet_v2 import with_head

MODELS = flags.DEFINE_list("models", None, "Names of bit_keras.list_models(), or files.")
OUTPUT = flags.DEFINE_string("output", "hub", "The folder of archives.")
flags.mark_flag_as_required("models")


def write_archive(model, path):
    """Exports the model and packs it; the archive appears at `path` when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        folder = pathlib.Path(folder)
        difference = bit_keras.export(model, folder / "module")
        with tarfile.open(folder / path.name, "w:gz") as archive:
            archive.add(folder / "module", arcname=".")
        (folder / path.name).rename(path)
    size = path.stat().st_size / 1e6
    print(f"{path}: {size:.1f} MB, answers within {difference:.1g} of the model")


def main():
    for source in MODELS.value:
        folder = pathlib.Path(OUTPUT.value) / pathlib.Path(source).name
        model = bit_keras.load(source)
        write_archive(with_head(model, 0), folder / "feature_vector.tar.gz")
        if model.layers[-1].name == "head":
            write_archive(model, folder / "classification.tar.gz")


if __name__ == "__main__":
    application.run(main)
