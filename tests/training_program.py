"""Runs to be killed and compared: python training_program.py STRATEGY WORKDIR SOURCE [WORKDIR ...].

Each trains a BiT of two units with mixup for 20 steps, on SOURCE (a folder, "arrays" of noise,
"remat" for the same with units that are computed again, or "tfds" for a data set of TFDS with
made-up images), and writes its weights to WORKDIR.0.npz, or another worker's number. Several are
trained one after the other, as starting a process takes seconds; one that was finished is not
trained again.
"""

import contextlib
import os
import pathlib
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf

_, strategy, *runs = sys.argv
if strategy == "mirrored":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import bit_keras
from bit_keras import data

distribution = bit_keras.make_strategy(strategy)


@contextlib.contextmanager
def images(source):
    if source in ("arrays", "remat"):
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (40, 36, 40, 3), dtype=np.uint8)
        labels = np.arange(40) % 4
        yield data.from_arrays(pixels, labels, test=(pixels, labels))[0]
    elif source == "tfds":
        import tensorflow_datasets as tfds

        with tfds.testing.mock_data(num_examples=100):
            yield data.from_tfds("cifar10")[0]
    else:
        yield data.from_directory(source)[0]


rule = bit_keras.HyperRule(20, 16, 0.01, 4, (10, 15), 36, 32, 0.3)
worker = os.environ.get("WORKER", "0")
for workdir, source in zip(runs[::2], runs[1::2], strict=True):
    if os.path.exists(f"{workdir}.{worker}.npz"):
        continue
    with images(source) as train:
        result = bit_keras.fine_tune(
            pathlib.Path(__file__).parent / "golden/small.npz",
            train,
            workdir=workdir,
            rule=rule,
            strategy=distribution,
            seed=3,
            batch_split="auto" if strategy == "multiworker" else 1,
            remat=source == "remat",
            export=strategy == "multiworker",  # which one worker does while the other waits
        )
    np.savez(f"{workdir}.{worker}.npz", *result.model.get_weights())
