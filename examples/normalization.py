"""Batch or group normalization, plain or standardized convolutions: which, upstream and then?

    python examples/normalization.py --steps=5000 --seeds=3

The ablation of Kolesnikov et al., 2020 (https://arxiv.org/abs/1912.11370, tables 4 and 5), at the
scale of two cores: four models, each pre-trained for equally many steps on glyphs, then fine-tuned
by HyperRule on a few handwritten digits. About 22 minutes. The glyphs are those of
`pretrain_glyphs.py`, rendered if there are none. Prints a Markdown table. Goes on where it was
interrupted; more seeds can be added later.
"""

import pathlib

import studies
from absl import flags

from bit_keras import training
from bit_keras.cli import application

GLYPHS = flags.DEFINE_string("glyphs", "runs/glyphs-glyphs.npz", "The glyphs, rendered if missing.")
FONTS = flags.DEFINE_multi_string("fonts", ["/usr/share/fonts"], "Folders to search for fonts.")
WIDTH = flags.DEFINE_float("width", 0.25, "Width of the models.")
STEPS = flags.DEFINE_integer("steps", 5_000, "Steps of pre-training.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 64, "Images a step of pre-training.", lower_bound=1)
SHOTS = flags.DEFINE_integer("shots", 10, "Digits a class to fine-tune on.", lower_bound=1)
TUNING_STEPS = flags.DEFINE_integer("tuning_steps", 500, "Steps of fine-tuning.", lower_bound=1)
TUNING_BATCH = flags.DEFINE_integer("tuning_batch", 32, "Images a step of it.", lower_bound=1)
SEEDS = flags.DEFINE_integer("seeds", 3, "Fine-tunings of every model.", lower_bound=1)
PROCESSES = flags.DEFINE_integer("processes", 2, "Runs at a time.", lower_bound=1)
LOGDIR = flags.DEFINE_string("logdir", "runs/normalization", "Where the runs' folders go.")
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
    studies.render_glyphs(GLYPHS.value, FONTS.value)
    upstream = {
        f"{norm}-{conv}": (
            studies.pretrain,
            {
                "file": GLYPHS.value,
                "num_classes": None,
                "units": UNITS,
                "width": WIDTH.value,
                "steps": STEPS.value,
                "batch": BATCH.value,
                "norm": norm,
                "conv": conv,
            },
        )
        for norm, conv in PUBLISHED
    }
    config = {"glyphs": pathlib.Path(GLYPHS.value).stat().st_size, "units": UNITS}
    settings = ("width", "steps", "batch", "shots", "tuning_steps", "tuning_batch")
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
            for name in upstream
            for seed in range(SEEDS.value)
        }
        found = studies.conduct(study, downstream, PROCESSES.value)
    print(f"Accuracy in %; on digits, {SHOTS.value} a class, of {SEEDS.value} seeds:\n")
    rows = []
    for (norm, conv), published in PUBLISHED.items():
        digits = [
            100 * found[f"{norm}-{conv}-to-digits-{s}"]["accuracy"] for s in range(SEEDS.value)
        ]
        glyphs = f"{100 * pretrained[f'{norm}-{conv}']['accuracy']:.1f}"
        rows.append([norm, conv, glyphs, studies.spread(digits), *published])
    studies.print_table(
        [
            *("normalization", "convolutions", "held-out glyphs", "digits"),
            *("paper: ILSVRC-2012", "paper: VTAB-1k"),
        ],
        rows,
    )


if __name__ == "__main__":
    application.run(main)
