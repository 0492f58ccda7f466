"""CutMix (Yun et al., 2019): a box of the reversed batch in every image, and labels by its area."""

import itertools

import keras
import numpy as np
import pytest
import scipy.stats

from bit_keras import data

SIDE, BATCH = 32, 5  # of an odd batch the middle image is its own partner


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (15, SIDE, SIDE, 3), dtype=np.uint8)
    return data.from_arrays(pixels, np.arange(15) % 3, test=(pixels, np.arange(15) % 3))[0]


def take(images, steps, **settings):
    settings = {"batch": BATCH, "resize": SIDE, "crop": SIDE, "seed": 1, **settings}
    batches = itertools.islice(data.training_batches(images, **settings), steps)
    return [(x.numpy(), y.numpy()) for x, y in batches]


def box_of(x, mixed):
    """Which pixels of the batch `mixed` are those of `x` reversed, bool [SIDE, SIDE]."""
    own, pasted = (np.all(mixed[[0, 1]] == other[[0, 1]], axis=(0, 3)) for other in (x, x[::-1]))
    np.testing.assert_array_equal(own, ~pasted)
    return pasted


def test_a_box_of_the_reversed_batch_is_pasted_as_keras_does(images):
    mixed = take(images, 40, cutmix_alpha=1.0)
    layer = keras.layers.CutMix()
    for (x, y), (mixed_x, mixed_y) in zip(take(images, 40), mixed, strict=True):
        box = box_of(x, mixed_x)
        rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
        assert box.sum() == len(rows) * len(columns)  # a rectangle without holes
        assert not rows.size or rows[-1] - rows[0] == len(rows) - 1
        assert not columns.size or columns[-1] - columns[0] == len(columns) - 1
        same_box = {
            "permutation_order": np.arange(BATCH)[::-1],
            "batch_masks": np.broadcast_to(box[:, :, None], x.shape),
            "mix_weight": np.full(BATCH, 1 - box.mean(), "float32"),
        }
        np.testing.assert_array_equal(mixed_x, layer.transform_images(x, same_box))
        expected = layer.transform_labels(y, same_box)
        np.testing.assert_allclose(mixed_y, expected, atol=1e-6)


def areas(images, steps, **settings):
    pairs = zip(take(images, steps), take(images, steps, **settings), strict=True)
    return np.array([box_of(x, mixed_x).mean() for (x, _), (mixed_x, _) in pairs])


def drawn_by_definition(alpha, count):
    """Areas of boxes as the paper and its authors' code have them, clipped at the border."""
    rng = np.random.default_rng(0)
    half = (SIDE * np.sqrt(1 - rng.beta(alpha, alpha, count))).astype(int) // 2
    sides = []
    for center in rng.integers(0, SIDE, (2, count)):
        sides.append(np.clip(center + half, 0, SIDE) - np.clip(center - half, 0, SIDE))
    return sides[0] * sides[1] / SIDE**2


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_boxes_are_distributed_as_the_paper_says(images, alpha):
    found = areas(images, 500, cutmix_alpha=alpha)
    expected = drawn_by_definition(alpha, 20_000)
    assert scipy.stats.ks_2samp(found, expected).pvalue > 0.01
    assert len({*found}) > 100


def test_both_is_one_of_the_two_at_random_in_every_batch(images):
    cut = take(images, 200, cutmix_alpha=1.0)
    both = take(images, 200, cutmix_alpha=1.0, mixup_alpha=1.0)
    averaged = take(images, 200, mixup_alpha=1.0)
    is_cut = [np.array_equal(x, other) for (x, _), (other, _) in zip(both, cut, strict=True)]
    for (x, y), (other, label), pasted in zip(both, averaged, is_cut, strict=True):
        assert pasted or (np.array_equal(x, other) and np.array_equal(y, label))
    assert abs(sum(is_cut) - 100) < 30  # 4 standard deviations
    assert np.sum(np.diff(is_cut)) > 60


def test_sets_of_classes_are_mixed_by_area(images):
    labels = np.random.default_rng(1).integers(0, 2, (15, 4))
    pixels = np.random.default_rng(2).integers(0, 256, (15, SIDE, SIDE, 3), dtype=np.uint8)
    several, _ = data.from_arrays(pixels, labels, test=(pixels, labels))
    mixed = take(several, 10, cutmix_alpha=1.0)
    for (x, y), (mixed_x, mixed_y) in zip(take(several, 10), mixed, strict=True):
        area = box_of(x, mixed_x).mean()
        np.testing.assert_allclose(mixed_y, (1 - area) * y + area * y[::-1], atol=1e-6)
