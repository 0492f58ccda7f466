"""What the settings of both recipes share: their checks, and how long a teacher makes a run."""

import numbers
from typing import Any

PATIENCE = 10  # with a teacher, a recipe's steps or epochs are multiplied by this
LARGEST_SIDE = 16_384  # of images in pixels; one of that side takes 3 GiB
LARGEST_BATCH = 131_072  # images a step

_WHOLE = ("steps", "batch", "warmup_steps", "crop", "resize", "test_resize", "size")
_MOST = {
    "batch": LARGEST_BATCH,
    "base_lr": 3.4e38,  # the largest float32
    **dict.fromkeys(("crop", "resize", "test_resize", "size"), LARGEST_SIDE),
    **dict.fromkeys(("mixup_alpha", "cutmix_alpha"), 1_000),  # where mixtures are halves already
}
_MOST_STEPS = 2**31 - 1


def check_settings(settings: Any, **least: float) -> None:
    """Raises ValueError unless settings are finite numbers within their bounds.

    Args:
        settings: A recipe; its `base_lr` must be above 0.
        **least: The least value of settings by name. The largest are those of this module.
    """
    for field, value in least.items():
        check_number(field, getattr(settings, field), value)
    if not (isinstance(settings.base_lr, numbers.Real) and settings.base_lr > 0):
        raise ValueError(f"base_lr must be a number above 0, got {settings.base_lr!r}.")
    check_number("base_lr", settings.base_lr, 0)


def check_number(field: str, value: Any, least: float) -> None:
    """Raises ValueError unless a setting is a number, from its least to its largest value."""
    whole, most = field in _WHOLE, _MOST.get(field, _MOST_STEPS)
    if not isinstance(value, numbers.Integral if whole else numbers.Real) or value != value:
        raise ValueError(f"{field} must be a {'whole ' * whole}number, got {value!r}.")
    if value < least:
        raise ValueError(f"{field} must be {least} or more, got {value!r}.")
    if value > most:
        raise ValueError(f"{field} must be {most:,} or less, got {value!r}.")


def check_step(step: int, steps: int) -> None:
    """Raises ValueError if a step is not one of the first `steps`, counted from 0."""
    if not 0 <= step < steps:
        raise ValueError(f"step must be from 0 to {steps - 1}, got {step!r}.")
