"""Rebuilds BiT-XS-R26x0.25, the small model that comes with the package, from installed fonts.

    apt-get install --no-install-recommends $(grep -v '#' examples/glyph_fonts.txt)
    pip install fonttools
    python examples/pretrain_glyphs.py --workdir=runs/glyphs

About 20 minutes on two cores. An interrupted run goes on when it is started again.
"""

import pathlib

import glyphs
import keras
import numpy as np
import studies
import tensorflow as tf
from absl import flags

import bit_keras
from bit_keras import checkpoints, training
from bit_keras.cli import application

FONTS = flags.DEFINE_multi_string("fonts", ["/usr/share/fonts"], "Folders to search for fonts.")
WORKDIR = flags.DEFINE_string("workdir", "runs/glyphs", "The run's folder.")
STEPS = flags.DEFINE_integer("steps", 10_000, "Training steps.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 128, "Images per step.", lower_bound=1)
BASE_LR = flags.DEFINE_float("base_lr", 0.1, "Highest learning rate.")
WEIGHT_DECAY = flags.DEFINE_float("weight_decay", 1e-4, "L2 penalty on kernels.")
SEED = flags.DEFINE_integer("seed", 0, "Of the initial weights and of every batch.")
HELD_OUT = 4_096  # pictures kept from training, for the accuracy on the model card


def main():
    keras.utils.set_random_seed(SEED.value)
    workdir = pathlib.Path(WORKDIR.value)
    file = workdir.with_name(workdir.name + "-glyphs.npz")
    studies.render_glyphs(file, FONTS.value)
    with np.load(file) as arrays:
        images, labels, names = (arrays[name] for name in ("images", "labels", "class_names"))
        names = names.tolist()
    order = np.random.default_rng(SEED.value).permutation(len(images))
    held_out, train = np.split(order, [HELD_OUT])
    print(f"{len(images)} glyphs of {len(names)} characters")

    def batches(indices, start_step):
        return glyphs.glyph_batches(
            images[indices],
            labels[indices],
            num_classes=len(names),
            batch=BATCH.value,
            seed=SEED.value,
            start_step=start_step,
        )

    model = bit_keras.ResNetV2((2, 2, 2, 2), 0.25, len(names), name="BiT-XS-R26x0.25")
    predict = tf.function(lambda x: model(x, training=False))

    def evaluate():
        tested = batches(held_out, 0).take(HELD_OUT // BATCH.value)
        return {"held_out_accuracy": studies.accuracy(predict, tested)}

    schedule = studies.upstream_schedule(BASE_LR.value, STEPS.value)
    settings = ("steps", "batch", "base_lr", "weight_decay", "seed")
    config = {name: flags.FLAGS[name].value for name in settings}
    with training.RunFolder(workdir, {**config, "glyphs": len(images), "classes": names}) as run:
        objective = training.Objective(
            model=model,
            batches=lambda step, _: batches(train, step),
            batch=BATCH.value,
            loss=training.LOSSES["softmax"],
            weight_decay=WEIGHT_DECAY.value,
        )
        training.train(
            objective,
            keras.optimizers.SGD(schedule, momentum=0.9),
            run,
            steps=STEPS.value,
            every=training.Intervals(checkpoint=1_000, evaluate=1_000),
            tests=training.Tests(lambda step: evaluate()),
        )
        # The backbone only, as users do not need classes of glyphs, and at half precision: that is
        # 2 MB in the wheel.
        backbone = {v.path: v.numpy() for v in model.variables if not v.path.startswith("head/")}
        half = {path: array.astype("float16") for path, array in backbone.items()}
        checkpoints.save_npz(workdir / f"{model.name}.npz", half, compressed=True)
        run.finish({**evaluate(), "steps": STEPS.value})
    print(f"wrote {workdir / model.name}.npz")


if __name__ == "__main__":
    application.run(main)
