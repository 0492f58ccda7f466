"""Atomic writes, locks, the cache, and whether it may be filled: the package's only ones."""

import contextlib
import json
import logging
import os
import pathlib
import secrets
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Any

_POLL = 0.2  # seconds between two tries for a lock

try:
    import fcntl

    def _lock_now(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
except ImportError:  # Windows
    import msvcrt

    def _lock_now(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)


def cache_dir() -> pathlib.Path:
    """Returns the folder of what is kept: `$BIT_KERAS_CACHE`, or else `~/.cache/bit_keras`."""
    return pathlib.Path(expanded(os.environ.get("BIT_KERAS_CACHE") or "~/.cache/bit_keras"))


def offline() -> bool:
    """Whether `$BIT_KERAS_OFFLINE` forbids the network: any value but 0."""
    return os.environ.get("BIT_KERAS_OFFLINE", "0") not in ("", "0")


def forbidden(what: str) -> str:
    """Returns why something is not fetched while `offline`, and what to do."""
    return (
        f"{what} would have to be fetched, and BIT_KERAS_OFFLINE forbids it: unset that variable, "
        "or copy what is needed from the cache of another machine"
    )


def expanded(path: str | os.PathLike) -> str:
    """Returns a path that a user gave with `~` and environment variables replaced.

    A shell does it for `--flag ~/photos`, and not for `--flag=~/photos`.
    """
    path = os.path.expandvars(os.fspath(path))
    try:
        return os.path.expanduser(path)
    except ValueError:  # a user whose name has a null byte
        return path


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, suffix: str = ".tmp") -> Iterator[pathlib.Path]:
    """Gives a temporary path to write to, which takes the place of `path` when the block ends.

    Readers find the old file or the whole new one, even after a crash or a loss of power. An error
    inside the block leaves the old file as it was, and no temporary file. Only a process that is
    killed leaves its temporary file behind.

    Args:
        path: The file to replace or to make. Its folder must exist.
        suffix: End of the temporary path, for writers that choose their format by it.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")
    try:
        yield temporary
        move_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def move_file(written: str | os.PathLike, path: str | os.PathLike) -> None:
    """Moves a complete file over another one in the same folder, and syncs both to the disk."""
    with open(written, "rb+") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())
    os.replace(written, path)
    if hasattr(os, "O_DIRECTORY"):  # where folders can be opened
        with contextlib.suppress(OSError):  # not every file system can sync a folder
            folder = os.open(pathlib.Path(path).parent, os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file atomically; its folder must exist."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike, text: str, *, errors: str = "strict") -> None:
    """Writes a UTF-8 file atomically; `errors` is that of `str.encode`."""
    write_bytes(path, text.encode(errors=errors))


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a JSON file atomically; raises ValueError for NaN and infinity, which JSON lacks."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def replace_file(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file that the user named, atomically, and the folders above it.

    Raises ValueError, and leaves an existing file as it was, if it cannot be written.
    """
    path = pathlib.Path(expanded(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise ValueError(
            f"cannot write {path} ({error.strerror or error}); make room or choose another place."
        ) from error


def check_new_folder(path: str | os.PathLike) -> None:
    """Raises ValueError if there is something at a path where a new folder is to be."""
    path = pathlib.Path(expanded(path))
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} holds other files; give a new folder, or an empty one.")


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary folder to write to, which becomes `path` when the block ends.

    Folders above it are made. Raises ValueError, and leaves nothing, if there is something already
    or it cannot be written; an error inside the block leaves nothing either.
    """
    path = pathlib.Path(expanded(path))
    check_new_folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as around:
            written = pathlib.Path(around, path.name)
            written.mkdir()
            yield written
            if path.exists():  # empty; Windows cannot rename over it
                path.rmdir()
            written.rename(path)
    except OSError as error:
        raise ValueError(
            f"cannot write {path} ({error.strerror or error}); make room or choose another place."
        ) from error


def try_lock(file: IO) -> bool:
    """Locks an open file until it is closed; returns False if another process holds the lock.

    The lock ends with the process too. It is advisory: it keeps out only those who ask for it.
    """
    try:
        _lock_now(file.fileno())
    except (BlockingIOError, PermissionError):  # taken, on POSIX and on Windows
        return False
    return True


@contextlib.contextmanager
def lock(path: str | os.PathLike, message: str) -> Iterator[None]:
    """Holds a lock file during a block, after waiting until no other process holds it.

    Args:
        path: The lock file, made if it is missing and never deleted.
        message: Logged as a warning, once, if it has to wait.
    """
    with open(path, "ab") as file:
        if not try_lock(file):
            logging.getLogger(__name__).warning(message)
            while not try_lock(file):
                time.sleep(_POLL)
        yield
