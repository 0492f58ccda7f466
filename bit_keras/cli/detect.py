"""bit-detect: trains a detector on a BiT's body, tests it, finds objects on images, exports it.

bit-detect train --dataset=voc_folder/ --name=cells     # by default drawn scenes
bit-detect eval --model=runs/cells --dataset=voc_folder/
bit-detect predict --model=runs/cells photos/ --pictures=found/
bit-detect export --model=runs/cells --format=onnx --output=cells.onnx --dataset=voc_folder/
"""

import functools
import json

from absl import flags

from ..choices import BAD_BOXES, DETECTOR_FORMATS, DETECTORS, EMBEDDED_MODEL, INITS
from ..files import replace_file
from ..recipes import DETECTION_RECIPES, RECIPE_OF
from . import application, data_flags, usage

_TEXTS = ("table", "json", "csv")  # formats of answers

usage.group("The model")
MODEL = flags.DEFINE_string(
    "model",
    None,
    f"train: the body, what bit_keras.load takes; by default {EMBEDDED_MODEL}. Else the detector: "
    "the folder of a run of bit-detect train, or its model.keras.",
)
usage.group(data_flags.DATA)
DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "A Pascal VOC folder, a COCO file (or train.json,test.json), a YOLO folder or data.yaml, a "
    'TFDS name, or "scenes", which are drawn, the default. export: test images to compare on; by '
    "default two photos.",
)
usage.group("The model")
MODEL_TYPE = flags.DEFINE_enum(
    "model_type",
    "retinanet",
    DETECTORS,
    "train: mask_rcnn finds masks too, and needs them on every object; faster_rcnn is it without.",
)
usage.group("The recipe")
RECIPE = flags.DEFINE_enum(
    "recipe",
    None,
    sorted(DETECTION_RECIPES),
    "The protocol, fitted to the images; by default that of the model's type.",
)
SIZE = flags.DEFINE_integer(
    "size", None, "Side of the square images, a multiple of 32; by default that of most images."
)
STEPS = flags.DEFINE_integer(
    "steps", None, "Optimizer steps; the schedule is stretched to them.", lower_bound=1
)
BATCH = flags.DEFINE_integer(
    "batch", None, "Images a step; by default what suits the set.", lower_bound=1
)
BASE_LR = flags.DEFINE_float("base_lr", None, "Highest learning rate; by default the recipe's.")
usage.group("The model")
CHANNELS = flags.DEFINE_integer(
    "channels",
    None,
    "Of the pyramid and the heads; by default 256, or 64 on small bodies.",
    lower_bound=1,
    upper_bound=4096,
)
INIT = flags.DEFINE_enum("init", "pretrained", INITS, "Weights of the body to start from.")
usage.group(data_flags.DATA)
VALIDATION = flags.DEFINE_float(
    "validation", None, "The part of the training images to set aside and choose a model by: 0.1."
)
SKIP_BOXES = flags.DEFINE_enum(
    "bad_boxes", "error", BAD_BOXES, "Stop at wrong annotations, or leave them out."
)
usage.group("The answers")
THRESHOLD = flags.DEFINE_float(
    "threshold",
    None,
    "predict: the least score of objects, by default 0.3. eval: of those drawn and counted as "
    "errors, by default where F1 is highest.",
)
FORMAT = flags.DEFINE_enum(
    "format",
    None,
    [*_TEXTS, *DETECTOR_FORMATS],
    f"predict: how to write the answers, {', '.join(_TEXTS)}, by default the first. export: "
    f"{' or '.join(DETECTOR_FORMATS)}, by default the first; onnx is for a retinanet only.",
)
OUTPUT = flags.DEFINE_string("output", None, "predict and export: the file or folder to write.")
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "export: replace an older export once the new one is proven."
)
PICTURES = flags.DEFINE_string("pictures", None, "predict: a new folder to draw the objects in.")
data_flags.define_bad_images()
application.define_run_options()


def _check(arguments):
    """What can be told of the flags alone."""
    actions = ("train", "eval", "predict", "export")
    if not arguments or arguments[0] not in actions:
        got = f", got {arguments[0]!r}" if arguments else ""
        raise ValueError(f"say what to do first: bit-detect train, eval, predict or export{got}.")
    action, *rest = arguments
    if rest and action != "predict":
        raise ValueError(f"unexpected argument {rest[0]!r}; flags are written --name=value.")
    if action != "train" and not MODEL.value:
        raise ValueError("name the detector: --model=runs/NAME.")
    if action == "export" and not OUTPUT.value:
        raise ValueError("say where to write the export: --output=PATH.")
    if action == "train":
        _changed_recipe(num_images=10**5, size=SIZE.value or 1024)  # which change no check
    known = {"predict": _TEXTS, "export": DETECTOR_FORMATS}.get(action, ())
    if known and FORMAT.value not in (None, *known):
        raise ValueError(f"--format must be {' or '.join(known)} here, got {FORMAT.value}.")


