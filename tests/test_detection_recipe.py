import numpy as np
import pytest

from bit_keras.choices import DETECTORS
from bit_keras.recipes import DETECTION_RECIPES, RECIPE_OF, DetectionRecipe, detection_recipe

COCO = 118_287


def test_the_paper_s_protocol():
    r = detection_recipe("retinanet-bit")
    assert (r.epochs, r.decay_epochs, r.batch, r.base_lr) == (30, (16, 22), 256, 0.08)
    assert (r.weight_decay, r.size) == (1e-4, 1024)
    # By hand: 16 * 118,287 / 256 = 7392.9, 22 * ... = 10165.3, and 30 * ... = 13861.8.
    assert r.steps(COCO) == 13_862
    rates = {0: 0, 250: 0.04, 500: 0.08, 7_392: 0.08, 7_393: 0.008, 10_165: 0.008, 10_166: 0.0008}
    assert {s: r.learning_rate(s, COCO) for s in rates} == pytest.approx(rates)
    assert r.fitted_to(COCO) == r


@pytest.mark.parametrize(
    ("images", "batch", "epochs", "steps", "warmup", "rate"),
    [
        (16_551, 256, 31, 2_005, 200, 0.08),  # Pascal VOC 2007 and 2012; not above the paper's
        # By hand: 0.005 * sqrt(30 * 118,287 / (3,750 * 16)), and the same with the others' steps.
        (2_000, 16, 30, 3_750, 375, 0.03845),
        (300, 16, 107, 2_007, 200, 0.05256),
        (20, 16, 1_600, 2_000, 200, 0.05265),
    ],
)
def test_the_recipe_fits_small_sets(images, batch, epochs, steps, warmup, rate):
    r = detection_recipe("retinanet-bit").fitted_to(images)
    assert (r.batch, r.epochs, r.steps(images)) == (batch, epochs, steps)
    assert r.warmup_steps == warmup
    assert r.base_lr == pytest.approx(rate, rel=1e-3)
    assert [d / r.epochs for d in r.decay_epochs] == pytest.approx([16 / 30, 22 / 30])


def test_a_given_batch_scales_the_rate_and_keeps_the_steps_above_their_least():
    recipe = detection_recipe("retinanet-bit")
    r = recipe.fitted_to(1_000, batch=4)
    assert (r.batch, r.epochs, r.steps(1_000)) == (4, 30, 7_500)
    assert r.base_lr == pytest.approx(0.00125 * (118_287 / 1_000) ** 0.5)
    assert r.warmup_steps == 750
    short = recipe.fitted_to(1_000, batch=4, steps=100)
    assert (short.steps(1_000), short.warmup_steps, short.base_lr) == (100, 10, 0.08)
    assert recipe.fitted_to(11, batch=8, steps=100).steps(11) == 100  # 100 * 8 / 11 * 11 / 8 > 100
    assert recipe.fitted_to(COCO, batch=16).base_lr == pytest.approx(0.005)
    assert recipe.fitted_to(COCO, batch=512).base_lr == pytest.approx(0.16)
    with pytest.raises(ValueError, match="batch must be 1 or more, got 0"):
        detection_recipe("retinanet-bit").fitted_to(1_000, batch=0)
    with pytest.raises(ValueError, match="num_examples must be 1 or more, got 0"):
        detection_recipe("retinanet-bit").fitted_to(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 20}, r"decay_epochs must rise between 0 and the 20 epochs, got \(16, 22\)"),
        ({"size": 1000}, "size must be a multiple of 32 pixels, got 1000"),
        ({"size": 0}, "size must be 1 or more, got 0"),
        ({"clip_norm": -1}, "clip_norm must be 0 or more, got -1"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"base_lr": float("nan")}, "base_lr must be a number above 0"),
        ({"scale_jitter": (1.25, 0.8)}, "scale_jitter must be two rising factors above 0"),
        ({"scale_jitter": (0, 1)}, "scale_jitter must be two rising factors above 0"),
        ({"scale_jitter": (0.8,)}, "scale_jitter must be two rising factors above 0"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        DetectionRecipe(**changes)


def test_an_unknown_recipe_is_named():
    message = "recipe must be one of retinanet-bit, mask-rcnn-1x, got 'BiT-S'"
    with pytest.raises(ValueError, match=message):
        detection_recipe("BiT-S")


def test_every_detector_has_a_recipe():
    assert RECIPE_OF.keys() == {*DETECTORS}
    assert {*RECIPE_OF.values()} == DETECTION_RECIPES.keys()
    # He et al., 2018: 90,000 steps of 16 images, with drops after 60,000 and 80,000.
    schedule = detection_recipe("mask-rcnn-1x")
    assert schedule.steps(COCO) == 90_000
    rates = [float(schedule.schedule(COCO)(step)) for step in (59_000, 61_000, 81_000)]
    np.testing.assert_allclose(rates, [0.02, 0.002, 0.0002], rtol=1e-5)
