"""bit-evaluate: tests a model, measures how well it transfers, and compares runs.

bit-evaluate --model=runs/photos --dataset=more_photos/    # accuracy, confusions, mistakes
bit-evaluate --shots=1,5,10,25,full --seeds=5              # few-shot curves, here of digits
bit-evaluate --model=BiT-M-R50x1 --suite=vtab-1k           # the paper's 19 tasks
bit-evaluate --compare runs/photos runs/other              # side by side
"""

import functools
import pathlib

from absl import flags

from ..choices import EMBEDDED_MODEL, INITS, METHODS
from . import application, data_flags, usage

usage.group("The model")
MODEL = flags.DEFINE_string(
    "model",
    None,
    "A run's folder; what bit-export wrote, in any format; or what else bit_keras.load takes. With "
    f"--shots and --suite, the model to fine-tune; by default {EMBEDDED_MODEL}.",
)
usage.group(data_flags.DATA)
DATASET = flags.DEFINE_string(
    "dataset",
    "digits",
    f"{application.DATASETS} Without --shots, a folder's train/ is not needed, and one without "
    "test/ is tested on as a whole.",
)
usage.group("The model")
LABELS = flags.DEFINE_string(
    "labels", None, "A file of the model's class names, one a line; by default as bit-predict."
)
usage.group(data_flags.DATA)
CLASS_MAP = flags.DEFINE_string(
    "class_map",
    None,
    "A CSV file with the columns class (of the data) and model_class: the model's classes that are "
    'right for it, by name, WordNet id or number, separated by "|". Images of other classes are '
    "left out.",
)
usage.group("The model")
SIZE = flags.DEFINE_integer(
    "size", None, "Side of the squares that images are resized to; by default the model's own."
)
BATCH = flags.DEFINE_integer(
    "batch", 64, "Images at once; does not change the answers.", lower_bound=1
)
usage.group("Few-shot curves and suites")
SHOTS = flags.DEFINE_list(
    "shots", None, 'Fine-tune on so many images a class, and "full" for all: "1,5,10,25,full".'
)
SEEDS = flags.DEFINE_integer(
    "seeds", 5, "Runs for each of --shots.", lower_bound=1, upper_bound=1_000
)
METHOD = flags.DEFINE_multi_enum(
    "method",
    METHODS,
    METHODS,
    "With --shots: fine-tuning by HyperRule, a linear probe of the frozen features, or both.",
)
INIT = flags.DEFINE_enum("init", "pretrained", INITS, "With --shots: weights to start from.")
SUITE = flags.DEFINE_enum("suite", None, ["vtab-1k"], "Fine-tune and test on a suite of tasks.")
TASKS = flags.DEFINE_list("tasks", None, "With --suite: its tasks to run; by default all.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data; not with --shots.")
usage.group("The comparison of runs")
COMPARE = flags.DEFINE_bool("compare", False, "Put the runs that follow side by side.")
OUTPUT = flags.DEFINE_string("output", "comparison.html", "With --compare: the page to write.")
data_flags.define_bad_images()
application.define_run_flags()


def _check(runs):
    modes = {"--compare": COMPARE.value, "--shots": SHOTS.value, "--suite": SUITE.value}
    if len(chosen := [flag for flag, value in modes.items() if value]) > 1:
        raise ValueError(f"{' and '.join(chosen)} are answered one at a time; give one of them.")
    if runs and not COMPARE.value:
        raise ValueError(f"unexpected argument {runs[0]!r}; flags are written --name=value.")
    if not (chosen or MODEL.value):
        raise ValueError(
            "name a model with a head: --model=runs/NAME, an export, or ...-ILSVRC2012."
        )


def _main(runs):
    if COMPARE.value:
        from ..reporting import write_comparison

        write_comparison(OUTPUT.value, runs)
        print(f"Comparison: {OUTPUT.value}")
    elif SHOTS.value:
        _few_shot_curve()
    elif SUITE.value:
        _run_suite()
    else:
        _test_model()


