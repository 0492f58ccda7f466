"""The pipeline of fine-tuning, against NumPy: every batch is a function of (seed, step)."""

import itertools

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from bit_keras import data


def noise(count, height=40, width=50, num_classes=3):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    labels = np.arange(count) % num_classes
    return pixels, data.from_arrays(pixels, labels, test=(pixels, labels))[0]


def one_class_each(count, height=1, width=1):
    """Images whose label is their index."""
    pixels = np.zeros((count, height, width, 3), np.uint8)
    return data.from_arrays(pixels, np.arange(count), test=(pixels, np.arange(count)))[0]


def take(images, steps, **settings):
    settings = {"batch": 4, "resize": 40, "crop": 32, "seed": 0, **settings}
    return [
        (x.numpy(), y.numpy())
        for x, y in itertools.islice(data.training_batches(images, **settings), steps)
    ]


def order(images, steps, **settings):
    """The indices of the images in each batch, for `one_class_each`."""
    return np.array([y.argmax(1) for _, y in take(images, steps, **settings)])


def resized(image, size):
    """Bilinear with half-pixel centers, one output pixel after the other's formula."""
    height, width, _ = image.shape

    def corners(n):
        center = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.floor(center).astype(int)
        return low, np.minimum(low + 1, n - 1), center - low

    top, bottom, down = corners(height)
    left, right, across = corners(width)
    down, across = down[:, None, None], across[None, :, None]
    image = image.astype(np.float64)
    upper = image[top][:, left] * (1 - across) + image[top][:, right] * across
    lower = image[bottom][:, left] * (1 - across) + image[bottom][:, right] * across
    return (upper * (1 - down) + lower * down) / 255


MIXTURES = (
    {},
    {"mixup_alpha": 0.4},
    {"cutmix_alpha": 1.0},
    {"mixup_alpha": 0.4, "cutmix_alpha": 1.0, "sampling": "balanced"},
)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_batch_is_a_function_of_seed_and_step(mixture):
    _, images = noise(10)
    whole = take(images, 8, seed=3, **mixture)
    late = take(images, 3, seed=3, **mixture, start_step=5)
    for (x, y), (late_x, late_y) in zip(whole[5:], late, strict=True):
        np.testing.assert_array_equal(x, late_x)
        np.testing.assert_array_equal(y, late_y)
    for (x, _), (other, _) in zip(whole, take(images, 8, seed=4, **mixture), strict=True):
        assert not np.array_equal(x, other)


def test_batches_have_the_promised_shapes_and_range():
    _, images = noise(10)
    dataset = data.training_batches(images, batch=4, resize=40, crop=33, seed=2**40)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    x, y = next(iter(dataset))
    assert (x.shape, x.dtype) == ((4, 33, 33, 3), tf.float32)
    assert (y.shape, y.dtype) == ((4, 3), tf.float32)
    assert 0 <= x.numpy().min() < 0.1
    assert 0.9 < x.numpy().max() <= 1


