"""How much longer must a random start train, and from how many images on does it catch up?

    python examples/from_scratch.py --shots=5,25,all --schedules=1,3,10 --seeds=2

The question of He et al., 2018 ("Rethinking ImageNet Pre-training", arXiv 1811.08883) on
handwritten digits: a pre-trained model with one schedule of HyperRule against random starts with
longer ones. All are tested on the same 359 digits; a seed chooses the training digits and their
batches. About 14 minutes on two cores. Prints a Markdown table and draws it. An interrupted study
goes on when it is started again; more seeds, sizes and schedules can be added later.
"""

import numpy as np
import studies
from absl import flags

import bit_keras
from bit_keras import training
from bit_keras.classification.fine_tuning import default_rule
from bit_keras.cli import application
from bit_keras.models import zoo

MODEL = flags.DEFINE_string("model", "BiT-XS-R26x0.25", "The pre-trained model.")
SHOTS = flags.DEFINE_list("shots", ["5", "25", "all"], "Digits per class to train on, or all.")
SCHEDULES = flags.DEFINE_list(
    "schedules", ["1", "3", "10"], "Lengths of a random start's schedule."
)
STEPS = flags.DEFINE_integer("steps", 500, "Steps of one schedule.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 32, "Images per step.", lower_bound=1)
SEEDS, PROCESSES, LOGDIR = studies.define_flags("runs/from_scratch", seeds=2)
NEAR = 1.0  # a random start has caught up if it is at most so many percentage points behind


def tune(workdir, *, model, init, shots, seed, steps, batch):
    train, test = bit_keras.data.digits()
    if shots != "all":
        train = train.few_shot(int(shots), seed)
    rule = default_rule(model, train).with_steps(steps)
    rule = rule.replace(batch=batch, base_lr=0.003)  # the paper's, as this is about its finding
    bit_keras.fine_tune(
        model,
        train,
        test,
        workdir=workdir,
        rule=rule,
        init=init,
        seed=seed,
        batch_split=1,
        export=False,
    )


def main():
    starts = [("random", times) for times in sorted(map(int, SCHEDULES.value))]
    starts = [("pretrained", 1), *starts]
    common = {"model": MODEL.value, "batch": BATCH.value}
    jobs = {
        f"{shots}-shot-{init}-{times}x-{seed}": (
            tune,
            {**common, "init": init, "shots": shots, "seed": seed, "steps": times * STEPS.value},
        )
        for seed in range(SEEDS.value)
        for init, times in reversed(starts)  # the longest first, so that all end together
        for shots in SHOTS.value
    }
    config = {**common, "weights": zoo.weights_crc32(MODEL.value), "steps": STEPS.value}
    with training.RunFolder(LOGDIR.value, config, may_grow=True) as study:
        found = studies.run_jobs(study, jobs, PROCESSES.value)
    accuracy = {  # of each start, in the order of `starts`
        shots: [
            studies.percentages(found, f"{shots}-shot-{init}-{times}x", SEEDS.value)
            for init, times in starts
        ]
        for shots in SHOTS.value
    }
    lengths = [times for _, times in starts[1:]]
    rows = []
    for shots, (pretrained, *random) in accuracy.items():
        near = np.mean(random, axis=1) >= np.mean(pretrained) - NEAR
        verdict = f"{lengths[near.argmax()]}x" if near.any() else f"more than {lengths[-1]}x"
        rows.append([shots, *map(studies.spread, [pretrained, *random]), verdict])
    print(f"Accuracy in %, mean (least to most) of {SEEDS.value} seeds:\n")
    studies.print_table(
        [
            "digits a class",
            "pre-trained, 1x",
            *(f"random start, {times}x" for times in lengths),
            f"within {NEAR:g} point after",
        ],
        rows,
    )
    draw(accuracy, lengths, study.path / "from_scratch.png")


def draw(accuracy, lengths, file):
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for number, (shots, runs) in enumerate(accuracy.items()):
        pretrained, *random = np.mean(runs, axis=1)
        color = f"C{number}"
        axes.axhline(pretrained, color=color, linestyle="--")
        axes.plot(lengths, random, "o-", color=color, label=f"digits a class: {shots}")
    axes.set_xscale("log")
    axes.set_xticks(lengths, [f"{times}x" for times in lengths])
    axes.minorticks_off()
    axes.set(xlabel="schedule of the random start", ylabel="accuracy in %")
    axes.set_title("Random start (dashed: pre-trained, 1x)")
    axes.legend()
    figure.savefig(file, dpi=150)
    print(f"\nwrote {file}")


if __name__ == "__main__":
    application.run(main)
