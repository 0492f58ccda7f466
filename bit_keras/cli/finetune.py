"""bit-finetune: fine-tunes a BiT on labeled images by HyperRule.

With no flags it learns ten handwritten digits a class with the embedded model, in about a minute.
Flags that the reference code has too keep its names and meaning.
"""

import datetime
import pathlib
import re
import shlex
import sys

from absl import flags

from .. import data, training
from ..classification.fine_tuning import default_rule, fine_tune
from ..metrics.classification import sentence
from ..models import zoo
from ..training import PRECISIONS
from ..training.reading_runs import model_of_run
from . import application

MODEL = flags.DEFINE_string(
    "model", "BiT-XS-R26x0.25", "A name of bit_keras.list_models(), or an .npz or .keras file."
)
DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "A folder of class folders (or of train/ and test/), a CSV file of images and labels, a TFDS "
    'name, or "digits". '
    "By default ten digits a class.",
)
EXAMPLES_PER_CLASS = flags.DEFINE_integer(
    "examples_per_class", None, "Train on so many images of each class only.", lower_bound=1
)
EXAMPLES_PER_CLASS_SEED = flags.DEFINE_integer(
    "examples_per_class_seed", 0, "Which images --examples_per_class picks.", lower_bound=0
)
BATCH = flags.DEFINE_integer("batch", None, "Images a step; by default the rule's.", lower_bound=1)
BATCH_SPLIT = flags.DEFINE_string(
    "batch_split", "auto", 'Pieces a batch is computed in, or "auto": the fewest that fit.'
)
BASE_LR = flags.DEFINE_float("base_lr", None, "Highest learning rate; by default the rule's.")
STEPS = flags.DEFINE_integer(
    "steps", None, "Optimizer steps; the rule's schedule is stretched to them.", lower_bound=1
)
RESIZE = flags.DEFINE_integer(
    "resize", None, "Side training images are resized to; by default the rule's."
)
CROP = flags.DEFINE_integer(
    "crop", None, "Side of the random crop, and of test images; by default the rule's."
)
AUGMENTATIONS = flags.DEFINE_multi_enum(
    "augmentation",
    None,
    ["crop", "flip", "none"],
    "Random changes that leave the labels true, each with a flag; by default the data set's own.",
)
INIT = flags.DEFINE_enum("init", "pretrained", ["pretrained", "random"], "Weights to start from.")
TRAIN = flags.DEFINE_string(
    "train", "all", '"all", "head", or "from:LAYER" ("from:block4", "from:block3/unit05").'
)
TEACHER = flags.DEFINE_string(
    "teacher",
    None,
    "Learn this model's answers in place of labels: a run's folder, or what else bit_keras.load "
    "takes, with the classes of --dataset. By default by ten times the rule's steps and uniform "
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
BIT_PRETRAINED_DIR = flags.DEFINE_string(
    "bit_pretrained_dir", None, "Take --model's weights from MODEL.npz in this folder."
)


def main():
    strategy = training.make_strategy(STRATEGY.value)  # workers connect before all else
    model = MODEL.value
    if BIT_PRETRAINED_DIR.value:
        model = pathlib.Path(BIT_PRETRAINED_DIR.value) / f"{model}.npz"
    zoo.check_source(model)  # before a data set is read for nothing
    if TEACHER.value:
        zoo.check_source(model_of_run(TEACHER.value))
    shots = EXAMPLES_PER_CLASS.value
    if DATASET.value is None and shots is None:
        shots = 10
    train, test = data.from_name(
        DATASET.value or "digits",
        examples_per_class=shots,
        examples_per_class_seed=EXAMPLES_PER_CLASS_SEED.value,
    )
    rule = default_rule(model, train, distilled=bool(TEACHER.value))
    if STEPS.value:
        rule = rule.with_steps(STEPS.value)
    given = {"batch": BATCH, "base_lr": BASE_LR, "resize": RESIZE, "crop": CROP}
    rule = rule.replace(**{k: flag.value for k, flag in given.items() if flag.value is not None})
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    default_name = f"{pathlib.Path(model).name}_{train.name}_{stamp}"
    name = NAME.value or re.sub(r"[^\w.-]+", "-", default_name)
    workdir = pathlib.Path(LOGDIR.value) / name
    print(
        f"{model} ({INIT.value}) on {train.name}: {len(train):,} images of {train.num_classes} "
        f"classes, tested on {len(test):,}.\n"
        f"HyperRule: {rule.steps:,} steps of {rule.batch} images, learning rate {rule.base_lr:g}, "
        f"resized to {rule.resize}, cropped to {rule.crop}, "
        f"{f'mixup {rule.mixup_alpha:g}' if rule.mixup_alpha else 'no mixup'}.\n"
        + (f"Teacher: {TEACHER.value}.\n" if TEACHER.value else "")
        + f"Run: {workdir}",
        flush=True,
    )
    result = fine_tune(
        model,
        train,
        test,
        workdir=workdir,
        rule=rule,
        augmentations=AUGMENTATIONS.value and set(AUGMENTATIONS.value) - {"none"},
        init=INIT.value,
        trainable=TRAIN.value,
        teacher=TEACHER.value,
        temperature=TEMPERATURE.value,
        precision=PRECISION.value,
        strategy=strategy,
        seed=SEED.value,
        batch_split=application.number_or_word(BATCH_SPLIT.value),
        evaluate_every=EVAL_EVERY.value,
        command=shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
    )
    metrics = result.metrics
    print(
        f"{sentence(metrics)}, after {metrics['steps']:,} steps and {metrics['seconds']:.0f} s.\n"
        f"Report:         {workdir / 'report.html'}\n"
        f"TF-Hub module:  {workdir / 'model'}, for images of {rule.crop} x {rule.crop}\n"
        f"Its classes:    {workdir / 'labels.txt'}"
    )


def run():
    application.run(main)


if __name__ == "__main__":
    run()
