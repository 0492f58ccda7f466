"""Batch or group normalization, plain or standardized convolutions: which transfers best?

    python examples/normalization.py --steps=5000 --seeds=3

The ablation of Kolesnikov et al., 2020 (https://arxiv.org/abs/1912.11370, tables 4 and 5), at the
scale of two cores: four models, each pre-trained for equally many steps on glyphs, then fine-tuned
by HyperRule on a few handwritten digits. About 22 minutes. The glyphs are those of
`pretrain_glyphs.py`, rendered if missing. Prints a Markdown table. An interrupted study goes on
when it is started again; more seeds can be added later.
"""

import studies
from absl import flags

from bit_keras import training
from bit_keras.cli import application

WIDTH = flags.DEFINE_float("width", 0.25, "Width of the models.")
STEPS = flags.DEFINE_integer("steps", 5_000, "Steps of pre-training.", lower_bound=1)
SEEDS, PROCESSES, LOGDIR = studies.define_flags("runs/normalization", seeds=3)
studies.define_glyph_flags()
UNITS = (2, 2, 2, 2)

# ResNet-50 on ILSVRC-2012 with a batch of 4,096, and the same transferred to VTAB-1k: top-1 in %
# (tables 4 and 5 of the paper).
PUBLISHED = {
    ("batch", "plain"): (75.6, 67.72),
    ("batch", "standardized"): (75.8, 66.78),
    ("group", "plain"): (70.2, 68.77),
    ("group", "standardized"): (76.0, 70.39),
}


def main():
    studies.render_glyphs(flags.FLAGS.glyphs, flags.FLAGS.fonts)
    upstream = {
        f"{norm}-{conv}": (
            studies.pretrain,
            {
                "file": flags.FLAGS.glyphs,
                "num_classes": None,
                "architecture": {
                    "units": UNITS,
                    "width": WIDTH.value,
                    "norm": norm,
                    "conv": conv,
                },
                "steps": STEPS.value,
                "batch": flags.FLAGS.batch,
            },
        )
        for norm, conv in PUBLISHED
    }
    config = {**studies.glyph_config(UNITS), "width": WIDTH.value, "steps": STEPS.value}
    with training.RunFolder(LOGDIR.value, config, may_grow=True) as study:
        pretrained, digits = studies.pretrain_and_transfer(
            study, upstream, SEEDS.value, PROCESSES.value
        )
    print(
        f"Accuracy in %; on digits, {flags.FLAGS.shots} per class, mean (least to greatest) of "
        f"{SEEDS.value} seeds:\n"
    )
    rows = []
    for (norm, conv), published in PUBLISHED.items():
        name = f"{norm}-{conv}"
        upstream_accuracy = f"{100 * pretrained[name]['accuracy']:.1f}"
        rows.append([norm, conv, upstream_accuracy, studies.spread(digits[name]), *published])
    studies.print_table(
        [
            *("normalization", "convolutions", "held-out glyphs", "digits"),
            *("paper: ILSVRC-2012", "paper: VTAB-1k"),
        ],
        rows,
    )


if __name__ == "__main__":
    application.run(main)
