"""Base of all file formats: arrays by canonical name, read on demand.

A canonical name is the path of the variable that the array belongs to
(`block1/unit01/a/standardized_conv2d/kernel`). Published files put it behind `resnet/`, and some
number their convolutions (`standardized_conv2d_7`).
"""

import contextlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from .matching import CheckpointError

PREFIX = "resnet/"


class Checkpoint(Mapping[str, np.ndarray]):
    """The arrays of a file by canonical name.

    Indexing reads a new float32 array, and raises `CheckpointError` if the file is damaged or the
    array holds NaN or infinity. The file stays open as long as this object exists.

    Attributes:
        shapes: The shape of every array, known without reading any.
    """

    def __init__(
        self,
        shapes: dict[str, tuple[int, ...]],
        read: Callable[[str], np.ndarray],
        source: str | os.PathLike,
    ):
        self.shapes = shapes
        self._read = read
        self._source = source

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.shapes:
            raise KeyError(name)
        array = self._read(name)
        check_finite(array, name, self._source)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def check_finite(array: np.ndarray, name: str, source: str | os.PathLike) -> None:
    """Raises `CheckpointError` if an array of weights holds NaN or infinity."""
    # Two passes without a copy; NaN passes through both.
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise CheckpointError(
            f"{name} in {source} holds numbers that are not finite, as a training leaves that "
            "diverged: take weights of an earlier step, or train at a lower rate"
        )


def canonical(name: str) -> str:
    """Returns the canonical name for the published spelling of it."""
    name = name.removeprefix(PREFIX)
    return re.sub(r"/standardized_conv2d_\d+/", "/standardized_conv2d/", name)


def require_interop() -> None:
    """Raises `CheckpointError` if a package for the weights of timm and transformers is missing."""
    for package in ("safetensors", "huggingface_hub"):
        if importlib.util.find_spec(package) is None:
            raise CheckpointError(
                f"{package} is needed for the weights of timm and transformers and is not "
                'installed: pip install "bit-keras[interop]"'
            )


def brief(error: BaseException) -> str:
    """Returns what an error says as one line of at most 300 characters, or else its type."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextlib.contextmanager
def damage_as_error(path: str | os.PathLike) -> Iterator[None]:
    """Turns whatever the reader of a damaged file raises into `CheckpointError`."""
    try:
        yield
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # a damaged file can raise almost any exception
        raise CheckpointError(
            f"{path} is damaged or was cut short ({brief(error)}): delete it and load again"
        ) from error
