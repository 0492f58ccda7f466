"""bit-evaluate: tests a model, measures how it transfers, and puts runs side by side.

bit-evaluate --model=runs/photos --dataset=more_photos/    # accuracy, confusions, mistakes
bit-evaluate --shots=1,5,10,25,full --seeds=5              # few-shot curves, here of digits
bit-evaluate --model=BiT-M-R50x1 --suite=vtab-1k           # the paper's 19 tasks
bit-evaluate --compare runs/photos runs/other              # side by side
"""

import datetime
import functools
import pathlib
import re
import shlex
import sys

from absl import flags

from .. import data, training
from ..classification import few_shot, read_labels
from ..classification import vtab as vtab_suite
from ..classification.answers import worst_classes
from ..classification.evaluation import evaluate, may_have_been_trained_on
from ..classification.prediction import printable
from ..classification.vtab import MissingTasksError, run_vtab
from ..metrics.classification import sentence
from ..models import zoo
from ..reporting import write_comparison
from ..training import PRECISIONS
from . import application

MODEL = flags.DEFINE_string(
    "model",
    None,
    "A run's folder; what bit-export wrote, in any format; or what else bit_keras.load takes. With "
    "--shots and --suite what is fine-tuned, by default BiT-XS-R26x0.25.",
)
DATASET = flags.DEFINE_string(
    "dataset",
    "digits",
    "A folder of class folders (tested on is its test/, or all of it), a CSV file, a TFDS name, "
    '"vtab/TASK", or "digits".',
)
LABELS = flags.DEFINE_string(
    "labels", None, "A file of the model's class names, one a line; by default as bit-predict."
)
CLASS_MAP = flags.DEFINE_string(
    "class_map",
    None,
    "A CSV file with the columns class and model_class: which of the model's classes, by name, "
    'WordNet id or number, separated by "|", are right for a class of the data; images of other '
    "classes are left out.",
)
SIZE = flags.DEFINE_integer(
    "size", None, "Side of the squares that images are resized to; by default the model's own."
)
BATCH = flags.DEFINE_integer(
    "batch", 64, "Images at once; does not change the answers.", lower_bound=1
)
SHOTS = flags.DEFINE_list(
    "shots", None, 'Fine-tune on so many images a class, and "full" for all: "1,5,10,25,full".'
)
SEEDS = flags.DEFINE_integer("seeds", 5, "Runs for each of --shots.", lower_bound=1)
METHODS = flags.DEFINE_multi_enum(
    "method",
    few_shot.METHODS,
    few_shot.METHODS,
    "With --shots: fine-tuning by HyperRule, a linear probe of the frozen features, or both.",
)
INIT = flags.DEFINE_enum(
    "init", "pretrained", ["pretrained", "random"], "With --shots: weights to start from."
)
SUITE = flags.DEFINE_enum("suite", None, ["vtab-1k"], "Fine-tune and test on a suite of tasks.")
TASKS = flags.DEFINE_list("tasks", None, "Those of the suite; by default all.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data; not with --shots.")
PRECISION = flags.DEFINE_enum("precision", "float32", PRECISIONS, "Of fine-tuning.")
STRATEGY = flags.DEFINE_enum(
    "strategy", "auto", training.STRATEGIES, "Devices: one, all GPUs, TF_CONFIG's workers, a TPU."
)
COMPARE = flags.DEFINE_bool("compare", False, "Put the runs that follow side by side.")
OUTPUT = flags.DEFINE_string("output", "comparison.html", "With --compare: the page to write.")
NAME = flags.DEFINE_string("name", None, "The run's name; by default model, data and time.")
LOGDIR = flags.DEFINE_string("logdir", "runs", "The run's folder is LOGDIR/NAME.")


def main(runs):
    modes = {"--compare": COMPARE.value, "--shots": SHOTS.value, "--suite": SUITE.value}
    if len(chosen := [flag for flag, value in modes.items() if value]) > 1:
        raise ValueError(f"{' and '.join(chosen)} are answered one at a time; give one of them.")
    if runs and not COMPARE.value:
        raise ValueError(f"unexpected argument {runs[0]!r}; flags are written --name=value.")
    if COMPARE.value:
        write_comparison(OUTPUT.value, runs)
        print(f"Comparison: {OUTPUT.value}")
    elif SHOTS.value:
        shots()
    elif SUITE.value:
        suite()
    else:
        test()