def _test_model():
    from .. import data, training
    from ..classification import read_labels
    from ..classification.evaluation import evaluate

    strategy = training.make_strategy(flags.FLAGS.strategy)  # connects workers, so it comes first
    exists = pathlib.Path(MODEL.value).exists()  # maybe an export that `load` does not take
    model = MODEL.value if exists else application.known_model(MODEL.value)
    application.check_run(strategy)
    class_map = data.read_class_map(CLASS_MAP.value) if CLASS_MAP.value else None
    images = data.evaluation_images(
        DATASET.value, data_dir=DATA_DIR.value, bad_images=flags.FLAGS.bad_images
    )
    workdir = application.run_folder(model, images.name)
    print(f"{model} on {images.name}: {len(images):,} images of {images.num_classes:,} classes.")
    found = evaluate(
        model,
        images,
        size=SIZE.value,
        batch=BATCH.value,
        strategy=strategy,
        labels=read_labels(LABELS.value) if LABELS.value else None,
        class_map=class_map,
        workdir=workdir,
        command=application.command_line(),
    )
    if training.is_chief(strategy):
        _print_found(model, images, found, workdir)


def _print_found(model, images, found, workdir):
    from ..classification.answers import worst_classes
    from ..metrics.classification import sentence
    from ..reporting.texts import printable
    from ..training.reading_runs import may_have_been_trained_on

    if found.left_out:
        print(
            f"{len(images) - len(found.images):,} images of {len(found.left_out):,} classes that "
            f"the model does not know are left out: {', '.join(map(printable, found.left_out[:5]))}"
            f"{', ...' if len(found.left_out) > 5 else ''}."
        )
    if may_have_been_trained_on(model, images):
        print(f"Caution: {model} was trained on images of this set, maybe on some of these.")
    print(
        f"{sentence(found.metrics)}.\n"
        f"Least found: {worst_classes(found)}\n"
        f"Report:      {workdir / 'report.html'}\n"
        f"Classes:     {workdir / 'per_class.csv'}"
    )


def _few_shot_curve():
    from .. import data, training
    from ..classification import few_shot

    model = application.known_model(MODEL.value or EMBEDDED_MODEL)  # before a data set is read
    strategy = training.make_strategy(flags.FLAGS.strategy)
    application.check_run(strategy, may_grow=True)
    train, test = data.from_name(DATASET.value)
    workdir = application.run_folder(f"{model}-{INIT.value}", f"{train.name}_few-shot")
    print(f"Run: {workdir}", flush=True)
    rows = few_shot.few_shot_curve(
        model,
        train,
        test,
        workdir=workdir,
        shots=[application.number_or_word(text) for text in SHOTS.value],
        seeds=SEEDS.value,
        methods=METHOD.value,
        init=INIT.value,
        precision=flags.FLAGS.precision,
        strategy=strategy,
        command=application.command_line(),
    )
    print(few_shot.as_table(rows))
    print(f"Plot:   {workdir / 'few_shot.png'}\nReport: {workdir / 'report.html'}")


def _run_suite():
    from .. import data, training
    from ..classification import vtab as vtab_suite

    model = application.known_model(MODEL.value or EMBEDDED_MODEL)
    strategy = training.make_strategy(flags.FLAGS.strategy)
    application.check_run(strategy, may_grow=True)
    workdir = application.run_folder(model, SUITE.value)
    print(f"Run: {workdir}", flush=True)
    missing = None
    try:
        rows = vtab_suite.run_vtab(
            model,
            workdir=workdir,
            tasks=TASKS.value,
            read=functools.partial(data.from_vtab, data_dir=DATA_DIR.value),
            precision=flags.FLAGS.precision,
            strategy=strategy,
            command=application.command_line(),
        )
    except vtab_suite.MissingTasksError as error:
        rows, missing = error.results, error
    print(vtab_suite.as_table(rows))
    print(f"Report: {workdir / 'report.html'}")
    if missing:
        raise missing


run = functools.partial(application.run, _main, check=_check, positional=True)  # the entry point


if __name__ == "__main__":
    run()
