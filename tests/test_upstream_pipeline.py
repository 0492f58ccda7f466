"""The pipeline of pre-training, against NumPy and Pillow."""

import itertools

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from bit_keras import data


def one_image(height, width, augmentations=()):
    """(pixels, images): one image whose red is the column and whose green the row of a pixel."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    pixels[..., 2] = np.random.default_rng(0).integers(0, 256, (height, width))
    constant = tf.constant(pixels)

    def read(index):  # with its shape unknown to the graph, as a decoder's may be
        return tf.raw_ops.PlaceholderWithDefault(input=constant, shape=None)

    return pixels, data.LabeledImages(
        "one", [0], ("a",), (height, width), read, augmentations=frozenset(augmentations)
    )


def noise(count, height=50, width=60):
    pixels = np.random.default_rng(1).integers(0, 256, (count, height, width, 3), np.uint8)
    return data.from_arrays(pixels, np.arange(count), test=(pixels, np.arange(count)))[0]


def take(images, steps, **settings):
    settings = {"batch": 6, "crop": 32, "seed": 0, **settings}
    batches = itertools.islice(data.upstream_batches(images, **settings), steps)
    return [(x.numpy(), y.numpy()) for x, y in batches]


def resized(image, height, width):
    """Bilinear with half-pixel centers, by matrices: [H, W, 3] uint8 -> [height, width, 3]."""

    def matrix(n, size):
        center = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        return np.maximum(0, 1 - np.abs(center[:, None] - np.arange(n)))

    down, across = matrix(image.shape[0], height), matrix(image.shape[1], width)
    return np.einsum("ij,jkc,lk->ilc", down, image, across) / 255


def windows(batches):
    """(left, width, top, height) of the windows, read off the colors; width < 0 if mirrored."""
    images = np.concatenate([x for x, _ in batches]).astype(np.float64) * 255
    crop = images.shape[1]
    columns, rows = images[..., 0], images[..., 1]
    np.testing.assert_allclose(columns, columns[:, :1] + np.zeros((crop, 1)), atol=1e-3)
    np.testing.assert_allclose(rows, rows[:, :, :1] + np.zeros((1, crop)), atol=1e-3)
    found = []
    for ramp in (columns[:, 0], rows[:, :, 0]):
        slope = (ramp[:, -1] - ramp[:, 0]) / (crop - 1)
        # Pixel j of the square shows first + (j + 1/2) * extent / crop - 1/2 of the image.
        np.testing.assert_allclose(ramp, ramp[:, :1] + slope[:, None] * np.arange(crop), atol=1e-3)
        found += [ramp.mean(1) + 0.5 - np.abs(slope) * crop / 2, slope * crop]
    np.testing.assert_allclose(found, np.round(found), atol=0.01)
    return np.round(found)


def test_a_batch_is_a_function_of_seed_and_step():
    images = noise(10)
    whole, late = take(images, 6, seed=3), take(images, 3, seed=3, start_step=3)
    for (x, y), (late_x, late_y) in zip(whole[3:], late, strict=True):
        np.testing.assert_array_equal(x, late_x)
        np.testing.assert_array_equal(y, late_y)
    for (x, _), (other, _) in zip(whole, take(images, 6, seed=4), strict=True):
        assert not np.array_equal(x, other)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_parts_of_all_workers_are_the_whole_batch(workers):
    images = noise(7)
    whole = take(images, 3)[1:]
    parts = [take(images, 2, start_step=1, part=(k, workers)) for k in range(workers)]
    for (x, y), *slices in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate([a for a, _ in slices]), x)
        np.testing.assert_array_equal(np.concatenate([b for _, b in slices]), y)


def test_batches_have_the_promised_shapes_range_and_epochs():
    images = noise(9)
    dataset = data.upstream_batches(images, batch=6, crop=33, seed=-5)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    assert dataset.element_spec[0].shape == (6, 33, 33, 3)
    batches = take(images, 3, crop=33, seed=-5)
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert (x.shape, x.dtype, y.dtype) == ((18, 33, 33, 3), np.float32, np.float32)
    assert 0 <= x.min() < 0.05
    assert 0.95 < x.max() <= 1
    assert set(np.unique(y)) == {0, 1}
    for epoch in y.argmax(1).reshape(2, 9):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(9))


@pytest.mark.parametrize("workers", [2, 3])
def test_mixup_mixes_a_batch_with_itself_reversed(workers):
    images = noise(7)
    plain, mixed = take(images, 3), take(images, 3, mixup_alpha=1.0)
    weights = []
    for (x, y), (mixed_x, mixed_y) in zip(plain, mixed, strict=True):
        difference = x - x[::-1]
        weights.append(np.sum((mixed_x - x[::-1]) * difference) / np.sum(difference**2))
        for a, b in ((mixed_x, x), (mixed_y, y)):
            expected = weights[-1] * b + (1 - weights[-1]) * b[::-1]
            np.testing.assert_allclose(a, expected, atol=1e-4)
    assert 0 < min(weights) < max(weights) < 1
    parts = [take(images, 3, mixup_alpha=1.0, part=(k, workers)) for k in range(workers)]
    for (x, y), *slices in zip(mixed, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate([a for a, _ in slices]), x)
        np.testing.assert_array_equal(np.concatenate([b for _, b in slices]), y)


def test_windows_lie_in_the_image_with_the_promised_areas_and_shapes():
    _, images = one_image(160, 200, ["crop"])
    left, width, top, height = windows(take(images, 8, batch=100))
    assert min(left.min(), top.min()) >= 0
    assert (left + width).max() <= 200
    assert (top + height).max() <= 160
    area, aspect = width * height / (160 * 200), width / height
    assert 0.08 <= area.min() < 0.12
    assert 0.85 < area.max() <= 1
    assert 0.74 < aspect.min() < 0.77
    assert 1.3 < aspect.max() < 1.35  # sides are whole pixels
    assert abs(np.mean(left + width / 2) - 100) < 6
    assert abs(np.mean(top + height / 2) - 80) < 5
    assert len({*zip(left, width, top, height, strict=True)}) > 790


def test_flips_mirror_half_the_windows_each_for_itself():
    _, images = one_image(160, 200, ["crop", "flip"])
    _, straight = one_image(160, 200, ["crop"])
    left, width, *rows = windows(take(images, 4, batch=100))
    np.testing.assert_array_equal(
        [left, np.abs(width), *rows], windows(take(straight, 4, batch=100))
    )
    mirrored = width < 0
    assert abs(mirrored.sum() - 200) < 40  # 4 standard deviations
    assert abs(np.diff(mirrored).sum() - 200) < 40


def test_without_augmentations_images_are_only_resized():
    pixels, images = one_image(90, 70)
    for image in take(images, 1, crop=48)[0][0]:
        np.testing.assert_allclose(image, resized(pixels, 48, 48), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (240, 2)])
def test_images_too_narrow_for_a_window_are_taken_whole(size):
    pixels, images = one_image(*size, ["crop"])
    for image in take(images, 1)[0][0]:
        np.testing.assert_allclose(image, resized(pixels, 32, 32), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "sides"),
    [((30, 41), (40, 55)), ((41, 30), (55, 40)), ((25, 25), (40, 40)), ((100, 253), (40, 101))],
)
def test_center_crops_are_windows_of_the_resized_image(size, sides):
    pixels, images = one_image(*size)
    whole = resized(pixels, *sides)
    top, left = (sides[0] - 33) // 2, (sides[1] - 33) // 2
    x, y = next(iter(data.center_crop_batches(images, batch=1, resize=40, crop=33)))
    np.testing.assert_allclose(x[0], whole[top : top + 33, left : left + 33], atol=1e-5)
    np.testing.assert_array_equal(y, [[1]])


@pytest.mark.parametrize("size", [(30, 41), (41, 30)])
def test_enlarged_center_crops_are_pillows(size):  # which smooths first where it shrinks
    pixels, images = one_image(*size)
    sides = [side * 64 // 30 for side in size]  # 41 * 64 / 30 = 87.5, almost
    channels = [
        PIL.Image.fromarray(channel.astype(np.float32)).resize(sides[::-1], PIL.Image.BILINEAR)
        for channel in np.moveaxis(pixels, 2, 0)
    ]
    whole = np.stack([np.asarray(channel) for channel in channels], 2) / 255
    top, left = (sides[0] - 50) // 2, (sides[1] - 50) // 2
    x, _ = next(iter(data.center_crop_batches(images, batch=1, resize=64, crop=50)))
    np.testing.assert_allclose(x[0], whole[top : top + 50, left : left + 50], atol=1e-5)


def test_center_crops_hold_every_image_once_in_order():
    images = noise(10)
    batches = list(data.center_crop_batches(images, batch=4, resize=40, crop=32))
    assert [x.shape for x, _ in batches] == [(n, 32, 32, 3) for n in (4, 4, 2)]
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), np.eye(10))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 31}, "sizes below 32 pixels .* crop=31"),
        ({"batch": 0}, "batch must be 1 or more, got 0"),
        ({"start_step": -1}, "must be 0 or more, got start_step=-1"),
        ({"mixup_alpha": -1}, "must be 0 or more, got .*mixup_alpha=-1"),
        ({"part": (0, 5)}, "5 workers must divide the batch, got 6 images"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(data.DataError, match=message):
        take(noise(2), 1, **settings)


def test_impossible_center_crops_are_refused():
    with pytest.raises(data.DataError, match="crop must not exceed resize, got crop=40 and"):
        data.center_crop_batches(noise(2), batch=1, resize=32, crop=40)
    with pytest.raises(data.DataError, match=r"sizes below 32 pixels .* crop=16"):
        data.center_crop_batches(noise(2), batch=1, resize=32, crop=16)
