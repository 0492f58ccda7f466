"""The published file format and the fit of a checkpoint to a model."""

import io
import os
import pathlib
import pickle
import subprocess
import sys
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from light_import import LIGHT

from bit_keras.checkpoints import (
    CheckpointError,
    base_url,
    cache_dir,
    check_names_and_shapes,
    open_npz,
    save_npz,
)

ARRAYS = {
    "root_block/standardized_conv2d/kernel": (7, 7, 3, 4),
    "block1/unit01/a/standardized_conv2d/kernel": (1, 1, 4, 2),
    "block1/unit01/a/proj/standardized_conv2d/kernel": (1, 1, 4, 8),
    "block1/unit01/a/group_norm/gamma": (4,),
    "head/conv2d/kernel": (1, 1, 8, 5),
    "head/conv2d/bias": (5,),
}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in ARRAYS.items()}


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_saved_is_opened_again(tmp_path, arrays, compressed):
    save_npz(tmp_path / "a.npz", arrays, compressed=compressed)
    checkpoint = open_npz(tmp_path / "a.npz")
    assert checkpoint.shapes == ARRAYS
    assert len(checkpoint) == len(ARRAYS)
    assert_same(checkpoint, arrays)
    with pytest.raises(KeyError):
        checkpoint["resnet/head/conv2d/bias"]


def test_numpy_reads_what_is_saved_by_the_published_names(tmp_path, arrays):
    save_npz(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert set(file) == {f"resnet/{name}" for name in arrays}
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[f"resnet/{name}"], array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("prefix", ["", "resnet/"])
@pytest.mark.parametrize("suffix", ["", "_7", "_123"])
def test_published_spellings_open_under_canonical_names(tmp_path, arrays, save, prefix, suffix):
    published = {
        prefix + name.replace("standardized_conv2d", "standardized_conv2d" + suffix): array
        for name, array in arrays.items()
    }
    save(tmp_path / "a.npz", **published)
    assert_same(open_npz(tmp_path / "a.npz"), arrays)


def test_two_arrays_for_one_name_are_an_error(tmp_path):
    name = "root_block/standardized_conv2d{}/kernel"
    np.savez(tmp_path / "a.npz", **{name.format(""): np.ones(1), name.format("_2"): np.ones(1)})
    with pytest.raises(CheckpointError, match=r"two arrays for root_block/standardized_conv2d/"):
        open_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f2", ">f4", ">f8"])
def test_other_floats_keep_their_dtype_in_the_file_and_are_cast_when_read(tmp_path, dtype):
    array = (np.arange(6).reshape(2, 3) / 4).astype(dtype)
    save_npz(tmp_path / "a.npz", {"x": array})
    with np.load(tmp_path / "a.npz") as file:
        assert file["resnet/x"].dtype == np.dtype(dtype)
    assert_same(open_npz(tmp_path / "a.npz"), {"x": array})


def test_memory_order_and_shape_survive(tmp_path):
    arrays = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "strided": np.arange(12.0)[::2],
        "scalar": np.float32(3),
        "empty": np.zeros((0, 3)),
    }
    np.savez(tmp_path / "numpy.npz", **arrays)
    save_npz(tmp_path / "ours.npz", arrays)
    for file in ("numpy.npz", "ours.npz"):
        assert_same(open_npz(tmp_path / file), {k: np.asarray(v) for k, v in arrays.items()})


@pytest.mark.parametrize("dtype", ["int64", "complex64", "bool", "V2", "float32,float32"])
def test_a_dtype_that_is_no_float_is_an_error_that_names_it(tmp_path, dtype):
    arrays = {"head/conv2d/bias": np.zeros(3, dtype)}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(CheckpointError, match=r"head/conv2d/bias.* has dtype"):
        open_npz(tmp_path / "a.npz")
    with pytest.raises(CheckpointError, match=r"head/conv2d/bias.* has dtype"):
        save_npz(tmp_path / "b.npz", arrays)
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("compressed", [False, True])
def test_opening_reads_no_array(tmp_path, compressed):
    """Damaged data matters where it is read and nowhere else."""
    rng = np.random.default_rng(0)
    arrays = {"big": rng.random(100_000, np.float32), "other": np.ones(100_000, np.float32)}
    path = tmp_path / "a.npz"
    save_npz(path, arrays, compressed=compressed)
    data = bytearray(path.read_bytes())
    data[200_000] ^= 1  # within the data of "big", which comes first
    path.write_bytes(data)

    tracemalloc.start()
    checkpoint = open_npz(path)
    opening = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert opening < 100_000
    assert checkpoint.shapes == {"big": (100_000,), "other": (100_000,)}
    np.testing.assert_array_equal(checkpoint["other"], arrays["other"])
    with pytest.raises(CheckpointError, match=r"damaged .*big.*: delete it and load again"):
        checkpoint["big"]


def test_reading_needs_the_memory_of_one_array(tmp_path):
    arrays = {name: np.ones(1_000_000, np.float32) for name in "abc"}
    save_npz(tmp_path / "a.npz", arrays)
    tracemalloc.start()
    for _ in open_npz(tmp_path / "a.npz").values():
        pass
    # The caller's array lives while the next one is read.
    assert tracemalloc.get_traced_memory()[1] < 2.2 * arrays["a"].nbytes
    tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header")
