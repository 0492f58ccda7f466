"""What a run's losses say of its length and its rate, in one sentence."""

import math
from collections.abc import Sequence
from statistics import fmean

_STILL_LEARNING = 0.1  # of the loss of guessing: above it, training images were not learned
_BY_HEART = 0.5  # the same of the test loss, where they were


def advice(settings: dict, history: Sequence[dict]) -> str | None:
    """Says of a fine-tuning whether it ended too early, or learned its images by heart.

    Only a softmax without mixed images and teacher is judged: other losses have no known floor.

    Args:
        settings: The run's `config.json`.
        history: The lines of its `metrics.jsonl`.

    Returns:
        A sentence with the one change to try, or None if there is nothing to say.
    """
    rule = settings.get("rule")
    if not rule or settings["loss"] != "softmax" or "teacher" in settings:
        return None
    if rule["mixup_alpha"] or rule.get("cutmix_alpha"):  # no cutmix_alpha is none
        return None
    late = [x["loss"] for x in history if "loss" in x and x["step"] > 0.9 * rule["steps"]]
    tested = [line["test_loss"] for line in history if "test_loss" in line]
    if not late:
        return None
    guessing = math.log(len(settings["class_names"]))
    trained = fmean(late)
    if trained > _STILL_LEARNING * guessing:
        change = "--base_lr=0.03" if rule["base_lr"] < 0.03 else f"--steps={3 * rule['steps']}"
        return (
            f"The training loss was still {trained:.2g} at the end, where guessing has "
            f"{guessing:.2g}: the model had not finished learning; try {change}."
        )
    if tested and tested[-1] > _BY_HEART * guessing:
        return (
            f"The training loss ended at {trained:.2g} and the test loss at {tested[-1]:.2g}: the "
            "training images were learned by heart; try more images, or a larger model (--model)."
        )
    return None
