"""Where a run computes, and in what precision."""

import contextlib
import dataclasses
from collections.abc import Iterator

import keras
import tensorflow as tf

from ..choices import PRECISIONS
from .strategies import is_chief, make_strategy


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
