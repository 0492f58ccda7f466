"""What several tests need: a small BiT with lively weights, and a quiet TensorFlow."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the same numbers on every machine

import zlib

import numpy as np
import pytest

import bit_keras


def pytest_collection_modifyitems(items):
    """The longest files first, so that those who run in parallel end together."""
    longest = (
        *("strategies", "fine_tuning", "pretraining", "export_programs", "consumers", "studies"),
        *("vtab_suite", "few_shot", "distillation", "evaluation"),
    )
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in longest)


def named_weights(model):
    """Gives every variable values that depend on its name alone, as tests/golden was made with."""
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


@pytest.fixture(scope="session")
def tiny():
    """One unit a block, width 1/4, 5 classes. Tests must not train it."""
    return named_weights(bit_keras.ResNetV2((1, 1, 1, 1), 0.25, 5, name="tiny"))


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(size=(4, 48, 40, 3)).astype("float32")