@pytest.mark.parametrize("compressed", [False, True])
def test_a_wrong_byte_is_found(tmp_path, compressed):
    """An array is right or an error, whichever byte of the file is wrong."""
    path = tmp_path / "a.npz"
    rng = np.random.default_rng(0)
    arrays = {"a/x": rng.random((3, 4), np.float32), "a/y": rng.random(20, np.float32)}
    save_npz(path, arrays, compressed=compressed)
    whole = path.read_bytes()
    errors = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x81
        path.write_bytes(damaged)
        try:
            for name, array in open_npz(path).items():
                np.testing.assert_array_equal(array, arrays[name])
        except CheckpointError:
            errors += 1
    # Dates, attributes and the like may be wrong, a byte of an array never.
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert errors >= sum(member.compress_size for member in archive.infolist())


def test_a_file_cut_short_is_found(tmp_path):
    path = tmp_path / "a.npz"
    save_npz(path, {"a/x": np.ones((3, 4))})
    whole = path.read_bytes()
    for length in range(2, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="delete it and load again"):
            open_npz(path)


def test_a_header_that_asks_for_more_than_the_file_has_is_found_on_opening(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(CheckpointError, match="delete it and load again"):
        open_npz(tmp_path / "a.npz")


class Trap:
    """Its pickle, once loaded, makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickles_are_refused_and_never_run(tmp_path):
    trap = Trap(tmp_path / "sprung")
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(trap))
    np.savez(tmp_path / "objects.npz", x=np.array([trap], dtype=object))
    with zipfile.ZipFile(tmp_path / "torch.npz", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(trap))
    for name in ("plain", "objects", "torch"):
        with pytest.raises(CheckpointError, match="pickles can execute code and are never read"):
            open_npz(tmp_path / f"{name}.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: delete it and load again"),
        (b"\n<!DOCTYPE html><html>Not found</html>", "web page .*: delete it and load again"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "web page"),
        (b"\x93NUMPY\x01\x00", "is not an .npz archive"),
    ],
)
def test_other_files_are_told_apart(tmp_path, content, message):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_npz(tmp_path / "a.npz")


def test_no_file_is_the_usual_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_npz(tmp_path / "a.npz")


def test_equal_arrays_give_equal_bytes(tmp_path, arrays, monkeypatch):
    save_npz(tmp_path / "a.npz", arrays)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    fortran = {name: np.asfortranarray(arrays[name]) for name in reversed(arrays)}
    save_npz(tmp_path / "b.npz", fortran)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_save_that_fails_changes_nothing(tmp_path, arrays):
    path = tmp_path / "a.npz"
    save_npz(path, arrays)
    before = path.read_bytes()
    with pytest.raises(CheckpointError):
        save_npz(path, arrays | {"z/last": np.array(["text"])})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npz"]


def test_a_checkpoint_can_be_saved_over_itself(tmp_path, arrays):
    path = tmp_path / "a.npz"
    save_npz(path, arrays)
    save_npz(path, open_npz(path), compressed=True)
    assert_same(open_npz(path), arrays)


@pytest.mark.parametrize("name", ["resnet/head/conv2d/bias", "a/standardized_conv2d_7/kernel"])
def test_only_canonical_names_are_saved(tmp_path, name):
    with pytest.raises(CheckpointError, match="its canonical name is"):
        save_npz(tmp_path / "a.npz", {name: np.ones(3)})


def test_equal_names_and_shapes_fit():
    check_names_and_shapes(ARRAYS, dict(reversed(ARRAYS.items())), "a.npz")


def test_a_misfit_lists_every_kind_of_difference():
    found = dict(ARRAYS)
    del found["block1/unit01/a/group_norm/gamma"]
    found["head/conv2d/bias"] = (10,)
    found["global_step"] = ()
    with pytest.raises(CheckpointError) as error:
        check_names_and_shapes(ARRAYS, found, "a.npz")
    message = str(error.value)
    assert message.startswith("a.npz does not fit the model (")
    assert "missing: block1/unit01/a/group_norm/gamma;" in message
    assert "left over: global_step;" in message
    assert "different in shape: head/conv2d/bias is (10,) instead of (5,)" in message


def test_long_lists_are_cut_short():
    with pytest.raises(CheckpointError, match=r"missing: n0, n1, n2 and 97 more\)"):
        check_names_and_shapes({f"n{i}": () for i in range(100)}, {}, "a.npz")


def test_the_environment_says_where(monkeypatch, tmp_path):
    monkeypatch.delenv("BIT_KERAS_CACHE", raising=False)
    monkeypatch.delenv("BIT_KERAS_BASE_URL", raising=False)
    assert cache_dir() == pathlib.Path.home() / ".cache" / "bit_keras"
    assert base_url() == "https://storage.googleapis.com/bit_models/"
    monkeypatch.setenv("BIT_KERAS_CACHE", "~/models")
    monkeypatch.setenv("BIT_KERAS_BASE_URL", "http://mirror/")
    assert cache_dir() == pathlib.Path.home() / "models"
    assert base_url() == "http://mirror/"


def test_the_room_imports_nothing_heavy():
    # Imported by itself, for bit_keras as a whole needs TensorFlow.
    code = f"{LIGHT}; import bit_keras.checkpoints; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "bit_keras.checkpoints.download" in modules
    heavy = {"tensorflow", "keras", "safetensors", "huggingface_hub", "ml_dtypes"}
    assert not heavy & set(modules)
    rooms = {name.split(".")[1] for name in modules if name.startswith("bit_keras.")}
    assert rooms == {"checkpoints", "files"}
