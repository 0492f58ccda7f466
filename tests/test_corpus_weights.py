"""Every weight file of the corpus: loaded or refused, and nothing in it ever runs."""

import os
import resource
import tracemalloc

import numpy as np
import pytest
from corpus.models import FORMATS, sound_weights
from corpus.weights import CANARY

import bit_keras
from bit_keras.checkpoints import CheckpointError

LEAST_MEMORY = 20_000_000  # bytes, for what loading takes whatever the file
NATIVE = 500_000  # kilobytes by which the process may grow, libraries in other languages included
CASES = [(kind, name) for kind, table in FORMATS.items() for name in table]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return sound_weights(tmp_path_factory.mktemp("sound"))


def size(path):
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_file_is_loaded_or_refused_in_a_sentence(sound, tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    path, weights = tmp_path / name, FORMATS[kind][name]
    weights.write(path, sound[kind])
    before = {*os.listdir(tmp_path)}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        if weights.expected:
            with pytest.raises((CheckpointError, ValueError), match=weights.expected) as error:
                bit_keras.load(path)
            assert len(str(error.value)) < 1_000
        else:
            bit_keras.load(path)
        assert tracemalloc.get_traced_memory()[1] < LEAST_MEMORY + 2 * size(path)
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < resident + NATIVE
    assert {*os.listdir(tmp_path)} == before
    assert CANARY not in before


def test_predictions_run_no_graph_that_writes_files(sound, tmp_path):
    images = np.zeros((1, 32, 32, 3), np.uint8)
    assert bit_keras.predict_images(sound["saved_model"], images)
    FORMATS["saved_model"]["writing"].write(tmp_path / "writing", sound["saved_model"])
    with pytest.raises(ValueError, match="has the operation WriteFile, and may touch files"):
        bit_keras.predict_images(tmp_path / "writing", images)
    assert os.listdir(tmp_path) == ["writing"]


def test_predictions_of_weights_that_are_not_finite_are_refused(sound, tmp_path):
    FORMATS["npz"]["nan.npz"].write(tmp_path / "nan.npz", sound["npz"])
    with pytest.raises(ValueError, match="numbers that are not finite"):
        bit_keras.predict_images(tmp_path / "nan.npz", np.zeros((1, 32, 32, 3)), size=32)
