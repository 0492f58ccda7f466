"""Files of arrays: cut short, with code in them, or of other sizes than they tell."""

import io
import json
import os
import pathlib
import pickle
import shutil
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

UNITS, WIDTH, CLASSES = (1,), 8 / 64, 3
BIAS, KERNEL = "head/conv2d/bias", "head/conv2d/kernel"
CANARY = "canary"  # is made in the folder of a file by what must never run


class Weights(NamedTuple):
    """A file or folder of weights.

    Attributes:
        write: Writes it at a path; gets a sound one of that format to begin with.
        expected: What the refusal says, an expression; "" if it is loaded.
    """

    write: Callable
    expected: str


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mknod, (os.fspath(self.path),)


def arrays():
    """Of a BiT of one unit, by canonical name, float32."""
    from bit_keras.checkpoints import architecture_shapes

    rng = np.random.default_rng(0)
    shapes = architecture_shapes(UNITS, WIDTH, CLASSES)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def npy(array, header=None):
    """A member of an npz, maybe with another header."""
    file = io.BytesIO()
    if header is None:
        np.save(file, array)
    else:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.tobytes())
    return file.getvalue()


def _npz(change, method=zipfile.ZIP_STORED):
    """Archives of sound members, which `change` alters: {name: bytes}."""

    def write(path, sound):
        members = {f"{name}.npy": npy(array) for name, array in arrays().items()}
        change(members, path)
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return write


def _array(array):
    return _npz(lambda members, path: members.update({f"{BIAS}.npy": npy(array)}))


def _header(shape, descr="<f4"):
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    content = np.ones(CLASSES, "f4")
    return _npz(lambda members, path: members.update({f"{BIAS}.npy": npy(content, header)}))


def _pickled(members, path):
    array = np.array([Touch(path.parent / CANARY)] * CLASSES, object)
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    members[f"{BIAS}.npy"] = file.getvalue()


def _twice(path, sound):
    shutil.copy(sound, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"resnet/{BIAS}.npy", npy(np.ones(CLASSES, "f4")))


