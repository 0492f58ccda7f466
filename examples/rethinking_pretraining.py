"""How much longer must a detector train from random weights, until pre-training helps no more?

    python examples/rethinking_pretraining.py --dataset=scenes --size=128 --steps=300 --batch=16

The experiment of He et al., 2018 ("Rethinking ImageNet Pre-training", arXiv 1811.08883): the same
detector from a pre-trained and from a random start, with schedules of one, two and three times the
length, and with all training images, a third and a tenth of them. All are tested on the same
images. Prints a Markdown table and draws it. An interrupted study goes on when it is started again;
more seeds, parts and schedules can be added later.

    python examples/rethinking_pretraining.py --model_type=mask_rcnn --norms=group,batch --parts=1

Pre-trains bodies like the embedded one on glyphs first, alike but for their normalization, and
compares detectors on them. Batch normalization keeps the statistics of pre-training, because
batches of detectors are small; so it has no random start.
"""

import functools

import numpy as np
import studies
from absl import flags

import bit_keras
from bit_keras import training
from bit_keras.choices import DETECTORS
from bit_keras.cli import application
from bit_keras.detection.fine_tuning import default_size
from bit_keras.models import zoo
from bit_keras.recipes import RECIPE_OF, detection_recipe

MODEL = flags.DEFINE_string("model", "BiT-XS-R26x0.25", "The body.")
MODEL_TYPE = flags.DEFINE_enum("model_type", "retinanet", DETECTORS, "As of bit-detect train.")
DATASET = flags.DEFINE_string("dataset", "scenes", "As of bit-detect train.")
PARTS = flags.DEFINE_list("parts", ["1", "3", "10"], "Train on all images, a third, a tenth.")
SCHEDULES = flags.DEFINE_list("schedules", ["1", "2", "3"], "Lengths of schedules.")
STEPS = flags.DEFINE_integer("steps", 300, "Steps of one schedule.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 16, "Images a step.", lower_bound=1)
SIZE = flags.DEFINE_integer("size", None, "Side of images; by default that of most images.")
NORMS = flags.DEFINE_list("norms", [], "Pre-train bodies with these normalizations, and compare.")
PRETRAINING = flags.DEFINE_integer("pretraining_steps", 5_000, "For --norms.", lower_bound=1)
SEEDS, PROCESSES, LOGDIR = studies.define_flags("runs/rethinking", seeds=1)
studies.define_glyph_files()
flags.register_validator(
    "norms",
    lambda norms: {*norms} <= {"group", "batch"},
    message="must be some of group and batch, separated by commas",
)


BODY = {"units": (2, 2, 2, 2), "width": 0.25}  # like the embedded model's


@functools.cache  # a process trains on the same images several times
def images(name):
    return bit_keras.data.boxes_from_name(name)


def starts(study):
    """Returns `{name: (body, init)}` of what detectors start from; pre-trains what is missing."""
    random = {"random": (MODEL.value, "random")}
    if not NORMS.value:
        return {"pretrained": (MODEL.value, "pretrained"), **random}
    file, steps = flags.FLAGS.glyphs, PRETRAINING.value
    studies.render_glyphs(file, flags.FLAGS.fonts)
    jobs = {}
    for norm in NORMS.value:
        architecture = {**BODY, "norm": norm}
        arguments = {"file": file, "num_classes": None, "steps": steps, "batch": 64}
        jobs[f"glyphs-{norm}"] = (studies.pretrain, {"architecture": architecture, **arguments})
    studies.run_jobs(study, jobs, PROCESSES.value)
    bodies = {norm: str(study.path / f"glyphs-{norm}" / "model.keras") for norm in NORMS.value}
    return {f"{norm} norm": (body, "pretrained") for norm, body in bodies.items()} | random


def tune(workdir, *, settings, start, part, times, seed):
    batch, steps = settings["batch"], settings["steps"]
    train, test = images(settings["dataset"])
    # The rate is that of one schedule on all images, as He et al. have it.
    recipe = detection_recipe(RECIPE_OF[settings["model_type"]]).fitted_to(len(train), batch, steps)
    number = -(-len(train) // part)
    if part > 1:
        order = np.random.default_rng(seed).permutation(len(train))
        train = train.subset(np.sort(order[:number]))
    epochs = (times * steps - 0.5) * batch / number  # half a step less, against rounding
    recipe = recipe.with_epochs(epochs).replace(
        size=settings["size"], warmup_steps=recipe.warmup_steps
    )
    body, init = start
    bit_keras.fine_tune_detector(
        body,
        train,
        test,
        workdir=workdir,
        model_type=settings["model_type"],
        recipe=recipe,
        init=init,
        seed=seed,
        batch_split=1,
        export=False,
    )


def main():
    lengths, parts = sorted(map(int, SCHEDULES.value)), [*map(int, PARTS.value)]
    number = len(images(DATASET.value)[0])
    size = SIZE.value or default_size(images(DATASET.value)[0])
    common = {"model": MODEL.value, "dataset": DATASET.value, "size": size}
    common |= {"model_type": MODEL_TYPE.value, "steps": STEPS.value, "batch": BATCH.value}
    config = {**common, "weights": zoo.weights_crc32(MODEL.value), "images": number}
    if NORMS.value:
        config["pretraining_steps"] = PRETRAINING.value
    with training.RunFolder(LOGDIR.value, config, may_grow=True) as study:
        bodies = starts(study)
        jobs = {
            f"{part}-{name}-{times}x-{seed}": (
                tune,
                {"settings": common, "start": start, "part": part, "times": times, "seed": seed},
            )
            for seed in range(SEEDS.value)
            for times in reversed(lengths)  # the longest first, so that all end together
            for part in parts
            for name, start in bodies.items()
        }
        found = studies.run_jobs(study, jobs, PROCESSES.value)
    metric = "mask_ap50" if MODEL_TYPE.value == "mask_rcnn" else "ap50"
    ap50 = {  # of each part and start: [times, seeds]
        (part, name): np.array(
            [
                studies.percentages(found, f"{part}-{name}-{times}x", SEEDS.value, metric)
                for times in lengths
            ]
        )
        for part in parts
        for name in bodies
    }
    rows = [
        [f"{-(-number // part):,}", name, *map(studies.spread, values)]
        for (part, name), values in ap50.items()
    ]
    spread = f", mean (least to most) of {SEEDS.value} seeds" if SEEDS.value > 1 else ""
    print(f"{metric} in %{spread}:\n")
    studies.print_table(["images", "start", *(f"{times}x" for times in lengths)], rows)
    draw(ap50, metric, number, lengths, study.path / "rethinking_pretraining.png")


def draw(ap50, metric, number, lengths, file):
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    steps = [times * STEPS.value for times in lengths]
    dashes = {"random": "-", "pretrained": "--", "group norm": "--", "batch norm": ":"}
    for (part, name), values in ap50.items():
        axes.plot(
            steps,
            values.mean(axis=1),
            f"o{dashes[name]}",
            color=f"C{[*map(int, PARTS.value)].index(part)}",
            label=f"{-(-number // part):,} images, {name}",
        )
    axes.set_xticks(steps)
    axes.set(xlabel="steps", ylabel=f"{metric} in %", ylim=(0, None))
    axes.set_title(f"{MODEL_TYPE.value} on {DATASET.value.rstrip('/').split('/')[-1]}")
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=150)
    print(f"\nwrote {file}")


if __name__ == "__main__":
    application.run(main)
