import math
import re

import pytest

from bit_keras.classification.advice import advice

RULE = {"steps": 100, "base_lr": 0.003, "mixup_alpha": 0.0}
SETTINGS = {"loss": "softmax", "class_names": list("0123456789"), "rule": RULE}


def history(trained, tested=None):
    lines = [{"step": step, "loss": 2.0 if step < 90 else trained} for step in range(10, 101, 10)]
    return lines + ([] if tested is None else [{"step": 100, "test_loss": tested}])


@pytest.mark.parametrize(
    ("trained", "tested", "said"),
    [
        (0.41, 0.5, "The training loss was still 0.41 at the end, .* try --base_lr=0.03"),
        (0.41, None, "still 0.41"),
        (0.05, 0.3, None),
        (0.01, 1.5, "ended at 0.01 and the test loss at 1.5: .* learned by heart; try more images"),
        (math.nan, None, None),
    ],
)
def test_losses_tell_what_to_try(trained, tested, said):
    found = advice(SETTINGS, history(trained, tested))
    if said is None:
        assert found is None
    else:
        assert re.search(said, found)


def test_a_rate_that_is_high_already_is_not_raised():
    settings = {**SETTINGS, "rule": {**RULE, "base_lr": 0.03}}
    assert "try --steps=300" in advice(settings, history(0.5))


@pytest.mark.parametrize(
    "changes",
    [
        *({"loss": "sigmoid"}, {"teacher": {}}, {"rule": None}),
        *({"rule": {**RULE, "mixup_alpha": 0.1}}, {"rule": {**RULE, "cutmix_alpha": 1.0}}),
    ],
)
def test_other_losses_are_not_judged(changes):
    assert advice({**SETTINGS, **changes}, history(0.5)) is None
