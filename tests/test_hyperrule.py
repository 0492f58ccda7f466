import numpy as np
import pytest

from bit_keras import HyperRule

# (steps, end of warm-up, boundaries) of the released code, by number of examples.
RELEASED = {
    1: (500, 100, (200, 300, 400)),
    19_999: (500, 100, (200, 300, 400)),
    20_000: (10_000, 500, (3_000, 6_000, 9_000)),
    499_999: (10_000, 500, (3_000, 6_000, 9_000)),
    500_000: (20_000, 500, (6_000, 12_000, 18_000)),
    1_281_167: (20_000, 500, (6_000, 12_000, 18_000)),
}


@pytest.mark.parametrize("num_examples", RELEASED)
def test_release_has_the_reference_codes_rate_at_every_step(num_examples):
    steps, warmup, (first, second, third) = RELEASED[num_examples]
    rule = HyperRule.release(num_examples, (224, 224))
    assert rule.steps == steps
    expected = [0.003 * step / warmup for step in range(warmup)]
    expected += [0.003] * (first + 1 - warmup)  # the boundary itself still has the higher rate
    expected += [0.003 / 10] * (second - first)
    expected += [0.003 / 10 / 10] * (third - second)
    expected += [0.003 / 10 / 10 / 10] * (steps - third - 1)
    assert [rule.learning_rate(step) for step in range(steps)] == expected


@pytest.mark.parametrize("variant", [HyperRule.release, HyperRule.paper])
@pytest.mark.parametrize("num_examples", [100, 50_000])
def test_the_keras_schedule_is_the_same_rate(variant, num_examples):
    rule = variant(num_examples, (32, 32))
    schedule = rule.schedule()
    twin = type(schedule).from_config(schedule.get_config())
    expected = [rule.learning_rate(step) for step in range(rule.steps)]
    np.testing.assert_allclose(schedule(np.arange(rule.steps)), expected, rtol=1e-6)
    np.testing.assert_array_equal(twin(np.arange(rule.steps)), schedule(np.arange(rule.steps)))
    edges = [e + d for e in (0, 100, rule.warmup_steps, *rule.decay_steps) for d in (-1, 0, 1)]
    for step in [e for e in edges if 0 <= e < rule.steps]:
        np.testing.assert_allclose(schedule(step), rule.learning_rate(step), rtol=1e-6)
        assert twin(step) == schedule(step)


def test_a_decay_step_in_the_warmup_counts_from_its_end():
    rule = HyperRule.release(10, (64, 64)).replace(warmup_steps=250)  # decays 200, 300, 400
    rates = {200: 0.003 * 200 / 250, 249: 0.003 * 249 / 250, 250: 0.0003, 300: 0.0003, 301: 0.00003}
    assert {step: rule.learning_rate(step) for step in rates} == pytest.approx(rates)
    schedule = rule.schedule()
    assert {step: float(schedule(step)) for step in rates} == pytest.approx(rates, rel=1e-6)


def test_resolution_follows_the_area():
    for size, expected in {
        (32, 32): (160, 128),
        (95, 96): (160, 128),
        (96, 96): (512, 480),
        (40, 400): (512, 480),
    }.items():
        rule = HyperRule.release(10, size)
        assert (rule.resize, rule.crop) == expected
    assert (HyperRule.paper(10, (96, 96)).resize, HyperRule.paper(10, (96, 97)).crop) == (160, 384)
    assert HyperRule.paper(10, (300, 300), largest_model=True).crop == 480


def test_paper_decays_at_30_60_90_percent_without_warmup():
    rule = HyperRule.paper(10, (224, 224))
    assert (rule.steps, rule.decay_steps) == (500, (150, 300, 450))
    assert rule.learning_rate(0) == 0.003


def test_mixup_is_for_medium_and_large():
    alphas = [HyperRule.release(n, (64, 64)).mixup_alpha for n in (19_999, 20_000, 600_000)]
    assert alphas == [0.0, 0.1, 0.1]


def test_a_mixture_keeps_alphas_that_are_used():
    small, large = (HyperRule.release(n, (64, 64)) for n in (10, 20_000))
    patient = small.distillation()
    alphas = {
        mix: [
            (rule.with_mix(mix).mixup_alpha, rule.with_mix(mix).cutmix_alpha)
            for rule in (small, large, patient, small.replace(cutmix_alpha=0.5))
        ]
        for mix in ("none", "mixup", "cutmix", "both")
    }
    assert alphas == {
        "none": [(0, 0)] * 4,
        "mixup": [(0.1, 0), (0.1, 0), (1, 0), (0.1, 0)],
        "cutmix": [(0, 1), (0, 1), (0, 1), (0, 0.5)],
        "both": [(0.1, 1), (0.1, 1), (1, 1), (0.1, 0.5)],
    }
    with pytest.raises(ValueError, match="mix must be one of mixup, cutmix, both, none, got 'x'"):
        small.with_mix("x")


def test_settings_without_cutmix_are_those_of_older_versions():
    rule = HyperRule.release(10, (64, 64))
    assert rule.settings() == {
        "steps": 500,
        "batch": 512,
        "base_lr": 0.003,
        "warmup_steps": 100,
        "decay_steps": (200, 300, 400),
        "resize": 160,
        "crop": 128,
        "mixup_alpha": 0.0,
    }
    assert HyperRule(**rule.settings()) == rule
    mixed = rule.with_mix("cutmix")
    assert HyperRule(**mixed.settings()) == mixed != rule


def test_scaling_to_another_batch_names_its_convention():
    rule = HyperRule.release(10, (64, 64))
    assert rule.scaled_to_batch(128, "linear").base_lr == pytest.approx(0.003 / 4)
    assert rule.scaled_to_batch(128, "sqrt").base_lr == pytest.approx(0.003 / 2)
    assert rule.scaled_to_batch(128, "sqrt").steps == rule.steps
    with pytest.raises(ValueError, match='"linear" or "sqrt"'):
        rule.scaled_to_batch(128, "cubic")


def test_another_number_of_steps_stretches_the_schedule():
    rule = HyperRule.release(10, (64, 64)).with_steps(50)
    assert (rule.steps, rule.warmup_steps, rule.decay_steps) == (50, 10, (20, 30, 40))


def test_a_teacher_is_patient_and_mixes_uniformly():
    rule = HyperRule.release(10, (64, 64)).distillation()
    assert (rule.steps, rule.warmup_steps, rule.decay_steps) == (5000, 1000, (2000, 3000, 4000))
    assert rule.mixup_alpha == 1.0
    assert rule.replace(mixup_alpha=0.0).with_steps(500) == HyperRule.release(10, (64, 64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"crop": 31}, "crop must be 32 or more"),
        ({"resize": 100}, "resize must be at least the crop"),
        ({"base_lr": 0}, "base_lr must be a number above 0"),
        ({"mixup_alpha": -1}, "mixup_alpha"),
        ({"cutmix_alpha": -1}, "cutmix_alpha must be 0 or more, got -1"),
    ],
)
def test_mistakes_are_named(changes, message):
    rule = HyperRule.release(10, (64, 64))
    with pytest.raises(ValueError, match=message):
        rule.replace(**changes)
    with pytest.raises(ValueError, match="num_examples must be 1 or more"):
        HyperRule.release(0, (64, 64))
    with pytest.raises(ValueError, match="step must be from 0 to 499"):
        rule.learning_rate(500)
