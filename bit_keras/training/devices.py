"""Where a run computes, and in what precision."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from ..choices import PRECISIONS
from .strategies import is_chief, make_strategy

# As Linux names the instructions of Intel, AMD and Arm processors; one of them is enough.
_INSTRUCTIONS = {
    "mixed_bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "mixed_float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}


@dataclasses.dataclass(frozen=True)
class Devices:
    """A strategy, which may be given by name, and one of `PRECISIONS`; ValueError for others."""

    strategy: str | tf.distribute.Strategy = "auto"
    precision: str = "float32"

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}."
            )
        if isinstance(self.strategy, str):
            object.__setattr__(self, "strategy", make_strategy(self.strategy))

    @property
    def replicas(self) -> int:
        return self.strategy.num_replicas_in_sync

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run's folder."""
        return is_chief(self.strategy)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Models and optimizers made inside live on these devices, in this precision."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.precision)
        try:
            with self.strategy.scope():
                yield
        finally:
            keras.config.set_dtype_policy(before)

    def warn_of_slow_precision(self) -> None:
        """Warns of a precision that only saves memory here: the processor computes in another."""
        if self.precision == "float32" or not all(
            device.device_type == "CPU" for device in tf.config.list_logical_devices()
        ):
            return
        flags = _processor_flags()
        if flags and not flags & _INSTRUCTIONS[self.precision]:
            logging.getLogger(__name__).warning(
                f"{self.precision} saves memory here, and is slower than float32: this processor "
                "has no instructions for it."
            )

    def check_batch(self, batch: int, batch_split: int | str) -> None:
        """Raises ValueError unless replicas times pieces ("auto" or a number) divide the batch."""
        pieces = 1 if batch_split == "auto" else batch_split
        if not (isinstance(pieces, int) and pieces >= 1):
            raise ValueError(f'batch_split must be "auto", or 1 or more, got {pieces!r}.')
        if batch % (self.replicas * pieces):
            raise ValueError(
                f"batch_split times {self.replicas} replicas must divide the batch of {batch} "
                f"images, got {pieces!r}."
            )


def _processor_flags():
    """The names of this processor's instruction sets; none where the system does not tell."""
    file = pathlib.Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    words = (line.partition(":")[2].split() for line in lines if line[:5] in ("flags", "Featu"))
    return {*next(words, ())}
