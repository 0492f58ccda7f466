"""How an export gets to its place: written beside it, compared, and only then moved."""

import contextlib
import ctypes
import gc
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator

from ..checkpoints import CheckpointError
from ..files import move_file
from ..models.spec_files import BESIDE
from .errors import ExportError, reason


def put_in_place(
    path: pathlib.Path,
    write_and_compare: Callable[[pathlib.Path], dict],
    verdict: Callable[[dict], str],
) -> dict:
    """Writes an export, and moves it and its proof to `path` if the proof says that it passed.

    Args:
        path: A file or folder; what was there is replaced at the end.
        write_and_compare: Writes the export to the path that it is given, and returns the content
            of `PATH.proof.json`, with `passed`.
        verdict: Says in words what a proof has found; it is printed.

    Returns:
        The proof.

    Raises:
        ExportError: If the proof has not passed, or nothing can be written; `path` is then as it
            was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that the last step is a rename.
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            written, report = pathlib.Path(folder) / path.name, pathlib.Path(folder) / "proof.json"
            proof = write_and_compare(written)
            if not proof["passed"]:
                raise ExportError(f"{verdict(proof)}; nothing was written to {path}.")
            report.write_text(json.dumps(proof, indent=2) + "\n")
            _replace(written, path)
            facts = written.with_name(path.name + BESIDE)
            if facts.exists():
                move_file(facts, f"{path}{BESIDE}")
            move_file(report, f"{path}.proof.json")
    except OSError as error:
        raise ExportError(
            f"cannot write {path} ({reason(error)}); nothing there was changed, so make room or "
            "choose another place."
        ) from error
    print(f"{path}: {verdict(proof)}")
    return proof


@contextlib.contextmanager
def described(model_name: str, format: str) -> Iterator[None]:
    """Turns what converters and runtimes raise, which can be anything, into ExportError."""
    try:
        yield
    except (ExportError, CheckpointError, OSError):
        raise
    except Exception as error:
        raise ExportError(
            f"{model_name!r} cannot be exported as {format} ({reason(error)}); nothing was written."
        ) from error


def give_memory_back() -> None:
    """Frees what converters left behind, some of it up to twice the model's size."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # where the C library is not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _replace(written, path):
    """Renames a file or folder to `path`; an old folder there is put back if that fails."""
    if not path.is_dir():
        os.replace(written, path)
        return
    old = written.with_name("old")  # deleted with the temporary folder
    os.replace(path, old)
    try:
        os.replace(written, path)
    except OSError:
        os.replace(old, path)
        raise
