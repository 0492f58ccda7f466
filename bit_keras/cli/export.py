"""bit-export: writes a model in another format, and proves that it answers as the model does.

    bit-export --model=runs/digits/model --format=onnx --output=digits.onnx

The export is read back by its own runtime and compared on real images before it appears.
"""

import functools

from absl import flags

from ..choices import EXPORT_FORMATS, EXPORT_PRECISIONS
from . import application, usage

usage.group("The model")
MODEL = flags.DEFINE_string(
    "model", None, "A run's folder, or what else bit_keras.load takes: a name, a file, a folder."
)
usage.group("The file")
FORMAT = flags.DEFINE_enum("format", "saved_model", EXPORT_FORMATS, "What to write.")
OUTPUT = flags.DEFINE_string("output", None, "The file or folder to write.")
PRECISION = flags.DEFINE_enum("precision", "float32", EXPORT_PRECISIONS, "Of a litert file.")
INTEGER_IO = flags.DEFINE_bool(
    "integer_io",
    False,
    "An int8 file that takes pixels of 0 to 255 as bytes and answers in int8, without floats.",
)
FROZEN = flags.DEFINE_bool(
    "frozen", False, "A saved_model that is faster and cannot be trained: kernels standardized."
)
usage.group("What it answers")
LABELS = flags.DEFINE_string(
    "labels", None, "A file of class names, one a line; by default the model's."
)
MULTI_LABEL = flags.DEFINE_bool(
    "multi_label",
    None,
    "Whether an image may have several classes, so that probabilities are sigmoids; by default as "
    "the model was trained.",
)
SIZE = flags.DEFINE_integer(
    "size",
    None,
    "Side of the squares that pictures become, by default the model's own; of a litert file's "
    "input too, which is otherwise of any size.",
)
usage.group("The proof")
IMAGES = flags.DEFINE_string(
    "images",
    None,
    "Images to compare on, and to calibrate int8 on: a folder of class folders, a TFDS name, or "
    '"digits". By default pieces of two photos.',
)
usage.group("The file")
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace an older export once the new one is proven."
)
flags.mark_flags_as_required(["model", "output"])


def _main():
    from .. import data
    from ..classification import read_labels
    from ..exporting import export
    from ..models import load

    model = application.known_model(MODEL.value)  # before images are read
    labels = read_labels(LABELS.value) if LABELS.value else None
    export(
        load(model),
        OUTPUT.value,
        FORMAT.value,
        precision=PRECISION.value,
        integer_io=INTEGER_IO.value,
        frozen=FROZEN.value,
        labels=labels,
        multi_label=MULTI_LABEL.value,
        size=SIZE.value,
        images=data.from_name(IMAGES.value)[0] if IMAGES.value else None,
        overwrite=OVERWRITE.value,
    )


run = functools.partial(application.run, _main)  # the entry point


if __name__ == "__main__":
    run()