def test():
    if not MODEL.value:
        raise ValueError(
            "name a model with a head: --model=runs/NAME, an export, or ...-ILSVRC2012."
        )
    strategy = training.make_strategy(STRATEGY.value)  # workers connect before all else
    if not pathlib.Path(MODEL.value).exists():
        zoo.check_source(MODEL.value)  # before a data set is read for nothing
    class_map = data.read_class_map(CLASS_MAP.value) if CLASS_MAP.value else None
    images = data.evaluation_images(DATASET.value, data_dir=DATA_DIR.value)
    workdir = folder(MODEL.value, images.name)
    print(
        f"{MODEL.value} on {images.name}: {len(images):,} images of {images.num_classes:,} classes."
    )
    found = evaluate(
        MODEL.value,
        images,
        size=SIZE.value,
        batch=BATCH.value,
        strategy=strategy,
        labels=read_labels(LABELS.value) if LABELS.value else None,
        class_map=class_map,
        workdir=workdir,
        command=command(),
    )
    if not training.is_chief(strategy):
        return
    if found.left_out:
        print(
            f"{len(images) - len(found.images):,} images of {len(found.left_out):,} classes that "
            f"the model does not know are left out: {', '.join(map(printable, found.left_out[:5]))}"
            f"{', ...' if len(found.left_out) > 5 else ''}."
        )
    if may_have_been_trained_on(MODEL.value, images):
        print(f"Caution: {MODEL.value} was trained on images of this set, maybe on some of these.")
    print(
        f"{sentence(found.metrics)}.\n"
        f"Least found: {worst_classes(found)}\n"
        f"Report:      {workdir / 'report.html'}\n"
        f"Classes:     {workdir / 'per_class.csv'}"
    )


def shots():
    model = MODEL.value or "BiT-XS-R26x0.25"
    zoo.check_source(model)  # before a data set is read for nothing
    strategy = training.make_strategy(STRATEGY.value)
    train, test = data.from_name(DATASET.value)
    workdir = folder(f"{pathlib.Path(model).name}-{INIT.value}", f"{train.name}_few-shot")
    print(f"Run: {workdir}", flush=True)
    rows = few_shot.few_shot_curve(
        model,
        train,
        test,
        workdir=workdir,
        shots=[application.number_or_word(text) for text in SHOTS.value],
        seeds=SEEDS.value,
        methods=METHODS.value,
        init=INIT.value,
        precision=PRECISION.value,
        strategy=strategy,
        command=command(),
    )
    print(few_shot.as_table(rows))
    print(f"Plot:   {workdir / 'few_shot.png'}\nReport: {workdir / 'report.html'}")


def suite():
    model = MODEL.value or "BiT-XS-R26x0.25"
    zoo.check_source(model)
    strategy = training.make_strategy(STRATEGY.value)
    workdir = folder(model, SUITE.value)
    print(f"Run: {workdir}", flush=True)
    missing = None
    try:
        rows = run_vtab(
            model,
            workdir=workdir,
            tasks=TASKS.value,
            read=functools.partial(data.from_vtab, data_dir=DATA_DIR.value),
            precision=PRECISION.value,
            strategy=strategy,
            command=command(),
        )
    except MissingTasksError as error:
        rows, missing = error.results, error
    print(vtab_suite.as_table(rows))
    print(f"Report: {workdir / 'report.html'}")
    if missing:
        raise missing


def folder(model, what):
    """Of the run: as named, or a new one."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    default = re.sub(r"[^\w.-]+", "-", f"{pathlib.Path(model).name}_{what}_{stamp}")
    return pathlib.Path(LOGDIR.value) / (NAME.value or default)


def command():
    return shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]])


def run():
    application.run(main, positional=True)


if __name__ == "__main__":
    run()
