import math

import keras
import numpy as np
import pytest

from bit_keras.recipes.upstream import RECIPES, recipe

# name, images, first steps at a tenth of the rate before, steps; by hand: epochs * images / 4096,
# as 30 * 1,281,167 / 4096 = 9383.5, so that step 9384 is the first without an image of epoch 30.
PROTOCOLS = [
    ("BiT-S", 1_281_167, (9_384, 18_768, 25_023), 28_151),
    ("BiT-M", 14_200_000, (104_004, 208_008, 277_344), 312_012),
    ("BiT-L", 300_000_000, (732_422, 1_684_571, 2_197_266, 2_709_961), 2_929_688),
]


@pytest.mark.parametrize(("name", "images", "decays", "steps"), PROTOCOLS)
def test_the_rate_at_every_boundary_is_the_papers(name, images, decays, steps):
    r = RECIPES[name]
    assert r.steps(images) == steps
    expected = {0: 0, 1: 0.48 / 5000, 2500: 0.24, 4999: 0.48 * 0.9998, 5000: 0.48, 5001: 0.48}
    rate = 0.48
    for decay in decays:
        expected[decay - 1] = rate
        rate /= 10
        expected |= {decay: rate, decay + 1: rate}
    expected[steps - 1] = rate
    assert {s: r.learning_rate(s, images) for s in expected} == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match=f"step must be from 0 to {steps - 1}, got {steps}"):
        r.learning_rate(steps, images)


def test_a_decay_is_at_the_end_of_its_epoch_where_epochs_are_whole_steps():
    r = recipe("BiT-S").replace(warmup_steps=0)
    assert r.steps(4096) == 90
    rates = [r.learning_rate(step, 4096) for step in range(90)]
    np.testing.assert_allclose(
        rates, [0.48] * 30 + [0.048] * 30 + [0.0048] * 20 + [0.00048] * 10, rtol=1e-12
    )


@pytest.mark.parametrize("images", [10_000, 1_281_167, 300_000_000])
@pytest.mark.parametrize(("batch", "warmup"), [(4096, 5000), (256, 0), (40, 7)])
def test_the_keras_schedule_is_the_same_rate_to_float32(images, batch, warmup):
    r = recipe("BiT-L").replace(batch=batch, warmup_steps=warmup)
    schedule = r.schedule(images)
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    edges = [0, warmup, *(math.ceil(e * images / batch) for e in (10, 23, 30, 37, 40))]
    steps = [e + d for e in edges for d in (-1, 0, 1) if 0 <= e + d < r.steps(images)]
    expected = [r.learning_rate(step, images) for step in steps]
    for same in (schedule, twin):
        rates = [keras.ops.convert_to_numpy(same(step)) for step in steps]
        assert {rate.dtype for rate in rates} == {np.dtype("float32")}
        np.testing.assert_allclose(rates, expected, rtol=2e-7)


def test_an_optimizer_reads_the_schedule_at_its_own_step():
    optimizer = keras.optimizers.SGD(recipe("BiT-S").schedule(1_281_167))
    optimizer.build([])
    for step, rate in {2500: 0.24, 9_383: 0.48, 9_384: 0.048}.items():
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(rate)


def test_a_decay_inside_the_warmup_never_lets_the_rate_jump_up():
    r = recipe("BiT-S").replace(batch=1, warmup_steps=50)  # on one image: decays 30, 60 and 80
    assert r.learning_rate(29, 1) == pytest.approx(0.48 * 29 / 50)
    assert r.learning_rate(30, 1) == pytest.approx(0.048 * 30 / 50)
    assert r.learning_rate(50, 1) == pytest.approx(0.048)


def test_the_protocols_differ_in_epochs_and_loss():
    assert recipe("BiT-S").replace(loss="sigmoid") == recipe("BiT-M")
    assert [(r.loss, r.head_bias) for r in RECIPES.values()] == [
        ("softmax", 0),
        ("sigmoid", -10),
        ("sigmoid", -10),
    ]
    for r in RECIPES.values():
        assert (r.batch, r.weight_decay, r.crop, r.test_resize) == (4096, 1e-4, 224, 256)


@pytest.mark.parametrize("batch", [64, 512, 8192])
def test_another_batch_keeps_the_rate_an_image_as_a_function_of_images_seen(batch):
    r = recipe("BiT-S")
    scaled = r.scaled_to_batch(batch)
    assert scaled.base_lr == pytest.approx(0.03 * batch / 256)
    assert scaled.scaled_to_batch(4096) == r
    for seen in range(8192, 90 * 1_281_167, 8192 * 499):
        assert scaled.learning_rate(seen // batch, 1_281_167) / batch == pytest.approx(
            r.learning_rate(seen // 4096, 1_281_167) / 4096
        )


def test_a_teacher_is_patient_and_mixes_uniformly():
    r = recipe("BiT-S").distillation()
    assert (r.epochs, r.decay_epochs, r.warmup_steps) == (900, (300, 600, 800), 50_000)
    assert r.mixup_alpha == 1.0
    assert r.replace(mixup_alpha=0.0).with_epochs(90) == recipe("BiT-S")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"warmup_steps": -1}, "warmup_steps must be 0 or more"),
        ({"weight_decay": -1e-4}, "weight_decay must be 0 or more"),
        ({"crop": 31}, "crop must be 32 or more"),
        ({"mixup_alpha": -1}, "mixup_alpha must be 0 or more"),
        ({"test_resize": 223}, "test_resize must be 224 or more, got 223"),
        ({"base_lr": 0.0}, "base_lr must be a number above 0"),
        ({"epochs": 80}, r"decay_epochs must rise between 0 and the 80 epochs, got \(30, 60, 80\)"),
        ({"decay_epochs": (60, 30)}, "decay_epochs must rise"),
        ({"decay_epochs": (0, 30)}, "decay_epochs must rise"),
        ({"loss": "hinge"}, 'loss must be "softmax" or "sigmoid", got \'hinge\''),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        recipe("BiT-S").replace(**changes)


def test_mistaken_arguments_are_named():
    r = recipe("BiT-S")
    with pytest.raises(ValueError, match="recipe must be one of BiT-S, BiT-M, BiT-L, got 'BiT-X'"):
        recipe("BiT-X")
    with pytest.raises(ValueError, match="num_examples must be 1 or more, got 0"):
        r.schedule(0)
    with pytest.raises(ValueError, match="num_examples must be 1 or more, got 0"):
        r.steps(0)
    with pytest.raises(ValueError, match="batch must be 1 or more, got 0"):
        r.scaled_to_batch(0)


@pytest.mark.parametrize(
    ("images", "batch", "warmup"),
    [
        (1_281_167, 4096, 5_000),  # ImageNet's is the paper's own
        (14_200_000, 4096, 5_000),
        (50_000, 512, 879),  # of 8,790 steps
        (8_000, 64, 1_125),
        (100, 32, 28),
    ],
)
def test_a_recipe_fits_small_sets(images, batch, warmup):
    r = recipe("BiT-S").fitted_to(images)
    assert (r.batch, r.warmup_steps) == (batch, warmup)
    assert r.base_lr / r.batch == pytest.approx(0.03 / 256)
    assert r.epochs == 90
    assert 5 * r.warmup_steps <= r.steps(images)


def test_the_warm_up_fits_small_sets_at_a_given_batch_too():
    r = recipe("BiT-S").fitted_to(8_000, batch=256)
    assert (r.batch, r.steps(8_000), r.warmup_steps) == (256, 2_813, 281)
    assert r.base_lr == pytest.approx(0.03)
