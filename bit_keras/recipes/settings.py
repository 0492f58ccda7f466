"""What the settings of both recipes share: their checks, and how long a teacher makes a run."""

import math
from typing import Any

PATIENCE = 10  # with a teacher, a recipe's steps or epochs are multiplied by this


def check_settings(settings: Any, **least: float) -> None:
    """Raises ValueError if a setting is below its least value, or `base_lr` is not above 0."""
    for field, value in least.items():
        if not value <= getattr(settings, field) < math.inf:
            raise ValueError(f"{field} must be {value} or more, got {getattr(settings, field)!r}.")
    if not 0 < settings.base_lr < math.inf:
        raise ValueError(f"base_lr must be a number above 0, got {settings.base_lr!r}.")


def check_step(step: int, steps: int) -> None:
    """Raises ValueError if a step is not one of the first `steps`, counted from 0."""
    if not 0 <= step < steps:
        raise ValueError(f"step must be from 0 to {steps - 1}, got {step!r}.")