@pytest.mark.parametrize("batch", [4, 7, 25])
def test_every_epoch_covers_every_image_once(batch):
    images = one_class_each(10)
    flat = order(images, 140 // batch, batch=batch).reshape(-1)
    epochs = flat[: len(flat) // 10 * 10].reshape(-1, 10)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(10), (len(epochs), 1)))
    assert len(np.unique(epochs, axis=0)) == len(epochs)


def test_the_order_is_as_random_as_a_true_shuffle():
    from bit_keras.data.pipelines.order import shuffled_index

    epochs, size = 1000, 10
    key = tf.constant(12345, tf.int64)
    indices = tf.data.Dataset.range(epochs * size).map(lambda p: shuffled_index(p, size, key))
    orders = indices.batch(epochs * size).get_single_element().numpy().reshape(epochs, size)

    expected = epochs / size
    counts = [np.bincount(column, minlength=size) for column in orders.T]
    chi_square = ((np.array(counts) - expected) ** 2 / expected).sum(1)  # 9 degrees of freedom
    assert chi_square.max() < 30
    assert 5 < chi_square.mean() < 14
    steps = np.bincount((orders[:, 1] - orders[:, 0]) % size, minlength=size)[1:]
    assert ((steps - epochs / 9) ** 2 / (epochs / 9)).sum() < 28  # 8 degrees of freedom
    assert len(np.unique(orders, axis=0)) > epochs - 10


def test_a_single_image_is_a_data_set():
    pixels = np.full((1, 5, 5, 3), 51, np.uint8)
    images = data.from_arrays(pixels, [0], test=(pixels, [0]))[0]
    x, y = take(images, 1, batch=3)[0]
    np.testing.assert_allclose(x, 0.2, rtol=1e-6)
    np.testing.assert_array_equal(y, np.ones((3, 1)))


def test_crops_are_windows_of_the_resized_image():
    pixels, images = noise(1)
    square = resized(pixels[0], 36)
    windows = np.lib.stride_tricks.sliding_window_view(square, (32, 32), (0, 1))
    windows = np.moveaxis(windows, 2, -1)  # [5, 5, 32, 32, 3]
    seen = np.zeros((5, 5), int)
    for x, _ in take(images, 10, batch=40, resize=36, random_flip=False):
        for image in x:
            error = np.abs(windows - image).max((2, 3, 4))
            place = np.unravel_index(error.argmin(), error.shape)
            assert error[place] < 1e-5
            seen[place] += 1
    assert ((seen - 16) ** 2 / 16).sum() < 56  # uniform: 24 degrees of freedom, p = 0.0002


def test_flips_half_the_images_each_for_itself():
    pixels, images = noise(1)
    square = resized(pixels[0], 32)
    flipped = []
    for x, _ in take(images, 10, batch=40, resize=40, crop=32, random_crop=False):
        for image in x:
            as_is, mirrored = np.abs(image - square).max(), np.abs(image - square[:, ::-1]).max()
            assert min(as_is, mirrored) < 1e-5
            flipped.append(mirrored < as_is)
    assert abs(np.sum(flipped) - 200) < 40  # 4 standard deviations
    changes = np.sum(np.diff(flipped))
    assert abs(changes - 200) < 40


def test_without_crop_and_flip_images_are_only_resized():
    pixels, images = noise(6, num_classes=6)
    x, y = take(images, 1, batch=6, random_crop=False, random_flip=False)[0]
    for image, label in zip(x, y.argmax(1), strict=True):
        np.testing.assert_allclose(image, resized(pixels[label], 32), atol=1e-5)


def test_mixup_adds_the_reversed_batch():
    _, images = noise(10)
    plain, mixed = take(images, 60), take(images, 60, mixup_alpha=0.5)
    weights = []
    for (x, y), (mixed_x, mixed_y) in zip(plain, mixed, strict=True):
        difference = x - x[::-1]
        weight = np.sum((mixed_x - x[::-1]) * difference) / np.sum(difference**2)
        np.testing.assert_allclose(mixed_x, weight * x + (1 - weight) * x[::-1], atol=1e-5)
        np.testing.assert_allclose(mixed_y, weight * y + (1 - weight) * y[::-1], atol=1e-5)
        weights.append(weight)
    assert 0 <= min(weights) < 0.1
    assert 0.9 < max(weights) <= 1.0001
    assert np.std(weights) == pytest.approx(np.sqrt(1 / 8), abs=0.06)  # Beta(1/2, 1/2)


def test_test_batches_hold_every_image_once_in_order():
    pixels, images = noise(10)
    batches = list(data.test_batches(images, batch=4, size=37))
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    np.testing.assert_array_equal(y, np.eye(3)[images.labels])
    np.testing.assert_allclose(x, [resized(image, 37) for image in pixels], atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (33, 90), (200, 64)])
def test_resizing_is_bilinear_with_half_pixel_centers(size):
    pixels, images = noise(1, *size)
    x, _ = next(iter(data.test_batches(images, batch=1, size=64)))
    np.testing.assert_allclose(x[0], resized(pixels[0], 64), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resize": 32, "crop": 40}, "crop must not exceed resize, got crop=40 and resize=32"),
        ({"crop": 31}, "sizes below 32 pixels .* crop=31"),
        ({"resize": 16, "crop": 16}, "sizes below 32 pixels .* resize=16"),
        ({"batch": 0}, "batch must be 1 or more, got 0"),
        ({"start_step": -1}, "start_step=-1"),
        ({"mixup_alpha": -0.1}, "mixup_alpha=-0.1"),
        ({"cutmix_alpha": -1}, "must be 0 or more, .* cutmix_alpha=-1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(data.DataError, match=message):
        take(one_class_each(3), 1, **settings)


def test_test_batches_refuse_small_sizes():
    with pytest.raises(data.DataError, match=r"sizes below 32 pixels .* size=16"):
        data.test_batches(one_class_each(3), batch=1, size=16)


def test_every_source_feeds_batches(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(3):
            pixels = np.full((40 + i, 50, 3), 100 * (label == "b"), "uint8")
            PIL.Image.fromarray(pixels).save(tmp_path / label / f"{i}.png")
    with tfds.testing.mock_data(num_examples=100):
        sources = [data.from_directory(tmp_path), data.from_tfds("cifar10"), data.digits()]
    for train, test in sources:
        batches = data.training_batches(train, batch=5, resize=40, crop=32, seed=0)
        x, y = next(iter(batches))
        assert x.shape == (5, 32, 32, 3)
        assert y.shape == (5, train.num_classes)
        x, y = next(iter(data.test_batches(test, batch=2, size=33)))
        assert x.shape == (2, 33, 33, 3)
    photos, _ = sources[0]
    x, y = next(iter(data.training_batches(photos, batch=4, resize=40, crop=32, seed=0)))
    np.testing.assert_allclose(x[:, 5, 5, 0], np.argmax(y, axis=1) * 100 / 255, atol=1e-6)


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_parts_of_all_workers_are_the_whole_batch(workers, mixture):
    _, images = noise(7)
    settings = {"batch": 12, "resize": 40, "crop": 32, "seed": 3, **mixture}
    whole = data.training_batches(images, **settings).take(3)
    parts = [
        data.training_batches(images, **settings, start_step=1, part=(k, workers)).take(2)
        for k in range(workers)
    ]
    for (x, y), *slices in zip(whole.skip(1), *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate([a for a, _ in slices]), x)
        np.testing.assert_array_equal(np.concatenate([b for _, b in slices]), y)
    with pytest.raises(data.DataError, match="5 workers must divide the batch, got 12 images"):
        data.training_batches(images, **settings, part=(0, 5))


def several_classes(count):
    """(labels, images): sets of 5 classes, none for image 0; image i is of the gray level i."""
    labels = np.random.default_rng(0).random((count, 5)) < 0.5
    labels[0] = False
    pixels = np.tile(np.arange(count, dtype=np.uint8)[:, None, None, None], (1, 32, 32, 3))
    return labels, data.from_arrays(pixels, labels, test=(pixels, labels))[0]


def test_images_with_several_classes_keep_them():
    labels, images = several_classes(20)
    settings = {"batch": 10, "crop": 32, "seed": 0}
    for dataset in (
        data.training_batches(images, resize=32, **settings).take(2),
        data.upstream_batches(images, **settings).take(2),
        data.test_batches(images, batch=7, size=32),
        data.center_crop_batches(images, batch=7, resize=32, crop=32),
    ):
        x, y = (np.concatenate(parts) for parts in zip(*dataset, strict=True))
        levels = np.rint(x[:, 0, 0, 0] * 255).astype(int)
        np.testing.assert_array_equal(np.sort(levels), np.arange(20))
        np.testing.assert_array_equal(y, labels[levels])


def test_mixup_mixes_sets_of_classes():
    _, images = several_classes(20)
    plain, mixed = take(images, 3, resize=32), take(images, 3, resize=32, mixup_alpha=1.0)
    for (x, y), (mixed_x, mixed_y) in zip(plain, mixed, strict=True):
        difference = x - x[::-1]
        weight = np.sum((mixed_x - x[::-1]) * difference) / np.sum(difference**2)
        np.testing.assert_allclose(mixed_y, weight * y + (1 - weight) * y[::-1], atol=1e-4)


@pytest.mark.parametrize("make", [noise, several_classes])
def test_feature_batches_are_training_batches_of_features(make):
    _, images = make(7)
    features = np.random.default_rng(1).standard_normal((7, 3)).astype("float32")
    settings = {"batch": 6, "seed": 4}
    dataset = data.feature_batches(features, images, **settings)
    whole = [(x.numpy(), y.numpy()) for x, y in itertools.islice(dataset, 5)]
    rows = [np.argmax((features[:, None] == x[None]).all(2), axis=0) for x, _ in whole]
    np.testing.assert_array_equal(np.sort(np.ravel(rows)[:28].reshape(4, 7)), [range(7)] * 4)
    same = take(images, 5, resize=32, **settings)
    for (x, y), i, (_, expected) in zip(whole, rows, same, strict=True):
        np.testing.assert_array_equal(x, features[i])
        np.testing.assert_array_equal(y, expected)
    parts = [
        next(iter(data.feature_batches(features, images, **settings, start_step=2, part=(k, 2))))
        for k in range(2)
    ]
    for both, one in zip(zip(*parts, strict=True), whole[2], strict=True):
        np.testing.assert_array_equal(np.concatenate(both), one)