def _main(arguments):
    actions = {"train": _train, "eval": _evaluate, "predict": _predict, "export": _export}
    action, *rest = arguments
    actions[action](rest)


def _read():
    from .. import data

    return data.boxes_from_name(DATASET.value or "scenes", **_leave_out())


def _read_test():
    from .. import data

    return data.evaluation_boxes(DATASET.value or "scenes", **_leave_out())


def _leave_out():
    return {"bad_images": flags.FLAGS.bad_images, "bad_boxes": SKIP_BOXES.value}


def _train(_):
    from .. import data, training
    from ..detection.answers import sentence
    from ..detection.fine_tuning import default_size, fine_tune_detector
    from ..reporting.texts import duration

    strategy = training.make_strategy(flags.FLAGS.strategy)  # connects workers, so it comes first
    model = application.known_model(MODEL.value or EMBEDDED_MODEL)
    application.check_run(strategy)
    train, test = _read()
    train = data.with_validation(train, VALIDATION.value)
    recipe = _changed_recipe(len(train), SIZE.value or default_size(train))
    workdir = application.run_folder(model, train.name)
    print(
        f"{model} ({INIT.value}) on {train.name}: {len(train):,} images with {len(train.boxes):,} "
        f"boxes of {train.num_classes} classes, {data_flags.tested_on(train, test)}.\n"
        f"{_recipe_name()}: {recipe.steps(len(train)):,} steps of {recipe.batch} images of "
        f"{recipe.size} pixels, learning rate {recipe.base_lr:g} after {recipe.warmup_steps:,} "
        f"steps of warm-up.\nRun: {workdir}",
        flush=True,
    )
    metrics = fine_tune_detector(
        model,
        train,
        test,
        workdir=workdir,
        model_type=MODEL_TYPE.value,
        recipe=recipe,
        channels=CHANNELS.value,
        init=INIT.value,
        strategy=strategy,
        **application.run_options(),
    ).metrics
    print(
        f"{sentence(metrics)}, after {metrics['steps']:,} steps and "
        f"{duration(metrics['seconds'])}.\n"
        f"Report:   {workdir / 'report.html'}\n"
        f"Detector: {workdir / 'model.keras'}"
    )


def _recipe_name():
    return RECIPE.value or RECIPE_OF[MODEL_TYPE.value]


def _changed_recipe(num_images, size):
    """The recipe that fits the images, with the values of the flags that were given."""
    recipe = DETECTION_RECIPES[_recipe_name()].fitted_to(num_images, BATCH.value, STEPS.value)
    rate = {} if BASE_LR.value is None else {"base_lr": BASE_LR.value}
    return recipe.replace(size=size, **rate)


def _evaluate(_):
    from ..detection.answers import scores_text, sentence
    from ..detection.evaluation import evaluate_detector, held_out
    from ..training.reading_runs import may_have_been_trained_on

    test = held_out(MODEL.value, _read_test())
    workdir = application.run_folder(MODEL.value, test.name)
    options = {"threshold": THRESHOLD.value, "command": application.command_line()}
    found = evaluate_detector(MODEL.value, test, workdir=workdir, **options)
    if may_have_been_trained_on(MODEL.value, found.images):
        print(f"Caution: {MODEL.value} was trained on images of this set, maybe on some of these.")
    print(f"{sentence(found.metrics)}.")
    for row in found.per_class:
        if row["boxes"]:
            print(f"  {row['class']}: {scores_text(row, ('ap', 'ap50'))}")
    print(f"Report: {workdir / 'report.html'}")


def _predict(images):
    from ..detection.prediction import as_csv, as_table, detect_objects, write_pictures
    from ..files import check_new_folder

    format = FORMAT.value or _TEXTS[0]
    if PICTURES.value:
        check_new_folder(PICTURES.value)
    threshold = 0.3 if THRESHOLD.value is None else THRESHOLD.value
    found = detect_objects(MODEL.value, images, threshold=threshold)
    text = {"table": as_table, "json": _as_json, "csv": as_csv}[format](found)
    if OUTPUT.value:
        replace_file(OUTPUT.value, text.encode("utf-8-sig" if format == "csv" else "utf-8"))
    else:
        print(text, end="", flush=True)
    if PICTURES.value:
        write_pictures(PICTURES.value, found)
        print(f"Pictures: {PICTURES.value}")


def _export(_):
    from ..detection.exporting import export_detector

    images = _read_test() if DATASET.value else None
    format = FORMAT.value or DETECTOR_FORMATS[0]
    export_detector(MODEL.value, OUTPUT.value, format, images=images, overwrite=OVERWRITE.value)


def _as_json(found):
    return json.dumps(found, indent=2) + "\n"


run = functools.partial(application.run, _main, check=_check, positional=True)  # the entry point


if __name__ == "__main__":
    run()
