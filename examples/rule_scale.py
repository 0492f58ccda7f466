"""At which learning rate and batch does HyperRule suit a small model?

    python examples/rule_scale.py --datasets=digits,photos/,photos/:10 --rates=0.003,0.01,0.03,0.1

HyperRule's 0.003 for batches of 512 was found on models a hundred times larger than the embedded
one. For every data set, of which NAME:N means N images of each class, the model is trained by the
rule with other rates on a part of the training images, and tested on the rest of them. Test images
choose nothing. Prints a Markdown table for each start. A run of 500 steps takes about a minute on
two cores; an interrupted study goes on when it is started again, and can grow later.
"""

import numpy as np
import studies
from absl import flags

import bit_keras
from bit_keras import training
from bit_keras.classification.fine_tuning import default_rule
from bit_keras.cli import application
from bit_keras.models import zoo

MODEL = flags.DEFINE_string("model", "BiT-XS-R26x0.25", "The model to fine-tune.")
DATASETS = flags.DEFINE_list("datasets", ["digits", "digits:10"], "What bit-finetune takes, or :N.")
RATES = flags.DEFINE_list("rates", ["0.003", "0.01", "0.03", "0.1"], "Values of base_lr.")
BATCHES = flags.DEFINE_list("batches", ["128"], "Images per step.")
STARTS = flags.DEFINE_list("starts", ["pretrained"], '"pretrained", "random" or both.')
STEPS = flags.DEFINE_integer("steps", None, "Steps; by default the rule's.", lower_bound=1)
SEEDS, PROCESSES, LOGDIR = studies.define_flags("runs/rule_scale", seeds=1)


def parts(dataset, seed):
    """(images to train on, images to test on) of the training images alone."""
    name, _, shots = dataset.partition(":")
    images, _ = bit_keras.data.from_name(name)
    if shots:
        return images.split_few_shot(int(shots), seed)
    return images.split(seed=seed)


def tune(workdir, *, model, dataset, start, batch, rate, steps, seed):
    train, test = parts(dataset, seed)
    rule = default_rule(model, train).replace(batch=batch, base_lr=rate)
    bit_keras.fine_tune(
        *(model, train, test),
        workdir=workdir,
        rule=rule.with_steps(steps or rule.steps),
        init=start,
        seed=seed,
        batch_split=1,
        export=False,
    )


def main():
    jobs, cells = {}, {}
    for start in STARTS.value:
        for dataset in DATASETS.value:
            for batch in map(int, BATCHES.value):
                for rate in map(float, RATES.value):
                    place = dataset.rstrip("/").replace("/", "_").replace(":", "_")
                    name = f"{place}-{start}-{batch}-{rate:g}"
                    cells[start, batch, rate, dataset] = name
                    settings = {"dataset": dataset, "start": start, "batch": batch, "rate": rate}
                    for seed in range(SEEDS.value):
                        arguments = {"model": MODEL.value, "steps": STEPS.value, "seed": seed}
                        jobs[f"{name}-{seed}"] = (tune, arguments | settings)
    config = {
        "model": MODEL.value,
        "weights": zoo.weights_crc32(MODEL.value),
        "steps": STEPS.value,
    }
    with training.RunFolder(LOGDIR.value, config, may_grow=True) as study:
        found = studies.run_jobs(study, jobs, PROCESSES.value)
    for start in STARTS.value:
        print(f"\nAccuracy in %, {start} start, mean of {SEEDS.value} seeds:\n")
        rows = []
        for batch in map(int, BATCHES.value):
            for rate in map(float, RATES.value):
                names = (cells[start, batch, rate, dataset] for dataset in DATASETS.value)
                means = [np.mean(studies.percentages(found, name, SEEDS.value)) for name in names]
                rows.append([f"{batch} x {rate:g}", *(f"{mean:.1f}" for mean in means)])
        studies.print_table(["batch x rate", *DATASETS.value], rows)


if __name__ == "__main__":
    application.run(main)