def cut(parts):
    """The first parts in ten of a file."""

    def write(path, sound):
        content = pathlib.Path(sound).read_bytes()
        path.write_bytes(content[: len(content) * parts // 10])

    return write


def of_bytes(content):
    return lambda path, sound: path.write_bytes(content)


def as_pickle(path, sound):
    path.write_bytes(pickle.dumps(Touch(path.parent / CANARY)))


NPZ = {
    "sound.npz": Weights(_npz(lambda members, path: None), ""),
    "pickles.npz": Weights(_npz(_pickled), "is an array of pickled objects, and pickles can"),
    "pickle_member.npz": Weights(
        _npz(lambda m, path: m.update({"x.pkl": pickle.dumps(Touch(path.parent / CANARY))})),
        "holds x.pkl, which is not a numpy array",
    ),
    "pickle.npz": Weights(as_pickle, "is a pickle, and pickles can execute code"),
    "whole_numbers.npz": Weights(_array(np.ones(CLASSES, "i4")), "has dtype int32: expected float"),
    "texts.npz": Weights(_array(np.array(["a"] * CLASSES)), "has dtype <U1: expected float"),
    "complex.npz": Weights(_array(np.ones(CLASSES, "c8")), "has dtype complex64: expected float"),
    "records.npz": Weights(_array(np.ones(CLASSES, "f4,f4")), "expected float"),
    "half.npz": Weights(_array(np.ones(CLASSES, "f2")), ""),
    "double.npz": Weights(_array(np.ones(CLASSES, ">f8")), ""),
    "nan.npz": Weights(_array(np.array([1, np.nan, 2], "f4")), "numbers that are not finite"),
    "infinite.npz": Weights(_array(np.array([1, -np.inf, 2], "f4")), "numbers that are not finite"),
    "other_shape.npz": Weights(_array(np.ones(CLASSES + 1, "f4")), "does not fit the model"),
    "missing.npz": Weights(_npz(lambda m, path: m.pop(f"{BIAS}.npy")), "does not fit the model"),
    "left_over.npz": Weights(
        _npz(lambda m, path: m.update({"x.npy": npy(np.ones(3, "f4"))})), "does not fit the model"
    ),
    "huge_shape.npz": Weights(_header((10**12,)), "damaged .*length that does not match its shape"),
    "negative_shape.npz": Weights(_header((-1,)), "damaged"),
    "endless_shape.npz": Weights(_header((10**30, 10**30)), "damaged"),
    "nothing_huge.npz": Weights(_header((0, 10**18)), "damaged|fit the model"),
    "same_name.npz": Weights(
        _npz(lambda m, path: m.update({f"resnet/{BIAS}.npy": m[f"{BIAS}.npy"]})),
        "holds two arrays for head/conv2d/bias",
    ),
    "same_member.npz": Weights(_twice, "holds two arrays for head/conv2d/bias"),
    "bomb.npz": Weights(
        _npz(
            lambda m, path: m.update({f"{BIAS}.npy": npy(np.zeros(20_000_000, "f4"))}),
            zipfile.ZIP_DEFLATED,
        ),
        "would unpack to",
    ),
    "path.npz": Weights(
        _npz(lambda m, path: m.update({f"../{CANARY}.npy": npy(np.ones(3, "f4"))})),
        "does not fit the model",
    ),
    "empty.npz": Weights(of_bytes(b""), "is empty"),
    "page.npz": Weights(of_bytes(b"<html>Not found</html>"), "is a web page"),
    "text.npz": Weights(of_bytes(b"no weights"), "is not an .npz archive"),
    **{f"cut{n}.npz": Weights(cut(n), "damaged|empty") for n in (1, 5, 9)},
}


def _safetensors(change):
    """Files with another header, which `change` alters as JSON."""

    def write(path, sound):
        content = pathlib.Path(sound).read_bytes()
        stop = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:stop])
        text = json.dumps(change(header) or header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[stop:])

    return write


_FC = "classifier.1.bias"


def _not_finite(path, sound):
    content = bytearray(pathlib.Path(sound).read_bytes())
    content[-4:] = np.array(np.nan, "<f4").tobytes()
    path.write_bytes(content)


SAFETENSORS = {
    "sound.safetensors": Weights(_safetensors(lambda header: None), ""),
    "nan.safetensors": Weights(_not_finite, "numbers that are not finite"),
    "dtype.safetensors": Weights(_safetensors(lambda h: h[_FC].update(dtype="I32")), "dtype I32"),
    "no_dtype.safetensors": Weights(_safetensors(lambda h: h[_FC].update(dtype="X")), "damaged"),
    "shape.safetensors": Weights(_safetensors(lambda h: h[_FC].update(shape=[10**12])), "damaged"),
    "offsets.safetensors": Weights(
        _safetensors(lambda h: h[_FC].update(data_offsets=[0, 10**15])), "damaged"
    ),
    "overlap.safetensors": Weights(
        _safetensors(lambda h: h["bit.norm.bias"].update(data_offsets=h[_FC]["data_offsets"])),
        "damaged",
    ),
    "list.safetensors": Weights(_safetensors(lambda h: [1]), "damaged"),
    "others.safetensors": Weights(
        _safetensors(lambda h: {k if k[0] == "_" else f"x{k}": v for k, v in h.items()}),
        "is not a BiT of timm",
    ),
    "header.safetensors": Weights(of_bytes((10**18).to_bytes(8, "little") + b"{}"), "damaged"),
    "nested.safetensors": Weights(
        of_bytes((100_000).to_bytes(8, "little") + b"[" * 100_000), "damaged"
    ),
    "pickle.safetensors": Weights(as_pickle, "damaged"),
    "empty.safetensors": Weights(of_bytes(b""), "damaged"),
    **{f"cut{n}.safetensors": Weights(cut(n), "damaged") for n in (1, 5, 9)},
}
