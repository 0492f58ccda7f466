"""The published file format: a .npz archive with one array for each variable."""

import math
import os
import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np

from ..files import replacing
from .archives import check_unpacked_size
from .checkpoint import PREFIX, Checkpoint, canonical, damage_as_error
from .matching import CheckpointError

_PICKLES = "pickles can execute code and are never read"


def open_npz(path: str | os.PathLike) -> Checkpoint:
    """Opens a BiT checkpoint in the published format, with or without the `resnet/` prefix.

    Reads the archive's directory and the header of every array, but no array. Nothing in the file
    is unpickled or executed. Raises CheckpointError if the file is not a complete .npz archive of
    floating point arrays, or two of its arrays have the same canonical name.
    """
    path = pathlib.Path(path)
    _check_is_zip(path)
    members, shapes = {}, {}
    with damage_as_error(path):
        archive = zipfile.ZipFile(path)
        check_unpacked_size(archive, path)
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                raise CheckpointError(
                    f"{path} holds {member.filename}, which is not a numpy array: expected the "
                    f".npz archive of a BiT model ({_PICKLES})"
                )
            name = canonical(member.filename.removesuffix(".npy"))
            if name in members:
                raise CheckpointError(
                    f"{path} holds two arrays for {name}, {members[name].filename} and "
                    f"{member.filename}: expected one, so remove the other"
                )
            members[name] = member
            shapes[name] = _read_shape(archive, member, path)

    def read(name):
        with damage_as_error(path), archive.open(members[name]) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        return array.astype(np.float32, copy=False)

    return Checkpoint(shapes, read, path)


def save_npz(
    path: str | os.PathLike, arrays: Mapping[str, np.ndarray], *, compressed: bool = False
) -> None:
    """Writes arrays to a .npz file that every reader of the published BiT checkpoints can read.

    The file is written atomically, and equal arrays give equal bytes.

    Args:
        path: The file, which is replaced if it exists.
        arrays: float16, float32 or float64 arrays by canonical name, kept in their dtype. They
            are taken one at a time, so a lazy mapping is never held in memory as a whole.
        compressed: Deflate the arrays, which for trained weights saves little and reads slowly.

    Raises:
        CheckpointError: If a name is not canonical or a dtype is not one of the three.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "x") as archive:
        for name in sorted(arrays):
            _write_array(archive, name, np.asarray(arrays[name], order="C"), compressed)


def _check_is_zip(path):
    with open(path, "rb") as file:
        start = file.read(512)
    if start.startswith(b"PK"):
        return
    if not start:
        problem = "is empty: delete it and load again"
    elif start.startswith(b"\x80"):  # Every pickle since protocol 2 starts with this opcode.
        problem = f"is a pickle, and {_PICKLES}: save its arrays to a .npz archive"
    elif start.lstrip().startswith(b"<"):
        problem = "is a web page instead of a .npz archive: delete it and load again"
    else:
        problem = "is not an .npz archive: download or export it again"
    raise CheckpointError(f"{path} {problem}")


def _read_shape(archive, member, path):
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        # Version 3 differs from 2 only in the encoding of field names, which floats do not have.
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        header_bytes = file.tell()
    _check_dtype(member.filename, dtype, path)
    if member.file_size != header_bytes + math.prod(shape) * dtype.itemsize:
        raise zipfile.BadZipFile(f"{member.filename} has a length that does not match its shape")
    return shape


def _write_array(archive, name, array, compressed):
    if canonical(name) != name:
        raise CheckpointError(f"cannot save {name}: its canonical name is {canonical(name)}")
    _check_dtype(name, array.dtype, archive.filename)
    member = zipfile.ZipInfo(f"{PREFIX}{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with archive.open(member, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def _check_dtype(name, dtype, path):
    if dtype.hasobject:
        raise CheckpointError(f"{name} in {path} is an array of pickled objects, and {_PICKLES}")
    if dtype.str[1:] not in ("f2", "f4", "f8"):
        raise CheckpointError(
            f"{name} in {path} has dtype {dtype}: expected float16, float32 or float64, "
            "so convert it before saving"
        )
