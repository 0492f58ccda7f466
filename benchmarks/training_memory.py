"""Peak memory of fine-tuning under --batch_split=auto.

python benchmarks/training_memory.py --model=BiT-M-R50x1 --batch=512 --crop=128
"""

import pathlib
import resource
import tempfile

import numpy as np
from absl import app, flags

import bit_keras

MODEL = flags.DEFINE_string("model", "BiT-M-R50x1", "Architecture.")
BATCH = flags.DEFINE_integer("batch", 512, "Images a step.")
CROP = flags.DEFINE_integer("crop", 128, "Side of the images.")
STEPS = flags.DEFINE_integer("steps", 3, "Steps to train.")


def main(_):
    images = np.random.default_rng(0).integers(0, 256, (600, 160, 160, 3), dtype=np.uint8)
    labels = np.arange(600) % 10
    train, _ = bit_keras.data.from_arrays(images, labels, test=(images[:10], labels[:10]))
    rule = bit_keras.HyperRule.release(len(train), train.image_size)
    rule = rule.with_steps(STEPS.value)
    rule = rule.replace(batch=BATCH.value, crop=CROP.value, resize=CROP.value * 5 // 4)
    with tempfile.TemporaryDirectory() as folder:
        bit_keras.fine_tune(
            *(MODEL.value, train), workdir=pathlib.Path(folder, "run"), rule=rule, init="random"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    print(f"{MODEL.value}, batch {BATCH.value} at {CROP.value}: peak {peak / 2**30:.1f} GiB")


if __name__ == "__main__":
    app.run(main)
