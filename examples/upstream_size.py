"""Does a larger upstream data set pay? For which models, and after how many steps?

    python examples/upstream_size.py --classes=100,all --steps=2000,10000 --seeds=3

The question of figure 5 in Kolesnikov et al., 2020 (https://arxiv.org/abs/1912.11370), at the scale
of two cores: models of two widths, each pre-trained for fewer and for more steps on the glyphs of
few and of all characters, then fine-tuned by HyperRule on a few handwritten digits. About 40
minutes. The glyphs are those of `pretrain_glyphs.py`, rendered if missing. Prints a Markdown table
and draws it. An interrupted study goes on when it is started again; more characters, widths, steps
and seeds can be added later.
"""

import numpy as np
import studies
from absl import flags

from bit_keras import training
from bit_keras.cli import application

CLASSES = flags.DEFINE_list("classes", ["100", "all"], "Characters to pre-train on.")
WIDTHS = flags.DEFINE_list("widths", ["0.125", "0.25"], "Widths of the models.")
STEPS = flags.DEFINE_list("steps", ["2000", "10000"], "Steps of pre-training.")
SEEDS, PROCESSES, LOGDIR = studies.define_flags("runs/upstream_size", seeds=3)
studies.define_glyph_flags()
UNITS = (2, 2, 2, 2)


def main():
    studies.render_glyphs(flags.FLAGS.glyphs, flags.FLAGS.fonts)
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
                "file": flags.FLAGS.glyphs,
                "num_classes": None if classes == "all" else int(classes),
                "architecture": {"units": UNITS, "width": float(width)},
                "steps": steps,
                "batch": flags.FLAGS.batch,
            },
        )
        for (width, steps, classes), name in names.items()
    }
    with training.RunFolder(LOGDIR.value, studies.glyph_config(UNITS), may_grow=True) as study:
        found = studies.pretrain_and_transfer(study, upstream, SEEDS.value, PROCESSES.value)
    pretrained, digits = ({key: part[name] for key, name in names.items()} for part in found)
    print(
        f"Accuracy in % on digits, {flags.FLAGS.shots} per class, mean (least to greatest) of "
        f"{SEEDS.value} seeds, and on held-out glyphs of the characters upstream:\n"
    )
    print_results(pretrained, digits, lengths)
    glyphs = {
        classes: pretrained[WIDTHS.value[0], lengths[0], classes]["glyphs"]
        for classes in CLASSES.value
    }
    draw(digits, lengths, glyphs, study.path / "upstream_size.png")


def print_results(pretrained, digits, lengths):
    header, rows = ["steps", "characters", "glyphs"], []
    for width in WIDTHS.value:
        header += [f"R26x{width}", "held-out glyphs"]
    for steps in lengths:
        for classes in CLASSES.value:
            keys = [(width, steps, classes) for width in WIDTHS.value]
            row = [f"{steps:,}", classes, f"{pretrained[keys[0]]['glyphs']:,}"]
            for key in keys:
                row.append(studies.spread(digits[key]))
                row.append(f"{100 * pretrained[key]['accuracy']:.1f}")
            rows.append(row)
    studies.print_table(header, rows)


def draw(digits, lengths, glyphs, file):
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for color, width in enumerate(WIDTHS.value):
        for number, steps in enumerate(lengths):
            runs = np.array([digits[width, steps, classes] for classes in glyphs])
            mean = runs.mean(axis=1)
            error = [mean - runs.min(axis=1), runs.max(axis=1) - mean]
            label = f"R26x{width}, {steps:,} steps"
            axes.errorbar(
                [*glyphs.values()],
                mean,
                error,
                color=f"C{color}",
                alpha=(number + 1) / len(lengths),  # longer schedules are darker
                marker="o",
                capsize=3,
                label=label,
            )
    axes.set_xscale("log")
    axes.set_xticks([*glyphs.values()], [f"{number:,}" for number in glyphs.values()])
    axes.minorticks_off()
    axes.set(
        xlabel="glyphs upstream", ylabel=f"accuracy in %, {flags.FLAGS.shots} digits per class"
    )
    axes.legend()
    figure.savefig(file, dpi=150)
    print(f"\nwrote {file}")


if __name__ == "__main__":
    application.run(main)
