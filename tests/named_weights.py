"""The weights that tests/golden was made with, for every backend of Keras."""

import zlib

import numpy as np


def named_weights(model):
    """Gives every variable values that depend on its name alone."""
    for variable in model.variables:
        seed = zlib.crc32(variable.path.encode())
        z = np.random.default_rng(seed).standard_normal(variable.shape, dtype="float32")
        if variable.path.startswith("head/"):
            z *= 0.05
        elif variable.name == "gamma":
            z = 1 + 0.1 * z
        elif variable.name == "beta":
            z *= 0.1
        variable.assign(z)
    return model
