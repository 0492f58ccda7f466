"""bit-finetune: fine-tunes a BiT on labeled images by HyperRule.

    bit-finetune --dataset=photos/ --validation=0.1 --name=photos

Without flags it trains the embedded model on ten handwritten digits per class, in about a minute.
Flags that the reference code also has keep its names and meaning.
"""

import functools
import pathlib

from absl import flags

from ..choices import AUGMENTATIONS, EMBEDDED_MODEL, INITS, SAMPLINGS
from ..recipes import MIXES, HyperRule
from ..recipes.settings import LARGEST_SIDE
from . import application, data_flags, usage

usage.group("The model")
MODEL = flags.DEFINE_string(
    "model",
    EMBEDDED_MODEL,
    "A name of bit_keras.list_models(), a run's folder, or what else bit_keras.load takes; with "
    '--init=random also an architecture, "R26x0.5".',
)
usage.group(data_flags.DATA)
DATASET = flags.DEFINE_string(
    "dataset",
    None,
    f"{application.DATASETS} By default ten digits per class.",
)
EXAMPLES_PER_CLASS = flags.DEFINE_integer(
    "examples_per_class", None, "Train on so many images of each class only.", lower_bound=1
)
EXAMPLES_PER_CLASS_SEED = flags.DEFINE_integer(
    "examples_per_class_seed", 0, "Which images --examples_per_class picks.", lower_bound=0
)
usage.group("The rule")
BATCH = flags.DEFINE_integer("batch", None, "Images a step; by default the rule's.", lower_bound=1)
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
AUGMENTATION = flags.DEFINE_multi_enum(
    "augmentation",
    None,
    [*AUGMENTATIONS, "none"],
    "Random changes that leave the labels true, each with a flag; by default the data set's own.",
)
usage.group("The model")
INIT = flags.DEFINE_enum("init", "pretrained", INITS, "Weights to start from.")
TRAIN = flags.DEFINE_string(
    "train", "all", '"all", "head", or "from:LAYER" ("from:block4", "from:block3/unit05").'
)
usage.group("The rule")
MIX = flags.DEFINE_enum(
    "mix",
    None,
    MIXES,
    "How each batch's images are mixed (both: by one of the two at random); by default the rule's.",
)
CLASS_WEIGHTS = flags.DEFINE_string(
    "class_weights",
    None,
    'What multiplies the loss by class: "balanced", so that all classes count equally, "none", or '
    "a CSV file with the columns class and weight.",
)
SAMPLING = flags.DEFINE_enum(
    "sampling",
    None,
    SAMPLINGS,
    "What is drawn equally often: all images (uniform, the default) or all classes (balanced).",
)
usage.group("The model")
BIT_PRETRAINED_DIR = flags.DEFINE_string(
    "bit_pretrained_dir", None, "Take --model's weights from MODEL.npz in this folder."
)
application.define_training_flags("the rule's steps")


# The rule for a model and images of which nothing is known: any size and any crop are right.
_ANY_RULE = HyperRule.release(1, (1, 1)).replace(resize=LARGEST_SIDE, crop=32)


def _check():
    _changed_rule(_ANY_RULE)


def _main():
    from .. import data, training
    from ..classification.fine_tuning import check_choices, default_rule, fine_tune
    from ..metrics.classification import sentence
    from ..reporting.texts import duration

    strategy = training.make_strategy(flags.FLAGS.strategy)  # connects workers, so it comes first
    model = _known_model()
    augmentations = AUGMENTATION.value and set(AUGMENTATION.value) - {"none"}
    check_choices(TRAIN.value, augmentations, flags.FLAGS.teacher)
    application.check_teacher()
    application.check_run(strategy, batch=BATCH.value or _batch_of(model))
    weights = CLASS_WEIGHTS.value
    if weights not in (None, "balanced", "none"):
        weights = data.read_class_weights(weights)
    shots = EXAMPLES_PER_CLASS.value
    if DATASET.value is None and shots is None:
        shots = 10
    train, test, overlap = data_flags.read_images(
        DATASET.value or "digits",
        examples_per_class=shots,
        examples_per_class_seed=EXAMPLES_PER_CLASS_SEED.value,
    )
    teacher = flags.FLAGS.teacher
    rule = _changed_rule(default_rule(model, train, distilled=bool(teacher)))
    workdir = application.run_folder(model, train.name)
    print(
        f"{model} ({INIT.value}) on {train.name}: {len(train):,} images of {train.num_classes} "
        f"classes, {data_flags.tested_on(train, test)}.\n"
        f"HyperRule: {rule.steps:,} steps of {rule.batch} images, learning rate {rule.base_lr:g}, "
        f"resized to {rule.resize}, cropped to {rule.crop}, "
        f"{_mixture(rule)}.\n" + (f"Teacher: {teacher}.\n" if teacher else "") + f"Run: {workdir}",
        flush=True,
    )
    metrics = fine_tune(
        model,
        train,
        test,
        workdir=workdir,
        rule=rule,
        augmentations=augmentations,
        init=INIT.value,
        trainable=TRAIN.value,
        class_weights=weights,
        sampling=SAMPLING.value,
        strategy=strategy,
        **application.training_options(),
    ).metrics
    print(
        f"{sentence(metrics)}, after {metrics['steps']:,} steps and "
        f"{duration(metrics['seconds'])}.\n"
        f"Report:         {workdir / 'report.html'}\n"
        f"TF-Hub module:  {workdir / 'model'}, for images of {rule.crop} x {rule.crop}\n"
        f"Its classes:    {workdir / 'labels.txt'}"
    )
    for said in (_advice(workdir), str(overlap)):
        if said:
            print(said)


def _known_model():
    """What to fine-tune, which can be loaded."""
    if not BIT_PRETRAINED_DIR.value:
        return application.known_model(MODEL.value)
    return application.known_model(pathlib.Path(BIT_PRETRAINED_DIR.value, f"{MODEL.value}.npz"))


def _batch_of(model):
    """The batch of the model's rule, whatever the images."""
    from ..models.spec_files import read_spec
    from ..training.reading_runs import model_of_run

    spec = read_spec(model_of_run(model))
    return spec.rule_changes.get("batch", _ANY_RULE.batch) if spec else _ANY_RULE.batch


def _advice(workdir):
    from ..classification.advice import advice
    from ..training.reading_runs import read_lines, read_settings

    settings = read_settings(workdir / "config.json")
    return advice(settings, read_lines(workdir / "metrics.jsonl", scalars=True))


def _changed_rule(rule):
    """The rule with the values of the flags that were given."""
    if MIX.value:
        if TRAIN.value == "head" and MIX.value != "none":
            raise ValueError(
                f"--mix={MIX.value} mixes images, and --train=head trains on their features, which "
                "are computed once; leave out one of the two."
            )
        rule = rule.with_mix(MIX.value)
    if STEPS.value:
        rule = rule.with_steps(STEPS.value)
    given = {"batch": BATCH, "base_lr": BASE_LR, "resize": RESIZE, "crop": CROP}
    return rule.replace(**{k: flag.value for k, flag in given.items() if flag.value is not None})


def _mixture(rule):
    """Says how the rule mixes images."""
    alphas = {"mixup": rule.mixup_alpha, "cutmix": rule.cutmix_alpha}
    return " or ".join(f"{k} {v:g}" for k, v in alphas.items() if v) or "no mixup"


run = functools.partial(application.run, _main, check=_check)  # the entry point


if __name__ == "__main__":
    run()
