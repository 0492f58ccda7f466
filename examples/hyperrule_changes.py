"""What does each part of HyperRule do? The rule against itself with one thing changed.

    python examples/hyperrule_changes.py --shots=10 --seeds=3

The embedded model on a few handwritten digits, tested on all the others. A seed chooses the digits
and their batches, the same for every change, so that differences are taken seed by seed. About 10
minutes on two cores. Prints a Markdown table. An interrupted study goes on when it is started
again; more seeds and changes can be added later.
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
SHOTS = flags.DEFINE_integer("shots", 10, "Digits per class to train on.", lower_bound=1)
CHANGES = flags.DEFINE_list("changes", [], "Names of the table's rows; all if none is given.")
STEPS = flags.DEFINE_integer("steps", 500, "Steps of the rule's schedule.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 32, "Images per step.", lower_bound=1)
SEEDS, PROCESSES, LOGDIR = studies.define_flags("runs/hyperrule_changes", seeds=3)
UNCHANGED = "HyperRule"


def changes(rule):
    """{name of a change: arguments of `fine_tune`}

    Half the resolution is missing: the embedded model's 32 pixels are the minimum.
    """
    return {
        "five times the steps": {"rule": rule.with_steps(5 * rule.steps)},
        "twice the resolution": {"rule": rule.replace(resize=2 * rule.resize, crop=2 * rule.crop)},
        UNCHANGED: {"rule": rule},
        "mixup 0.1": {"rule": rule.replace(mixup_alpha=0.1)},
        "no decay": {"rule": rule.replace(decay_steps=())},
        "no warm-up": {"rule": rule.replace(warmup_steps=0)},
        "10 times the rate": {"rule": rule.replace(base_lr=10 * rule.base_lr)},
        "a tenth of the rate": {"rule": rule.replace(base_lr=rule.base_lr / 10)},
        "no random crop": {"rule": rule, "augmentations": ()},
        "a fifth of the steps": {"rule": rule.with_steps(max(1, rule.steps // 5))},
        "head only": {"rule": rule, "trainable": "head"},
    }


def tune(workdir, *, model, shots, seed, arguments):
    train, test = bit_keras.data.digits(shots, seed=seed)
    bit_keras.fine_tune(
        model, train, test, workdir=workdir, seed=seed, batch_split=1, export=False, **arguments
    )


def main():
    train, _ = bit_keras.data.digits(SHOTS.value)
    rule = default_rule(MODEL.value, train).with_steps(STEPS.value)
    rule = rule.replace(batch=BATCH.value, base_lr=0.003)  # the paper's, as this is about its rule
    known = changes(rule)
    if unknown := set(CHANGES.value) - set(known):
        raise ValueError(f"changes must be of {', '.join(known)}, got {sorted(unknown)}.")
    names = [n for n in known if not CHANGES.value or n in (UNCHANGED, *CHANGES.value)]
    common = {"model": MODEL.value, "shots": SHOTS.value}
    jobs = {
        f"{name}-{seed}": (tune, {**common, "seed": seed, "arguments": known[name]})
        for name in names  # the longest first, so that all end together
        for seed in range(SEEDS.value)
    }
    config = {
        **common,
        "weights": zoo.weights_crc32(MODEL.value),
        "steps": STEPS.value,
        "batch": BATCH.value,
    }
    with training.RunFolder(LOGDIR.value, config, may_grow=True) as study:
        found = studies.run_jobs(study, jobs, PROCESSES.value)
    accuracy = {name: np.array(studies.percentages(found, name, SEEDS.value)) for name in names}
    print(f"Mean (least to most) of {SEEDS.value} seeds:\n")
    studies.print_table(
        ["", "accuracy in %", f"gain over {UNCHANGED}"],
        [
            [
                name,
                studies.spread(accuracy[name]),
                ""
                if name == UNCHANGED
                else studies.spread(accuracy[name] - accuracy[UNCHANGED], "+.1f"),
            ]
            for name in sorted(names, key=lambda n: (n != UNCHANGED, -accuracy[n].mean()))
        ],
    )


if __name__ == "__main__":
    application.run(main)
