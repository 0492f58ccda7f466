"""bit-predict: names what is on images, by a model, an export of one, or a run.

    bit-predict --model=runs/photos holiday.jpg albums/2019 'albums/**/*.png'

Arguments are image files, folders (for the images directly in them), and quoted globs.
"""

import functools
import json

from absl import flags

from ..files import replace_file
from . import application, data_flags, usage

usage.group("The model")
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
usage.group("The answers")
TOP_K = flags.DEFINE_integer("top_k", 5, "Classes an image, at most.", lower_bound=1)
THRESHOLD = flags.DEFINE_float(
    "threshold",
    None,
    "The least probability of the classes to name, 0.5 for instance; an image may then have none.",
    lower_bound=0,
    upper_bound=1,
)
usage.group(data_flags.DATA)
BATCH = flags.DEFINE_integer("batch", 16, "Images at once.", lower_bound=1)
usage.group("The answers")
MULTI_LABEL = flags.DEFINE_bool(
    "multi_label",
    None,
    "Whether an image may have several classes; by default as the model was trained.",
)
FORMAT = flags.DEFINE_enum("format", "table", ["table", "json", "csv"], "How to write the answers.")
OUTPUT = flags.DEFINE_string("output", None, "The file to write; by default standard output.")
CONTACT_SHEET = flags.DEFINE_string(
    "contact_sheet", None, "A PNG to draw: the first 100 images, each with its likeliest class."
)
EXPLAIN = flags.DEFINE_string(
    "explain",
    None,
    "A new folder to draw in: each image, beside a heat map of where the model sees the likeliest "
    "class.",
)
FEATURES = flags.DEFINE_string(
    "features",
    None,
    "A .npy file to write in place of the answers: the pooled features of each image, a row each; "
    "which row is of which image is written to FEATURES.files.csv.",
)
data_flags.define_bad_images()
flags.mark_flag_as_required("model")
# What there is to say about answers, which features are not.
_OF_ANSWERS = (
    *("labels", "top_k", "threshold", "multi_label", "format", "output", "contact_sheet"),
    "explain",
)


def _main(images):
    from ..classification import (
        as_csv,
        as_table,
        check_explainable,
        predict_images,
        read_labels,
        write_contact_sheet,
        write_heat_maps,
    )

    if FEATURES.value:
        _write_features(images)
        return
    if EXPLAIN.value:
        check_explainable(EXPLAIN.value, MODEL.value)
    options = {
        "labels": read_labels(LABELS.value) if LABELS.value else None,
        "size": SIZE.value,
        "batch": BATCH.value,
        "multi_label": MULTI_LABEL.value,
        "bad_images": flags.FLAGS.bad_images,
    }
    predictions = predict_images(
        MODEL.value, images, top_k=TOP_K.value, threshold=THRESHOLD.value, **options
    )
    if EXPLAIN.value:
        write_heat_maps(EXPLAIN.value, MODEL.value, images, **options)
    text = {"table": as_table, "json": _as_json, "csv": as_csv}[FORMAT.value](predictions)
    if OUTPUT.value:
        # Spreadsheets take a CSV file for UTF-8 only if it begins by this mark.
        encoding = "utf-8-sig" if FORMAT.value == "csv" else "utf-8"
        replace_file(OUTPUT.value, text.encode(encoding))
    else:
        print(text, end="", flush=True)
    if CONTACT_SHEET.value:
        write_contact_sheet(CONTACT_SHEET.value, predictions)


def _as_json(predictions):
    return json.dumps(predictions, indent=2) + "\n"


def _write_features(images):
    from ..classification import write_features

    if given := [name for name in _OF_ANSWERS if flags.FLAGS[name].present]:
        raise ValueError(f"--features writes no classes, so leave out --{given[0]}.")
    rows, channels = write_features(
        *(FEATURES.value, MODEL.value, images),
        size=SIZE.value,
        batch=BATCH.value,
        bad_images=flags.FLAGS.bad_images,
    )
    named = f"{FEATURES.value}.files.csv says which row is of which image"
    print(f"{FEATURES.value}: {rows:,} x {channels:,} features; {named}.")


run = functools.partial(application.run, _main, positional=True)  # the entry point


if __name__ == "__main__":
    run()
