"""Speed of the input pipelines next to that of training R50x1, and how long training waits.

    python benchmarks/input_pipeline.py

For arrays and for a folder of JPEG files of 500 x 375 pixels, cropped to 128: images per second of
the pipeline alone and of the training step alone, and, for both together, the share of the time in
which the step waits for its input.
"""

import pathlib
import tempfile
import time

import keras
import numpy as np
import PIL.Image
import sklearn.datasets
import tensorflow as tf
from absl import app, flags

import bit_keras
from bit_keras import data

IMAGES = flags.DEFINE_integer("images", 512, "Number of images of the synthetic data set.")
BATCH = flags.DEFINE_integer("batch", 64, "Images per step.")
STEPS = flags.DEFINE_integer("steps", 6, "Steps to measure, after one to warm up.")
RESIZE, CROP = 160, 128


def photos(number):
    """Crops of scikit-learn's two photos in the usual size of ILSVRC's: uint8 [375, 500, 3]."""
    rng = np.random.default_rng(0)
    for i in range(number):
        photo = PIL.Image.fromarray(sklearn.datasets.load_sample_images().images[i % 2])
        left, top = rng.integers(0, 200), rng.integers(0, 150)
        box = (left, top, left + 420, top + 270)
        yield np.asarray(photo.resize((500, 375), box=box))


def seconds_of(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main(_):
    pictures, labels = np.stack(list(photos(IMAGES.value))), np.arange(IMAGES.value) % 2
    with tempfile.TemporaryDirectory() as folder:
        for i, picture in enumerate(pictures):
            file = pathlib.Path(folder, str(i % 2), f"{i}.jpg")
            file.parent.mkdir(exist_ok=True)
            PIL.Image.fromarray(picture).save(file, quality=90)
        sources = {
            "arrays": data.from_arrays(pictures, labels)[0],
            "JPEG folder": data.from_directory(folder)[0],
        }
        model = bit_keras.load("BiT-M-R50x1", num_classes=2, init="random")
        optimizer = keras.optimizers.SGD(0.003, momentum=0.9)
        optimizer.build(model.trainable_variables)

        @tf.function
        def step(images, labels):
            with tf.GradientTape() as tape:
                logits = model(images, training=True)
                loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, logits))
            weights = [variable.value for variable in model.trainable_variables]
            optimizer.apply(tape.gradient(loss, weights), model.trainable_variables)
            return loss

        images = tf.zeros((BATCH.value, CROP, CROP, 3))
        targets = tf.one_hot(tf.zeros(BATCH.value, tf.int32), 2)
        step(images, targets)
        shown = BATCH.value * STEPS.value
        training = shown / seconds_of(lambda: [step(images, targets) for _ in range(STEPS.value)])
        print(f"training step alone: {training:.1f} images/s\n")
        print("| source | pipeline | pipeline alone, images/s | to the step | waiting, % |")
        print("| --- | --- | --- | --- | --- |")
        settings = {"batch": BATCH.value, "crop": CROP, "seed": 0}
        for source, labeled in sources.items():
            for name, batches in (
                ("fine-tuning", data.training_batches(labeled, resize=RESIZE, **settings)),
                ("pre-training", data.upstream_batches(labeled, **settings)),
            ):
                iterator = iter(batches)
                next(iterator), next(iterator)  # starts the threads, uses up the prefetched batch
                number = 4 * STEPS.value
                alone = seconds_of(lambda: [next(iterator) for _ in range(number)])  # noqa: B023
                rate = number * BATCH.value / alone
                waited, start = 0.0, time.perf_counter()
                for _ in range(STEPS.value):
                    asked = time.perf_counter()
                    images, targets = next(iterator)
                    waited += time.perf_counter() - asked
                    step(images, targets).numpy()
                share = waited / (time.perf_counter() - start)
                print(f"| {source} | {name} | {rate:.0f} | {rate / training:.0f}x | {share:.2%} |")


if __name__ == "__main__":
    app.run(main)
