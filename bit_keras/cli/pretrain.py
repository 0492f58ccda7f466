"""bit-pretrain: pre-trains a BiT on labeled images by the paper's upstream protocols."""

import datetime
import pathlib
import re
import shlex
import sys

from absl import flags

from .. import data, training
from ..classification.pretraining import plan, pretrain
from ..metrics.classification import sentence
from ..models import zoo
from ..recipes.upstream import RECIPES, recipe
from ..training import PRECISIONS
from ..training.reading_runs import model_of_run
from . import application

MODEL = flags.DEFINE_string("model", None, "The architecture: a name of bit_keras.list_models().")
DATASET = flags.DEFINE_string(
    "dataset", None, "A folder of class folders, a CSV file, or a TFDS name."
)
RECIPE = flags.DEFINE_enum("recipe", "BiT-S", sorted(RECIPES), "The paper's protocol.")
INIT = flags.DEFINE_string("init", "random", '"random", or a model or file to go on from.')
EPOCHS = flags.DEFINE_integer(
    "epochs", None, "Passes over the images; the schedule is stretched to them.", lower_bound=1
)
BATCH = flags.DEFINE_integer(
    "batch", None, "Images a step; the learning rate is scaled with it.", lower_bound=1
)
BATCH_SPLIT = flags.DEFINE_string(
    "batch_split", "auto", 'Pieces a batch is computed in, or "auto": the fewest that fit.'
)
BASE_LR = flags.DEFINE_float("base_lr", None, "Highest learning rate; by default the recipe's.")
WARMUP_STEPS = flags.DEFINE_integer("warmup_steps", None, "By default the recipe's.", lower_bound=0)
CROP = flags.DEFINE_integer("crop", None, "Side of the images; by default the recipe's 224.")
TEACHER = flags.DEFINE_string(
    "teacher",
    None,
    "Learn this model's answers in place of labels: a run's folder, or what else bit_keras.load "
    "takes, with the classes of --dataset. By default by ten times the recipe's epochs and uniform "
    "mixup.",
)
TEMPERATURE = flags.DEFINE_float(
    "temperature", 1.0, "What the logits of teacher and student are divided by, for the loss."
)
PRECISION = flags.DEFINE_enum("precision", "float32", PRECISIONS, "Of the arithmetic.")
STRATEGY = flags.DEFINE_enum(
    "strategy", "auto", training.STRATEGIES, "Devices: one, all GPUs, TF_CONFIG's workers, a TPU."
)
SEED = flags.DEFINE_integer("seed", 0, "Of random weights and of every batch.", lower_bound=0)
EVAL_EVERY = flags.DEFINE_integer(
    "eval_every", None, "Steps between two tests; by default only the last.", lower_bound=1
)
NAME = flags.DEFINE_string("name", None, "The run's name; by default model, data and time.")
LOGDIR = flags.DEFINE_string("logdir", "runs", "The run's folder is LOGDIR/NAME.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what it would take, and train nothing.")
THROUGHPUT = flags.DEFINE_float(
    "throughput",
    None,
    "Images a second in training, for --dry_run to tell the time.",
    lower_bound=1e-9,
)


def main():
    if not MODEL.value or not DATASET.value:
        raise ValueError("name the architecture and the images: --model=BiT-S-R50x1 --dataset=...")
    strategy = training.make_strategy(STRATEGY.value)  # workers connect before all else
    for source in {MODEL.value, INIT.value} - {"random"}:
        zoo.check_source(source)
    if TEACHER.value:
        zoo.check_source(model_of_run(TEACHER.value))
    train, test = data.from_name(DATASET.value)
    protocol = recipe(RECIPE.value)
    if TEACHER.value:
        protocol = protocol.distillation()
    if EPOCHS.value:
        protocol = protocol.with_epochs(EPOCHS.value)
    if BATCH.value:
        protocol = protocol.scaled_to_batch(BATCH.value)
    if CROP.value:  # and what test images are resized to, in proportion
        protocol = protocol.replace(crop=CROP.value, test_resize=round(CROP.value * 256 / 224))
    given = {"base_lr": BASE_LR, "warmup_steps": WARMUP_STEPS}
    changes = {k: flag.value for k, flag in given.items() if flag.value is not None}
    protocol = protocol.replace(**changes)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = NAME.value or re.sub(r"[^\w.-]+", "-", f"{MODEL.value}_{train.name}_{stamp}")
    workdir = pathlib.Path(LOGDIR.value) / name
    common = {
        "recipe": protocol,
        "init": INIT.value,
        "teacher": TEACHER.value,
        "temperature": TEMPERATURE.value,
        "precision": PRECISION.value,
        "strategy": strategy,
        "batch_split": application.number_or_word(BATCH_SPLIT.value),
    }
    print(
        f"{MODEL.value} ({INIT.value}) on {train.name}: {len(train):,} images of "
        f"{train.num_classes:,} classes, tested on {len(test):,}.\n"
        f"{RECIPE.value}: {protocol.epochs} epochs, {protocol.steps(len(train)):,} steps of "
        f"{protocol.batch:,} images of {protocol.crop} pixels, learning rate "
        f"{protocol.base_lr:g} after {protocol.warmup_steps:,} steps of warm-up."
        + (f"\nTeacher: {TEACHER.value}." if TEACHER.value else ""),
        flush=True,
    )
    if DRY_RUN.value:
        print(plan(MODEL.value, train, **common, images_per_second=THROUGHPUT.value))
        return
    print(f"Run: {workdir}", flush=True)
    result = pretrain(
        MODEL.value,
        train,
        test,
        workdir=workdir,
        **common,
        seed=SEED.value,
        evaluate_every=EVAL_EVERY.value,
        command=shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
    )
    metrics = result.metrics
    print(
        f"{sentence(metrics)}, after {metrics['steps']:,} steps and {metrics['seconds']:.0f} s.\n"
        f"Report:         {workdir / 'report.html'}\n"
        f"TF-Hub module:  {workdir / 'model'}"
    )


def run():
    application.run(main)


if __name__ == "__main__":
    run()
