"""Models in `.keras` files, which describe a network in one member and hold its weights in another.

What is described is compared with what is held before any of it takes memory or time.
"""

import contextlib
import io
import json
import os
import pathlib
import threading
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..checkpoints import (
    CheckpointError,
    brief,
    check_finite,
    check_unpacked_size,
    first_few,
)

if TYPE_CHECKING:
    import keras

_CONFIGURATION, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {"metadata.json", _CONFIGURATION, _WEIGHTS}
# Layers that run code or a graph of a file, and types of any module; and where functions may be of.
_RUNNING = {"Lambda", "__lambda__", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper"}
_RUNNING |= {"__typespec__"}
_FUNCTIONS = ("activations", "constraints", "initializers", "losses", "metrics", "ops")
_FUNCTIONS = {f"keras.{name}" for name in (*_FUNCTIONS, "regularizers")}
_ARRAYS_OF_A_UNIT = 9
_SPARE = 1 << 28  # bytes, for other threads while the memory is limited
_LIMITING = threading.Lock()
_SLACK = 1 << 20  # bytes of variables that are in no file, such as the states of random numbers


def load_keras(path: str | os.PathLike) -> "keras.Model":
    """Loads a `.keras` file, without its optimizer; layers that run code of the file are refused.

    Raises CheckpointError if it cannot be read, describes more weights than it holds, or its
    weights are not finite.
    """
    import keras

    count, held = _read(path, _weights_held)
    configuration = _read(path, _configuration)
    _check_described(configuration, count, path)
    tensorflow = keras.backend.backend() == "tensorflow"  # elsewhere variables cannot be counted
    with _at_most(held, path) if tensorflow else contextlib.nullcontext():
        model = _read(path, lambda file: keras.saving.load_model(file, compile=False))
    if not isinstance(model, keras.Model):
        raise CheckpointError(f"{path} holds a {type(model).__name__}: expected a Keras model.")
    for variable in model.variables:
        check_finite(variable.numpy(), variable.path, path)
    return model


def _read(path, reader):
    try:
        return reader(path)
    except CheckpointError:
        raise
    except Exception as error:  # Keras and HDF5 raise whatever they meet in a damaged file
        raise CheckpointError(
            f"cannot read {path} as a Keras model ({brief(error)}); "
            "expected a file written by bit_keras.export(model, path, format='keras')."
        ) from error


def _weights_held(path):
    """Returns (number of arrays, their bytes), from the headers of a file."""
    import h5py

    found = []
    with zipfile.ZipFile(path) as archive:
        check_unpacked_size(archive, path)
        names = {*archive.namelist()}
        if _WEIGHTS not in names:
            raise CheckpointError(f"{path} holds no {_WEIGHTS}: save the model once more.")
        if names - _MEMBERS:  # Keras would write files of layers of text to the disk
            raise CheckpointError(
                f"{path} holds {first_few(sorted(names - _MEMBERS))}, which no model of images "
                "has: give a file that bit_keras.export or keras.Model.save wrote."
            )
        weights = archive.read(_WEIGHTS)

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found.append(item.nbytes)
            held = item.id.get_storage_size() >= item.nbytes and sum(found) <= len(weights)
            if item.external or item.is_virtual or not held:
                raise CheckpointError(
                    f"{path} does not hold all of {name} of shape {item.shape}: it is damaged, or "
                    "not written by Keras."
                )

    with _little_memory(2 * len(weights)), h5py.File(io.BytesIO(weights)) as file:
        file.visititems(visit)
    return len(found), sum(found)


@contextlib.contextmanager
def _little_memory(size):
    """Lets the process take little more than so many bytes, where the system can limit it.

    HDF5 takes as much memory as a damaged header tells, up to gigabytes; refused, it raises.
    """
    try:
        import resource

        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):  # Linux alone both tells and limits it
        yield
        return
    with _LIMITING:
        before, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = pages * resource.getpagesize() + size + _SPARE
        if before == resource.RLIM_INFINITY or most < before:
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _configuration(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(_CONFIGURATION))


def _check_described(configuration, arrays, path):
    """Checks that nothing runs code, and the units of blocks, which take time before variables."""
    waiting = [configuration]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
            kind, module = str(part.get("class_name")), str(part.get("module"))
            foreign = module.startswith("keras") and module not in _FUNCTIONS
            if kind in _RUNNING or (kind == "function" and foreign):
                name = part.get("config") if kind == "function" else kind
                raise CheckpointError(
                    f"{path} holds {name!r:.40}, which can run code that comes with a file: give a "
                    "model without it."
                )
            if not {"units", "filters", "stride"} <= part.keys():
                continue
            units = part["units"]
            if not isinstance(units, int) or not 0 < units * _ARRAYS_OF_A_UNIT <= arrays:
                raise CheckpointError(
                    f"{path} describes a block of {units!r:.20} units and holds {arrays} arrays: "
                    "it is damaged, so get it again."
                )


@contextlib.contextmanager
def _at_most(held: int, path: str | os.PathLike) -> Iterator[None]:
    """Raises CheckpointError before variables are made that take more bytes than a file holds."""
    import tensorflow as tf

    made, problems = 0, []

    def create(make: Any, **options: Any) -> tf.Variable:
        nonlocal made
        if callable(value := options.get("initial_value")):
            with tf.Graph().as_default():  # which computes nothing, and tells the shape
                value = tf.convert_to_tensor(value())
            made += (value.shape.num_elements() or 0) * value.dtype.size
            if made > held + _SLACK:
                problems.append(
                    CheckpointError(
                        f"{path} describes {made:,} bytes of weights or more and holds {held:,}: "
                        "it is damaged, so get it again."
                    )
                )
                raise problems[0]
        return make(**options)

    with tf.variable_creator_scope(create):
        try:
            yield
        except CheckpointError as error:
            raise problems[0] if problems else error from None
