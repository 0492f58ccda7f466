"""The learning rate of both recipes: linear warm-up, then tenfold decays."""

from collections.abc import Iterable

import keras

_register = keras.saving.register_keras_serializable


@_register("bit_keras")
@_register("bit_keras", "UpstreamSchedule")  # its name in files of older versions
class PiecewiseSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly from 0, and is divided by ten at every decay step.

    Warm-up and decays multiply. `schedule(step)` is a float32 tensor, for an optimizer;
    `schedule.rate(step)` is the same rate in Python.

    Args:
        base_lr: The highest learning rate.
        warmup_steps: The rate reaches `base_lr` at this step; 0 for no warm-up.
        decay_steps: The first step of each lower rate.
    """

    def __init__(self, base_lr: float, warmup_steps: int, decay_steps: Iterable[int]):
        self.base_lr = base_lr
        self.warmup_steps = warmup_steps
        self.decay_steps = tuple(decay_steps)
        self._rates = [base_lr]
        for _ in self.decay_steps:
            self._rates.append(self._rates[-1] / 10)

    @classmethod
    def decaying_after(
        cls, base_lr: float, warmup_steps: int, decay_steps: Iterable[int]
    ) -> "PiecewiseSchedule":
        """Returns HyperRule's: the last step of each higher rate is given, and none is in warm-up.

        A decay step during the warm-up counts from the end of the warm-up on.
        """
        return cls(base_lr, warmup_steps, [max(step + 1, warmup_steps) for step in decay_steps])

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        rate = self._rates[sum(step >= decay for decay in self.decay_steps)]
        return rate * step / self.warmup_steps if step < self.warmup_steps else rate

    def __call__(self, step):
        # Steps are compared as integers: float32 cannot tell them apart above 16.7 million.
        step = keras.ops.convert_to_tensor(step)
        decays = sum(
            (keras.ops.cast(step >= decay, "int32") for decay in self.decay_steps),
            start=keras.ops.zeros((), "int32"),
        )
        rate = keras.ops.take(keras.ops.convert_to_tensor(self._rates, "float32"), decays)
        if not self.warmup_steps:
            return rate
        warmup = rate * keras.ops.cast(step, "float32") / self.warmup_steps
        return keras.ops.where(step < self.warmup_steps, warmup, rate)

    def get_config(self):
        return {
            "base_lr": self.base_lr,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
        }


@_register("bit_keras", "Schedule")
class _HyperRuleSchedule(PiecewiseSchedule):
    """Reads files of older versions, where HyperRule's decay steps were not yet shifted by one."""

    @classmethod
    def from_config(cls, config):
        return PiecewiseSchedule.decaying_after(**config)
