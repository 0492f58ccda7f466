"""bit-predict: names what is on images, by a model, an export of one, or a run.

    bit-predict --model=runs/photos holiday.jpg albums/2019 'albums/**/*.png'

Arguments are image files, folders (for the images directly in them), and quoted globs.
"""

import functools
import json

from absl import flags

from ..files import replace_file
from . import application

MODEL = flags.DEFINE_string(
    "model",
    None,
    "A run's folder; what bit-export wrote, in any format; or what else bit_keras.load takes.",
)
LABELS = flags.DEFINE_string(
    "labels",
    None,
    "A file of class names, one a line. By default those stored with the model, of the run that it "
    "lies in, or of labels.txt beside it.",
)
SIZE = flags.DEFINE_integer(
    "size",
    None,
    "Side of the squares that images are resized to; by default as the model was tested.",
)
TOP_K = flags.DEFINE_integer("top_k", 5, "Classes an image.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 16, "Images at once.", lower_bound=1)
MULTI_LABEL = flags.DEFINE_bool(
    "multi_label",
    None,
    "Whether an image may have several classes; by default as the model was trained.",
)
FORMAT = flags.DEFINE_enum("format", "table", ["table", "json"], "How to write the answers.")
OUTPUT = flags.DEFINE_string("output", None, "The file to write; by default standard output.")
CONTACT_SHEET = flags.DEFINE_string(
    "contact_sheet", None, "A PNG to draw: the first 100 images, each with its likeliest class."
)
flags.mark_flag_as_required("model")


def _main(images):
    from ..classification import as_table, predict_images, read_labels, write_contact_sheet

    predictions = predict_images(
        MODEL.value,
        images,
        labels=read_labels(LABELS.value) if LABELS.value else None,
        size=SIZE.value,
        top_k=TOP_K.value,
        batch=BATCH.value,
        multi_label=MULTI_LABEL.value,
    )
    as_json = FORMAT.value == "json"
    text = json.dumps(predictions, indent=2) + "\n" if as_json else as_table(predictions)
    if OUTPUT.value:
        replace_file(OUTPUT.value, text.encode())
    else:
        print(text, end="", flush=True)
    if CONTACT_SHEET.value:
        write_contact_sheet(CONTACT_SHEET.value, predictions)


run = functools.partial(application.run, _main, positional=True)  # the entry point


if __name__ == "__main__":
    run()
