"""A training step of ours, as `bit-finetune` takes it, on a batch in memory. See `serving`.

Settings: model ("R50x1"), size, batch, precision, pieces, remat.
"""

import contextlib

import numpy as np
from serving import check_bfloat16, serve

CLASSES = 1000


def _start(settings):
    from bit_keras.cli.console import import_tensorflow

    import_tensorflow(quiet=False)
    import tensorflow as tf

    tf.zeros(1) + 1


def training_step(settings: dict) -> object:
    """Returns a function that takes one step and returns its loss."""
    import tensorflow as tf

    import bit_keras
    from bit_keras.models.standardizing import standardized_once
    from bit_keras.training import Devices, Objective, rematerialize
    from bit_keras.training.losses import LOSSES
    from bit_keras.training.optimizer import FusedSGD
    from bit_keras.training.step import TrainStep
    from bit_keras.training.tf_workarounds import no_shared_sums

    if settings["precision"] == "mixed_bfloat16":
        check_bfloat16()
    rng, batch, size = np.random.default_rng(0), settings["batch"], settings["size"]
    images = rng.random((batch, size, size, 3), np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, batch)]
    devices = Devices("single", settings["precision"])
    with devices.scope():
        model = bit_keras.load(settings["model"], num_classes=CLASSES, init="random")
        optimizer = FusedSGD(0.003)
    if settings.get("remat"):
        rematerialize(model)
    data = tf.data.Dataset.from_tensors((images, labels)).repeat()
    objective = Objective(
        model=model,
        batches=lambda *_: data,
        batch=batch,
        loss=LOSSES["softmax"],
        once=standardized_once,
    )
    pieces = settings.get("pieces", 1)
    step = TrainStep(objective, optimizer, devices.strategy, pieces)
    iterator, one, nobody = iter(data), tf.constant(1), tf.constant(0.0)

    def run():
        with no_shared_sums() if pieces > 1 else contextlib.nullcontext():
            losses, _ = step.run(iterator, one, nobody)
        return float(losses[0, 0])

    return run


if __name__ == "__main__":
    serve(_start, training_step, ("tensorflow", "keras"))
