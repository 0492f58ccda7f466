"""Does a larger upstream data set pay? For which models, and after how many steps?

    python examples/upstream_size.py --classes=100,all --steps=2000,10000 --seeds=3

The question of figure 5 in Kolesnikov et al., 2020 (https://arxiv.org/abs/1912.11370), at the scale
of two cores: models of two widths, each pre-trained for fewer and for more steps on the glyphs of
few and of all characters, then fine-tuned by HyperRule on a few handwritten digits. About 40
minutes. The glyphs are those of `pretrain_glyphs.py`, rendered if there are none. Prints a Markdown
table and draws it. Goes on where it was interrupted; more characters, widths, steps and seeds can
be added later.
"""

import pathlib

import numpy as np
import studies
from absl import flags

from bit_keras import training
from bit_keras.cli import application

GLYPHS = flags.DEFINE_string("glyphs", "runs/glyphs-glyphs.npz", "The glyphs, rendered if missing.")
FONTS = flags.DEFINE_multi_string("fonts", ["/usr/share/fonts"], "Folders to search for fonts.")
CLASSES = flags.DEFINE_list("classes", ["100", "all"], "Characters to pre-train on.")
WIDTHS = flags.DEFINE_list("widths", ["0.125", "0.25"], "Widths of the models.")
STEPS = flags.DEFINE_list("steps", ["2000", "10000"], "Steps of pre-training.")
BATCH = flags.DEFINE_integer("batch", 64, "Images a step of pre-training.", lower_bound=1)
SHOTS = flags.DEFINE_integer("shots", 10, "Digits a class to fine-tune on.", lower_bound=1)
TUNING_STEPS = flags.DEFINE_integer("tuning_steps", 500, "Steps of fine-tuning.", lower_bound=1)
TUNING_BATCH = flags.DEFINE_integer("tuning_batch", 32, "Images a step of it.", lower_bound=1)
SEEDS = flags.DEFINE_integer("seeds", 3, "Fine-tunings of every model.", lower_bound=1)
PROCESSES = flags.DEFINE_integer("processes", 2, "Runs at a time.", lower_bound=1)
LOGDIR = flags.DEFINE_string("logdir", "runs/upstream_size", "Where the runs' folders go.")
UNITS = (2, 2, 2, 2)


def main():
    studies.render_glyphs(GLYPHS.value, FONTS.value)
    lengths = sorted(map(int, STEPS.value))
    names = {
        (width, steps, classes): f"R26x{width}-{classes}-{steps}"
        for steps in reversed(lengths)  # the longest first, so that all end together
        for width in reversed(WIDTHS.value)
        for classes in CLASSES.value
    }
    upstream = {
        name: (
            studies.pretrain,
            {
                "file": GLYPHS.value,
                "num_classes": None if classes == "all" else int(classes),
                "units": UNITS,
                "width": float(width),
                "steps": steps,
                "batch": BATCH.value,
            },
        )
        for (width, steps, classes), name in names.items()
    }
    config = {"glyphs": pathlib.Path(GLYPHS.value).stat().st_size, "units": UNITS}
    settings = ("batch", "shots", "tuning_steps", "tuning_batch")
    config |= {name: flags.FLAGS[name].value for name in settings}
    with training.RunFolder(LOGDIR.value, config, may_grow=True) as study:
        pretrained = studies.conduct(study, upstream, PROCESSES.value)
        downstream = {
            f"{name}-to-digits-{seed}": (
                studies.transfer,
                {
                    "model": str(study.path / name / "model.keras"),
                    "shots": SHOTS.value,
                    "seed": seed,
                    "steps": TUNING_STEPS.value,
                    "batch": TUNING_BATCH.value,
                },
            )
            for name in names.values()
            for seed in range(SEEDS.value)
        }
        found = studies.conduct(study, downstream, PROCESSES.value)
    accuracy = {
        key: [100 * found[f"{name}-to-digits-{s}"]["accuracy"] for s in range(SEEDS.value)]
        for key, name in names.items()
    }
    print(
        f"Accuracy in % on digits, {SHOTS.value} a class, mean (least to most) of {SEEDS.value} "
        "seeds, and on held-out glyphs of the characters upstream:\n"
    )
    header, rows, glyphs = ["steps", "characters", "glyphs"], [], {}
    for width in WIDTHS.value:
        header += [f"R26x{width}", "held-out glyphs"]
    for steps in lengths:
        for classes in CLASSES.value:
            before = [pretrained[names[width, steps, classes]] for width in WIDTHS.value]
            glyphs[classes] = before[0]["glyphs"]
            rows.append([f"{steps:,}", classes, f"{glyphs[classes]:,}"])
            for width, metrics in zip(WIDTHS.value, before, strict=True):
                rows[-1].append(studies.spread(accuracy[width, steps, classes]))
                rows[-1].append(f"{100 * metrics['accuracy']:.1f}")
    studies.print_table(header, rows)
    draw(accuracy, lengths, glyphs, study.path / "upstream_size.png")


def draw(accuracy, lengths, glyphs, file):
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for color, width in enumerate(WIDTHS.value):
        for number, steps in enumerate(lengths):
            runs = np.array([accuracy[width, steps, classes] for classes in glyphs])
            mean = runs.mean(axis=1)
            error = [mean - runs.min(axis=1), runs.max(axis=1) - mean]
            label = f"R26x{width}, {steps:,} steps"
            axes.errorbar(
                [*glyphs.values()],
                mean,
                error,
                color=f"C{color}",
                alpha=(number + 1) / len(lengths),  # the longer the darker
                marker="o",
                capsize=3,
                label=label,
            )
    axes.set_xscale("log")
    axes.set_xticks([*glyphs.values()], [f"{number:,}" for number in glyphs.values()])
    axes.minorticks_off()
    axes.set(xlabel="glyphs upstream", ylabel=f"accuracy in %, {SHOTS.value} digits a class")
    axes.legend()
    figure.savefig(file, dpi=150)
    print(f"\nwrote {file}")


if __name__ == "__main__":
    application.run(main)
