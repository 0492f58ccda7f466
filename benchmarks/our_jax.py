"""A forward pass or a training step of ours through Keras on JAX. See `serving`.

Started with KERAS_BACKEND=jax. Settings: training (a step, else a forward pass), size, batch,
precision; of a step the model ("R50x1"), of a pass the folder with what `forward.py` made.
"""

import functools
import pathlib

import numpy as np
from serving import serve

CLASSES = 1000


def _start(_):
    import jax

    jax.config.update("jax_default_matmul_precision", "tensorfloat32")  # as PyTorch convolves
    jax.numpy.zeros(1) + 1
    import bit_keras  # noqa: F401


def prepare(settings: dict) -> object:
    """Returns a function that takes a step, or answers a batch, in memory of the device."""
    import jax
    import keras

    keras.config.set_dtype_policy(settings["precision"])
    shape = (settings["batch"], settings["size"], settings["size"], 3)
    rng = np.random.default_rng(0)
    images = jax.device_put(rng.random(shape, np.float32))
    if settings.get("training"):
        labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, settings["batch"])]
        return _training_step(settings["model"], images, jax.device_put(labels))
    return _forward_pass(pathlib.Path(settings["folder"], "model.npz"), images)


def _forward_pass(path, images):
    import jax

    import bit_keras

    model = bit_keras.load(path)
    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]

    @jax.jit
    def forward(trainable, others, images):
        return model.stateless_call(trainable, others, images, training=False)[0]

    return lambda: np.asarray(forward(trainable, others, images))


def _training_step(name, images, labels):
    import jax
    import keras

    import bit_keras

    model = bit_keras.load(name, num_classes=CLASSES, init="random")
    optimizer = keras.optimizers.SGD(0.003, momentum=0.9)
    optimizer.build(model.trainable_variables)

    def loss(trainable, others, images, labels):
        logits, others = model.stateless_call(trainable, others, images, training=True)
        return -(labels * jax.nn.log_softmax(logits)).sum(1).mean(), others

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, images, labels):
        trainable, others, momenta = state
        values, gradients = jax.value_and_grad(loss, has_aux=True)(
            *(trainable, others, images, labels)
        )
        trainable, momenta = optimizer.stateless_apply(momenta, gradients, trainable)
        return (trainable, values[1], momenta), values[0]

    # Copies, because the step writes over what it is given.
    state = [
        [jax.numpy.copy(variable.value) for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
    ]

    def run():
        nonlocal state
        state, value = step(state, images, labels)
        return float(value)

    return run


if __name__ == "__main__":
    serve(_start, prepare, ("jax", "keras"))
