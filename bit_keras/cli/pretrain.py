"""bit-pretrain: pre-trains a BiT on labeled images by the paper's upstream protocols.

bit-pretrain --model=R26x0.5 --dataset=photos/ --recipe=BiT-S --dry_run
"""

import functools

from absl import flags

from ..recipes import RECIPES, recipe
from . import application, data_flags, usage

usage.group("The model")
MODEL = flags.DEFINE_string(
    "model", None, 'The architecture: "R26x0.5", say, or a name of bit_keras.list_models().'
)
usage.group(data_flags.DATA)
DATASET = flags.DEFINE_string("dataset", None, application.DATASETS)
usage.group("The recipe")
RECIPE = flags.DEFINE_enum("recipe", "BiT-S", sorted(RECIPES), "The paper's protocol.")
usage.group("The model")
INIT = flags.DEFINE_string("init", "random", '"random", or a model or file to go on from.')
usage.group("The recipe")
EPOCHS = flags.DEFINE_integer(
    "epochs", None, "Passes over the images; the schedule is stretched to them.", lower_bound=1
)
BATCH = flags.DEFINE_integer(
    "batch",
    None,
    "Images a step, by default what suits the set; the learning rate follows.",
    lower_bound=1,
)
BASE_LR = flags.DEFINE_float("base_lr", None, "Highest learning rate; by default the recipe's.")
WARMUP_STEPS = flags.DEFINE_integer(
    "warmup_steps", None, "By default what suits the set.", lower_bound=0
)
CROP = flags.DEFINE_integer("crop", None, "Side of the images; by default the recipe's 224.")
usage.group("What it would take")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what it would take, and train nothing.")
THROUGHPUT = flags.DEFINE_float(
    "throughput",
    None,
    "Images a second in training, for --dry_run to tell the time.",
    lower_bound=1e-9,
)
application.define_training_flags("the recipe's epochs")


def _check():
    if not MODEL.value or not DATASET.value:
        raise ValueError("name the architecture and the images: --model=BiT-S-R50x1 --dataset=...")
    _changed_recipe(recipe(RECIPE.value), num_examples=10**6)  # whose number changes no check


def _main():
    from .. import training
    from ..classification.pretraining import plan, pretrain
    from ..metrics.classification import sentence
    from ..reporting.texts import duration

    strategy = training.make_strategy(flags.FLAGS.strategy)  # connects workers, so it comes first
    model = application.known_model(MODEL.value)
    init = INIT.value if INIT.value == "random" else application.known_model(INIT.value)
    application.check_teacher()
    application.check_run(strategy, batch=BATCH.value)
    train, test, overlap = data_flags.read_images(DATASET.value)
    protocol = _changed_recipe(recipe(RECIPE.value), len(train))
    teacher = flags.FLAGS.teacher
    print(
        f"{model} ({init}) on {train.name}: {len(train):,} images of "
        f"{train.num_classes:,} classes, {data_flags.tested_on(train, test)}.\n"
        f"{RECIPE.value}: {protocol.epochs} epochs, {protocol.steps(len(train)):,} steps of "
        f"{protocol.batch:,} images of {protocol.crop} pixels, learning rate "
        f"{protocol.base_lr:g} after {protocol.warmup_steps:,} steps of warm-up."
        + (f"\nTeacher: {teacher}." if teacher else ""),
        flush=True,
    )
    common = {"recipe": protocol, "init": init, "strategy": strategy}
    if DRY_RUN.value:
        common |= application.device_options()
        print(plan(model, train, **common, images_per_second=THROUGHPUT.value))
        return
    workdir = application.run_folder(model, train.name)
    print(f"Run: {workdir}", flush=True)
    common |= application.training_options()
    metrics = pretrain(model, train, test, workdir=workdir, **common).metrics
    print(
        f"{sentence(metrics)}, after {metrics['steps']:,} steps and "
        f"{duration(metrics['seconds'])}.\n"
        f"Report:         {workdir / 'report.html'}\n"
        f"TF-Hub module:  {workdir / 'model'}"
    )
    if overlap:
        print(overlap)


def _changed_recipe(protocol, num_examples):
    """The recipe that fits the images, with the values of the flags that were given."""
    if flags.FLAGS.teacher:
        protocol = protocol.distillation()
    if EPOCHS.value:
        protocol = protocol.with_epochs(EPOCHS.value)
    protocol = protocol.fitted_to(num_examples, BATCH.value)
    if CROP.value:  # and what test images are resized to, in proportion
        protocol = protocol.replace(crop=CROP.value, test_resize=round(CROP.value * 256 / 224))
    given = {"base_lr": BASE_LR, "warmup_steps": WARMUP_STEPS}
    changes = {k: flag.value for k, flag in given.items() if flag.value is not None}
    return protocol.replace(**changes)


run = functools.partial(application.run, _main, check=_check)  # the entry point


if __name__ == "__main__":
    run()
