"""Labelled images: the same pixels as Pillow has, the reference's samples, and clear errors."""

import io
import subprocess
import sys
import warnings

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
import pytest
import scipy.sparse
import tensorflow as tf
import tensorflow_datasets as tfds

from bit_keras import data
from bit_keras.data.tfrecords import record_reader


def picture(height=12, width=20, seed=0):
    """Smooth random colours, which JPEG keeps well."""
    random = np.random.default_rng(seed)
    small = PIL.Image.fromarray(random.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return small.resize((width, height), PIL.Image.Resampling.BICUBIC)


def see_through(image):
    alpha = PIL.Image.fromarray(np.tile(np.arange(image.width, dtype=np.uint8), (image.height, 1)))
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return image


def numbered(labels, class_names="abc"):
    """Images of one pixel, image i having the red value i."""
    labels = labels if scipy.sparse.issparse(labels) else np.array(labels)
    images = np.zeros((labels.shape[0], 1, 1, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(images))
    pixels = tf.constant(images)
    return data.LabeledImages(
        "numbered", labels, tuple(class_names), (1, 1), lambda i: tf.gather(pixels, i)
    )


def read_all(images):
    """Every image, through a tf.data map as in training."""
    return [image.numpy() for image in tf.data.Dataset.range(len(images)).map(images.read)]


def numbers(images):
    return [int(image[0, 0, 0]) for image in read_all(images)]


def multi_hot(count, num_classes=4, seed=0):
    """Random sets of classes, bool [count, num_classes]; the first image has none."""
    labels = np.random.default_rng(seed).random((count, num_classes)) < 0.4
    labels[0] = False
    return labels


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten PNGs each; image i of class c is picture(seed=10 * c + i)."""
    root = tmp_path / "photos"
    for c, name in enumerate(["cat", "dog"]):
        (root / name).mkdir(parents=True)
        for i in range(10):
            picture(seed=10 * c + i).save(root / name / f"{i}.png")
    return root


# LabeledImages


def test_few_shot_draws_the_reference_codes_sample():
    labels = np.random.default_rng(0).integers(0, 3, 60)
    images = numbered(labels)

    np.random.seed(7)
    expected = np.concatenate(
        [np.random.choice(np.where(labels == c)[0], 5, replace=False) for c in range(3)]
    )
    state = np.random.get_state()[1].copy()
    sample, rest = images.split_few_shot(5, seed=7)

    assert numbers(sample) == expected.tolist() == numbers(images.few_shot(5, seed=7))
    np.testing.assert_array_equal(sample.labels, np.repeat([0, 1, 2], 5))
    assert numbers(rest) == sorted(set(range(60)) - set(expected.tolist()))
    np.testing.assert_array_equal(rest.labels, labels[numbers(rest)])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # global state left alone


def test_subsets_compose():
    images = numbered([0, 1, 2, 0, 1, 2])
    part = images.subset([5, 3, 1, 0]).subset([2, 0])
    assert numbers(part) == [1, 5]
    assert part.labels.tolist() == [1, 2]


@pytest.mark.parametrize("fraction", [0.01, 0.25, 0.99])
def test_split_parts_every_class_by_the_seed(fraction):
    images = numbered([0] * 8 + [1] * 2 + [2] * 40)
    train, test = images.split(fraction, seed=3)
    assert sorted(numbers(train) + numbers(test)) == list(range(50))
    for label, size in enumerate([8, 2, 40]):
        in_test = np.sum(test.labels == label)
        assert 1 <= in_test <= size - 1
        assert abs(in_test - fraction * size) <= 1
    assert numbers(test) == numbers(images.split(fraction, seed=3)[1]) == sorted(numbers(test))
    if fraction == 0.25:
        assert numbers(test) != numbers(images.split(fraction, seed=4)[1])


@pytest.mark.parametrize(
    "given_as",
    [
        *(np.bool_, np.uint8, np.int64, np.float16, np.float64),
        *(scipy.sparse.csr_array, scipy.sparse.csc_array, scipy.sparse.coo_matrix),
    ],
)
def test_multi_hot_labels_of_any_format(given_as):
    dense = multi_hot(20)
    images = numbered(given_as(dense), "abcd")
    assert images.multi_label
    assert len(images) == 20
    assert images.labels.dtype == bool
    np.testing.assert_array_equal(images.labels.toarray(), dense)
    part = images.subset([7, 0, 7, 19])
    np.testing.assert_array_equal(part.labels.toarray(), dense[[7, 0, 7, 19]])
    assert numbers(part) == [7, 0, 7, 19]
    assert not numbered([0, 1]).multi_label


def test_untidy_sparse_labels_are_tidied_in_a_copy():
    # Image 0 has class 2 twice and class 1 not; image 1 has classes 2 and 0, in that order.
    values, classes = np.array([True, False, True, True, True]), np.array([2, 1, 2, 2, 0])
    given = scipy.sparse.csr_array((values, classes, np.array([0, 3, 5])), shape=(2, 3))
    images = numbered(given)
    assert images.labels.indices.tolist() == [2, 0, 2]
    assert images.labels.indptr.tolist() == [0, 1, 3]
    assert given.indices.tolist() == [2, 1, 2, 2, 0]


@pytest.mark.parametrize("labels", [np.arange(50) % 4, multi_hot(50), np.zeros((50, 4))])
def test_targets_are_the_labels_rows(labels):
    expected = np.eye(4)[labels] if labels.ndim == 1 else labels
    target = numbered(labels, "abcd").targets()
    targets = np.stack([*tf.data.Dataset.range(50).map(target).as_numpy_iterator()])
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets, expected)


@pytest.mark.parametrize("labels", [np.arange(5000) % 4, multi_hot(5000)])
def test_targets_are_captured_and_not_written_into_the_graph(labels):
    target = tf.function(numbered(labels, "abcd").targets())
    graph = target.get_concrete_function(tf.TensorSpec([], tf.int64)).graph
    assert graph.as_graph_def().ByteSize() < 10_000


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_a_multi_label_split_leaves_every_class_to_train_on(fraction):
    labels = multi_hot(100, 8)
    labels[:, 5] = np.arange(100) == 3  # one image only
    labels[:, 6] = np.arange(100) > 97
    labels[:, 7] = False
    images = numbered(labels, "abcdefgh")
    seen = set()
    for seed in range(4):
        train, test = images.split(fraction, seed)
        assert (train.name, test.name) == ("numbered/train", "numbered/test")
        tested = numbers(test)
        assert numbers(train) == sorted({*range(100)} - {*tested})
        assert tested == sorted(tested)
        assert len(tested) == 100 * fraction or (fraction == 0.99 and 93 <= len(tested) < 100)
        np.testing.assert_array_equal(test.labels.toarray(), labels[tested])
        assert train.labels.toarray().any(0).tolist() == [True] * 7 + [False]
        seen.add(tuple(tested))
    assert len(seen) == 4
    np.testing.assert_array_equal(numbers(images.split(fraction, seed)[0]), numbers(train))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: numbered([]), "numbered holds no images"),
        (lambda: numbered([0, 3]), r"lie in 0 .. 2 .* got 0 .. 3"),
        (lambda: numbered([0, -1]), r"lie in 0 .. 2 .* got -1 .. 0"),
        (lambda: numbered([0.0, 1.0]), "must be integers of shape"),
        (lambda: numbered([0, 0, 1]).split(), "class 'b' of numbered has 1 images"),
        (lambda: numbered([0] * 4).split(1.0), "between 0 and 1, got 1.0"),
        (lambda: numbered([0, 0, 1, 2]).few_shot(2), "'b' of numbered has 1 images.* the 2 examp"),
        (lambda: numbered([0, 1, 2]).few_shot(0), "must be 1 or more, got 0"),
        (lambda: numbered([0, 1, 2]).split_few_shot(1), "none is left to test on"),
        (lambda: numbered(np.zeros((0, 3))), "numbered holds no images"),
        (lambda: numbered(np.zeros((4, 0)), ""), "numbered holds no classes"),
        (
            lambda: numbered(np.eye(4)),
            r"zeros and ones of shape \[N, 3\] for its 3 class names, .* \[4, 4\]",
        ),
        (lambda: numbered(np.eye(3).astype(str)), r"zeros and ones of shape .* got <U"),
        (lambda: numbered(np.eye(3)[None]), r"zeros and ones of shape .* got .* \[1, 3, 3\]"),
        (lambda: numbered(np.eye(3) * 0.9), "numbered must be 0 or 1, got 0.9"),
        (lambda: numbered(np.eye(3) * np.nan), "numbered must be 0 or 1, got nan"),
        (lambda: numbered(np.eye(3, dtype=int) * 2), "numbered must be 0 or 1, got 2"),
        (lambda: numbered(stray(3)), "must lie in 0 .. 2 .* got 3 .. 3"),
        (lambda: numbered(stray(-1)), "must lie in 0 .. 2 .* got -1 .. -1"),
        (lambda: numbered(np.eye(3)).split(), "every image of numbered is needed to train on"),
        (lambda: numbered(np.ones((9, 3))).split(0.0), "between 0 and 1, got 0.0"),
        (lambda: numbered(np.ones((9, 3))).few_shot(2), "2 examples a class cannot be chosen"),
        (lambda: numbered(np.ones((9, 3))).split_few_shot(2), "cannot be chosen from numbered, wh"),
    ],
)
def test_impossible_sets_are_refused(call, message):
    with pytest.raises(data.DataError, match=message):
        call()


def stray(label):
    """One image of a class that is none of the three, as only a broken sparse array can have it."""
    labels = scipy.sparse.csr_array(np.eye(1, 3))
    labels.indices[:] = label
    return labels


# Arrays and digits


@pytest.mark.parametrize("shape", [(20, 6, 5), (20, 6, 5, 1), (20, 6, 5, 3)])
@pytest.mark.parametrize("scale", [None, np.float32, np.float64])
def test_arrays_come_back_as_rgb(shape, scale):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    labels = np.arange(20) % 4
    given = pixels if scale is None else pixels.astype(scale) / 255
    train, test = data.from_arrays(given, labels[:, None], test=(given[:7], labels[:7]))

    rgb = pixels if shape[-1] == 3 else np.repeat(pixels.reshape(20, 6, 5, 1), 3, axis=3)
    np.testing.assert_array_equal(read_all(train), rgb)
    np.testing.assert_array_equal(read_all(test), rgb[:7])
    np.testing.assert_array_equal(train.labels, labels)
    assert train.class_names == test.class_names == ("0", "1", "2", "3")
    assert train.image_size == (6, 5)


def test_arrays_are_captured_and_not_written_into_the_graph():
    train, _ = data.from_arrays(np.zeros((1000, 8, 8, 3), np.uint8), np.arange(1000) % 2)
    read = tf.function(train.read).get_concrete_function(tf.TensorSpec([], tf.int64))
    assert read.graph.as_graph_def().ByteSize() < 10_000


IMAGES, LABELS = np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((IMAGES[..., :2], LABELS), r"must have the shape .* got \[4, 2, 2, 2\]"),
        ((IMAGES.astype(int), LABELS), "got int64; convert"),
        ((IMAGES + 255.0, LABELS), r"got floats in \[255, 255\]"),
        ((IMAGES + np.nan, LABELS), "got floats in"),
        ((IMAGES, LABELS[:3]), r"one label an image, .* \[4, 2, 2, 3\] and labels of shape \[3\]"),
        ((IMAGES, LABELS + 0.0), r"integers of shape \[N\], .* got float64 of shape \[4\]"),
        ((IMAGES, np.eye(3)), r"one label an image, .* labels of shape \[3, 3\]"),
        ((IMAGES, np.eye(4) / 2), "arrays must be 0 or 1, got 0.5"),
        ((IMAGES, scipy.sparse.coo_array(np.eye(4)) * 2), "arrays must be 0 or 1, got 2"),
        ((IMAGES, np.array(list("aabb"))), r"integers of shape \[N\]"),
        ((IMAGES, np.array([0, 0, 5, 5])), "got 0 .. 5"),
    ],
)
def test_wrong_arrays_are_refused(arguments, message):
    with pytest.raises(data.DataError, match=message):
        data.from_arrays(*arguments)


@pytest.mark.parametrize("given_as", [np.asarray, scipy.sparse.csr_matrix])
def test_arrays_with_several_classes_an_image(given_as):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
    labels = multi_hot(30, 3)
    train, test = data.from_arrays(pixels, given_as(labels), test=(pixels[:7], labels[:7]))
    assert train.class_names == test.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(train.labels.toarray(), labels)
    np.testing.assert_array_equal(test.labels.toarray(), labels[:7])
    np.testing.assert_array_equal(read_all(train), pixels)

    train, test = data.from_arrays(pixels, given_as(labels), test_fraction=0.3)
    assert (len(train), len(test)) == (21, 9)
    of_pixels = {p.tobytes(): row.tolist() for p, row in zip(pixels, labels, strict=True)}
    for part in (train, test):
        for image, row in zip(read_all(part), part.labels.toarray().tolist(), strict=True):
            assert of_pixels[image.tobytes()] == row


@pytest.mark.parametrize("labels", [np.array([0, 0, 2, 2]), np.eye(4, 3)[[0, 0, 2, 2]]])
@pytest.mark.parametrize("test", [None, (IMAGES, LABELS)])
def test_a_class_without_training_images_is_refused(labels, test):
    message = r"no images of 1 of its 3 classes \('y'\); give each an image, or leave it out"
    with pytest.raises(data.DataError, match=message):
        data.from_arrays(IMAGES, labels, test=test, class_names=["x", "y", "z"])


def test_many_classes_without_training_images_are_not_all_named():
    message = r"8 of its 10 classes \('c', 'd', 'e', 'f', 'g', ...\); give"
    with pytest.raises(data.DataError, match=message):
        data.from_arrays(IMAGES, LABELS, class_names=list("abcdefghij"))


def test_a_class_may_lack_test_images():
    _, test = data.from_arrays(IMAGES, LABELS, test=(IMAGES[:1], LABELS[:1]))
    assert test.num_classes == 2


def test_training_and_test_labels_are_of_one_kind():
    with pytest.raises(data.DataError, match=r"both be \[N\] or both .* got \[4\] and \[4, 2\]"):
        data.from_arrays(IMAGES, LABELS, test=(IMAGES, np.eye(2)[LABELS]))


def test_digits():
    import sklearn.datasets

    original = sklearn.datasets.load_digits()
    train, test = data.digits(10, seed=1)
    assert len(train) == 100
    assert len(test) == 1697  # ALL the others
    assert np.bincount(train.labels).tolist() == [10] * 10
    pixels = np.rint(original.images * 255 / 16).astype(np.uint8)
    of_pixels = {p.tobytes(): target for p, target in zip(pixels, original.target, strict=True)}
    for part in (train, test.subset(range(50))):
        for image, label in zip(read_all(part), part.labels, strict=True):
            assert of_pixels[image[..., 1].tobytes()] == label

    train, test = data.digits()
    assert len(train) + len(test) == 1797
    np.testing.assert_allclose(np.bincount(test.labels), 0.2 * np.bincount(original.target), atol=1)


# Folders


def test_a_folder_of_class_folders(folder):
    train, test = data.from_directory(folder, test_fraction=0.3, seed=5)
    assert (train.name, test.name) == ("photos/train", "photos/test")
    assert train.class_names == ("cat", "dog")
    assert train.image_size == (12, 20)
    assert np.bincount(test.labels).tolist() == [3, 3]

    seen = [
        (image.tobytes(), label)
        for part in (train, test)
        for image, label in zip(read_all(part), part.labels, strict=True)
    ]
    expected = [(np.asarray(picture(seed=s)).tobytes(), s // 10) for s in range(20)]
    assert sorted(seen) == sorted(expected)


def test_train_and_test_folders_hidden_files_and_links(folder, tmp_path):
    root = tmp_path / "parted"
    (root / "test").mkdir(parents=True)
    (root / "train").symlink_to(folder)
    (root / "test" / "dog").symlink_to(folder / "dog")  # no cat to test on: fine
    for junk in ("train/.DS_Store", "train/dog/Thumbs.db", "test/dog/._9.png", "test/dog/notes"):
        (root / junk).write_bytes(b"junk")
    (root / "train" / "__MACOSX").mkdir()
    (root / "train" / ".cache").mkdir()

    train, test = data.from_directory(root)
    assert (len(train), len(test)) == (20, 10)
    assert test.class_names == train.class_names == ("cat", "dog")
    assert set(test.labels) == {1}
    np.testing.assert_array_equal(read_all(test)[4], np.asarray(picture(seed=14)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright(folder, orientation):
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = orientation
    picture(seed=1).save(folder / "cat" / "0.png", exif=exif)
    with PIL.Image.open(folder / "cat" / "0.png") as image:
        expected = np.asarray(PIL.ImageOps.exif_transpose(image))
    train, test = data.from_directory(folder)
    assert expected.tobytes() in {i.tobytes() for i in read_all(train) + read_all(test)}
    assert expected.shape == ((12, 20, 3) if orientation < 5 else (20, 12, 3))


KINDS = {
    "rgb.jpg": (lambda i: i, {"quality": 95}),
    "progressive.jpeg": (lambda i: i, {"progressive": True}),
    "grey.JPG": (lambda i: i.convert("L"), {}),
    "cmyk.jpg": (lambda i: i.convert("CMYK"), {}),
    "rgba.png": (see_through, {}),
    "grey_alpha.png": (lambda i: i.convert("LA"), {}),
    "palette.png": (lambda i: i.convert("P"), {}),
    "bits.png": (lambda i: i.convert("1"), {}),
    "rgb.bmp": (lambda i: i, {}),
    "grey.bmp": (lambda i: i.convert("L"), {}),
    "rgba.bmp": (see_through, {}),
    "still.gif": (lambda i: i, {}),
    "moving.gif": (lambda i: i, {"save_all": True, "append_images": [picture(seed=9)]}),
    "rgb.webp": (lambda i: i, {}),
    "rgba.webp": (see_through, {"lossless": True, "exact": True}),
    "really_a_png.jpg": (lambda i: i, {"format": "PNG"}),
}


def test_every_kind_of_image_looks_as_in_pillow(tmp_path):
    (tmp_path / "train" / "all").mkdir(parents=True)
    (tmp_path / "test").symlink_to(tmp_path / "train")
    for name, (change, options) in KINDS.items():
        change(picture()).save(tmp_path / "train" / "all" / name, **options)
    train, _ = data.from_directory(tmp_path)
    for image, name in zip(read_all(train), sorted(KINDS), strict=True):
        with PIL.Image.open(tmp_path / "train" / "all" / name) as expected:
            lossy = expected.format == "JPEG"  # decoders differ in how they enlarge the chroma
            expected = np.asarray(expected.convert("RGB")).astype(int)
        assert np.abs(image - expected).max() <= (12 if lossy else 0), name
        assert np.abs(image - expected).mean() <= 2, name


def test_sixteen_bits_become_eight(folder):
    deep = np.arange(240, dtype=np.uint16).reshape(12, 20) * 256 + 77
    PIL.Image.fromarray(deep).save(folder / "cat" / "0.png")
    expected = np.repeat(deep[..., None] // 256, 3, axis=2).astype(np.uint8).tobytes()
    assert expected in {i.tobytes() for part in data.from_directory(folder) for i in read_all(part)}


def damaged_exif():
    photo = io.BytesIO()
    picture().save(photo, "JPEG", exif=b"Exif\0\0no EXIF at all")
    return photo.getvalue()


def test_damaged_metadata_is_no_reason_to_refuse_a_photo(folder):
    (folder / "cat" / "0.jpg").write_bytes(damaged_exif())
    train, test = data.from_directory(folder)
    assert len(train) + len(test) == 21


def spoil(folder, name, content=b""):
    """Writes a file into the class cat, or truncates the one that is there to `content` bytes."""
    path = folder / "cat" / name
    path.write_bytes(path.read_bytes()[:content] if isinstance(content, int) else content)


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: spoil(f, "3.png", 300), r"photos/cat/3.png cannot be read: .*; repair it"),
        (lambda f: [spoil(f, f"{i}.png", 90) for i in (2, 5, 7)], r"2.png \(and 2 others\) cannot"),
        (lambda f: spoil(f, "x.jpg", saved(picture(), format="JPEG")[:-99]), "x.jpg cannot"),
        (lambda f: spoil(f, "x.jpg"), "x.jpg cannot"),
        (lambda f: spoil(f, "x.jpg", saved(picture(), format="TIFF")), "x.jpg cannot.*Unknown"),
        (lambda f: (f / "cat" / "x.jpg").symlink_to(f / "gone"), "x.jpg cannot.*No such file"),
        (lambda f: picture().convert("P").save(f / "cat" / "x.bmp"), "x.bmp cannot .* palette"),
        (
            lambda f: picture().save(
                f / "cat" / "x.webp", save_all=True, append_images=[picture(seed=2)]
            ),
            "x.webp cannot .* animated WebP",
        ),
        (
            lambda f: [spoil(f, name) for name in ("b.HEIC", "a.tif", "c.heic")],
            r"3 images in formats .* \(.heic, .tif\), the first being .*a.tif; convert",
        ),
        (lambda f: (f / "bird").mkdir(), "class folder .*/bird holds no images"),
        (lambda f: (f / "cat").rename(f / "test"), None),
        (
            lambda f: [(f / "cat").rename(f / "test"), (f / "dog").rename(f / "train")],
            "holds no cl",
        ),
    ],
)
def test_bad_folders_are_refused(folder, change, message):
    change(folder)
    if message is None:  # a class may be called test
        assert data.from_directory(folder)[0].class_names == ("dog", "test")
        return
    with pytest.raises(data.DataError, match=message) as error:
        data.from_directory(folder)
    assert "\n" not in str(error.value)


def test_folders_without_class_folders_are_refused(tmp_path):
    with pytest.raises(data.DataError, match="is not a folder"):
        data.from_directory(tmp_path / "missing")
    with pytest.raises(data.DataError, match="holds no class folders"):
        data.from_directory(tmp_path)


def test_a_class_to_test_must_be_a_class_to_train(folder):
    (folder / "train" / "cat").mkdir(parents=True)
    (folder / "test").mkdir()
    (folder / "dog").rename(folder / "test" / "dog")
    with pytest.raises(data.DataError, match=r"has classes that .*/train lacks \(dog\)"):
        data.from_directory(folder)


# Tables


def write(folder, *lines, name="table.csv", encoding="utf-8"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def contents(images):
    """{pixels: class names} of a set."""
    labels = images.labels.toarray() if images.multi_label else np.eye(9, dtype=bool)[images.labels]
    return {
        image.tobytes(): {images.class_names[label] for label in np.flatnonzero(row)}
        for image, row in zip(read_all(images), labels, strict=True)
    }


def pixels(seed):
    return np.asarray(picture(seed=seed)).tobytes()


def test_a_table_of_images_with_one_class_each(folder):
    lines = [f"dog/{i}.png,wolf" for i in range(10)] + [f"cat/{i}.png, äffin " for i in range(10)]
    path = write(folder, "image,label", *lines, encoding="utf-8-sig")
    train, test = data.from_csv(path, test_fraction=0.3, seed=5)
    assert (train.name, test.name) == ("table/train", "table/test")
    assert train.class_names == ("wolf", "äffin")
    assert train.image_size == (12, 20)
    assert np.bincount(test.labels).tolist() == [3, 3]
    assert contents(train) | contents(test) == {
        pixels(s): {"wolf" if s >= 10 else "äffin"} for s in range(20)
    }


def test_a_table_with_several_classes_an_image_and_its_own_split(folder):
    path = write(
        folder,
        "Source, label ,split,image",
        f"web,tail | paw,train,{folder}/cat/0.png",
        "",
        '"a, b",paw,train,cat/1.png',
        "web,,train,cat/2.png",
        "web,tail||tail,test,dog/../dog/3.png",
    )
    train, test = data.from_csv(path)
    assert train.multi_label
    assert test.multi_label
    assert train.class_names == test.class_names == ("paw", "tail")
    assert contents(train) == {pixels(0): {"paw", "tail"}, pixels(1): {"paw"}, pixels(2): set()}
    assert contents(test) == {pixels(13): {"tail"}}

    one_each = write(folder, "image,label,split", "cat/0.png,a,train", "cat/1.png,a,test")
    assert [part.multi_label for part in data.from_csv(one_each)] == [False, False]
    without_split = write(
        folder, "image,label", *(f"cat/{i}.png,{'a|b' if i else ''}" for i in range(10))
    )
    assert [len(part) for part in data.from_csv(without_split)] == [8, 2]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], r"must name the columns image and label, .* got \[\]"),
        (["image;label", "cat/0.png;a"], r"separated by commas, got \['image;label'\]"),
        (["image,class", "cat/0.png,a"], r"got \['image', 'class'\]"),
        (["image,label"], "table.csv names no images; add a line"),
        (["image,label", "cat/0.png,", "cat/1.png, | "], "no line of .*table.csv names a class"),
        (["image,label", "cat/0.png,a", "", "cat/1.png"], "line 4 of .* a cell for each column"),
        (["image,label", "cat/0.png,a,b"], "line 2 of .* with commas into double quotes"),
        (
            ["image,label", "cat/0.png,a", "cow/1.png,a"],
            "line 3 of .* not exist, .*cow/1.png; give",
        ),
        (["image,label", ",a"], "line 2 of .* an image that does not exist"),
        (["image,label", "cat,a"], "line 2 of .* an image that does not exist, .*photos/cat;"),
        (
            ["image,label", "cat/0.png,a", "./cat/0.png,b"],
            "line 3 of .*cat/0.png again, after line 2",
        ),
        (["image,label,split", "cat/0.png,a,val"], "line 2 of .* column split, got 'val'"),
        (["image,label,split", "cat/0.png,a,"], "line 2 of .* column split, got ''"),
        (["image,label,split", "cat/0.png,a,train"], "table/test holds no images"),
        (
            ["image,label,split", "cat/0.png,a,train", "cat/1.png,b,test", "cat/2.png,c,test"],
            r"table/train has no images of 2 of its 3 classes \('b', 'c'\); mark",
        ),
        (
            ["image,label,split", "cat/0.png,a|b,train", "cat/1.png,c,test"],
            r"table/train has no images of 1 of its 3 classes \('c'\); mark",
        ),
        (["image,label", "cat/0.png,a", "cat/1.png,b"], "class 'a' of table has 1 images"),
        (["image,label", '"cat/0.png,a', "cat/1.png,a"], "is not a CSV file in UTF-8"),
        (["image,label", "table.csv,a"], "table.csv cannot be read: "),
        (["image,label", "cat/photo.heic,a"], "table holds 1 images in formats that cannot be"),
    ],
)
def test_bad_tables_are_refused(folder, lines, message):
    spoil(folder, "photo.heic")
    with pytest.raises(data.DataError, match=message) as error:
        data.from_csv(write(folder, *lines))
    assert "\n" not in str(error.value)


def test_what_is_no_table_is_refused(folder):
    with pytest.raises(data.DataError, match=r"gone.csv is not a file; give a CSV file"):
        data.from_csv(folder / "gone.csv")
    with pytest.raises(data.DataError, match=r"not a CSV file in UTF-8 \('utf-8' codec"):
        data.from_csv(write(folder, "image,label", "cat/0.png,ä", encoding="latin-1"))


# Names


def test_names_lead_to_folders_and_tables(folder):
    assert data.from_name(str(folder))[0].class_names == ("cat", "dog")
    path = write(folder, "image,label", *(f"cat/{i}.png,{i % 2}" for i in range(10)), name="a.CSV")
    train, test = data.from_name(str(path), examples_per_class=3)
    assert np.bincount(train.labels).tolist() == [3, 3]
    assert len(test) == 2
    write(folder, "image,label", *(f"cat/{i}.png,a|b" for i in range(10)), name="a.CSV")
    with pytest.raises(data.DataError, match="cannot be chosen from a/train, whose images may"):
        data.from_name(str(path), examples_per_class=3)


def test_only_an_unknown_name_may_have_been_meant_as_a_folder(tmp_path, monkeypatch):
    with pytest.raises(data.DataError, match=r"no folder 'cifar_10', and .* mean cifar10"):
        data.from_name("cifar_10")
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    with pytest.raises(data.DataError, match=r"^imagenet2012 cannot be prepared: Manual dir"):
        data.from_name("imagenet2012")  # whose files must be fetched by hand
    with tfds.testing.mock_data(), pytest.raises(data.DataError, match=r"^clevr must have an"):
        data.from_name("clevr")


def same(images, others):
    assert (images.name, images.class_names) == (others.name, others.class_names)
    assert images.labels.tolist() == others.labels.tolist()
    assert images.fingerprint == others.fingerprint
    for one, other in zip(read_all(images), read_all(others), strict=True):
        np.testing.assert_array_equal(one, other)


def test_digits_are_evaluated_on_those_that_are_not_trained_on():
    same(data.evaluation_images("digits"), data.from_name("digits")[1])


def test_a_folder_of_class_folders_is_evaluated_on_whole(folder):
    images = data.evaluation_images(str(folder))
    assert (images.name, images.class_names) == ("photos", ("cat", "dog"))
    assert images.labels.tolist() == [0] * 10 + [1] * 10
    np.testing.assert_array_equal(read_all(images)[13], np.asarray(picture(seed=13)))


def test_a_folder_is_evaluated_on_its_test_images_alone(folder, tmp_path):
    root = tmp_path / "parts"
    root.mkdir()
    folder.rename(root / "test")
    alone = data.evaluation_images(f"{root}/")
    assert (alone.name, len(alone), alone.class_names) == ("parts/test", 20, ("cat", "dog"))
    for name in ("ant", "cat", "dog"):
        (root / "train" / name).mkdir(parents=True)
        picture(seed=99).save(root / "train" / name / "0.png")
    images = data.evaluation_images(str(root))
    same(images, data.from_name(str(root))[1])
    assert images.labels.tolist() == [1] * 10 + [2] * 10  # of ant, cat and dog
    (root / "train" / "ant" / "broken.png").write_bytes(b"")
    (root / "train" / "ant" / "photo.heic").touch()
    same(data.evaluation_images(str(root)), images)
    with pytest.raises(data.DataError, match="formats that cannot be read"):
        data.from_name(str(root))
    (root / "test" / "cat" / "broken.png").write_bytes(b"")
    with pytest.raises(data.DataError, match=r"broken.png cannot be read"):
        data.evaluation_images(str(root))


def test_folders_with_nothing_to_evaluate_on_are_refused(folder, tmp_path):
    with pytest.raises(data.DataError, match=r"gone is not a folder; give a folder of class fold"):
        data.evaluation_images(f"{tmp_path}/gone/")
    (folder / "test").mkdir()
    with pytest.raises(data.DataError, match=r"photos/test holds no images; put images"):
        data.evaluation_images(str(folder))  # a class folder among others
    root = tmp_path / "parts"
    (root / "train" / "cat").mkdir(parents=True)
    with pytest.raises(data.DataError, match=r"parts holds train and no test; rename"):
        data.evaluation_images(str(root))
    (root / "test").mkdir()
    with pytest.raises(data.DataError, match=r"parts/test holds no class folders; put the"):
        data.evaluation_images(str(root))
    picture().save(root / "test" / "0.png")
    with pytest.raises(data.DataError, match=r"parts/test holds no class folders but 1 images;"):
        data.evaluation_images(str(root))


def test_a_table_is_evaluated_on_its_test_lines(folder):
    header = "image,label,split"
    lines = [
        f"{c}/{i}.png,{c},{'test' if i % 3 == 0 else 'train'}"
        for c in ("cat", "dog")
        for i in range(10)
    ]
    path = str(write(folder, header, *lines))
    images = data.evaluation_images(path)
    expected = data.from_csv(path)[1]
    assert (images.name, images.class_names) == ("table/test", ("cat", "dog"))
    assert images.labels.tolist() == expected.labels.tolist() == [0] * 4 + [1] * 4
    for one, other in zip(read_all(images), read_all(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    (folder / "dog" / "1.png").write_bytes(b"")  # to train on, and not read
    write(folder, header, "dog/1.png,dog,train", "cat/1.png,cat|ant,train", "cat/0.png,cat,test")
    images = data.evaluation_images(path)
    assert images.class_names == ("ant", "cat", "dog")
    assert images.labels.toarray().tolist() == [[False, True, False]]
    with pytest.raises(data.DataError, match=r"table.csv marks no image as test; put test into"):
        data.evaluation_images(str(write(folder, header, "cat/0.png,cat,train")))


def test_a_table_without_splits_is_evaluated_on_whole(folder):
    lines = (f"{c}/{i}.png,{c}" for c in ("dog", "cat") for i in range(3))
    images = data.evaluation_images(str(write(folder, "image,label", *lines)))
    assert (images.name, images.labels.tolist()) == ("table", [1] * 3 + [0] * 3)


# TensorFlow Datasets


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """Two data sets that TFDS itself has written: 40 and 10 PNGs of two sizes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_datasets as tfds

    class TinyPictures(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["even", "odd"]),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(40), "holdout": self._generate_examples(10)}

        def _generate_examples(self, count):
            for i in range(count):
                image = np.asarray(picture(6, 10 if i % 4 else 30, seed=i))
                yield i, {"image": image, "label": i % 2}

    class TinyScenes(TinyPictures):
        """Image i shows the divisors of i among 2, 3 and 5; the last two are of the class 7."""

        def _info(self):
            features = {
                "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=[*"2357"])),
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _generate_examples(self, count):
            for i, example in super()._generate_examples(count):
                shown = [c for c, n in enumerate([2, 3, 5]) if i % n == 0]
                labels = shown + [3] * (i >= count - 2)
                yield i, {"image": example["image"], "labels": labels}

    directory = tmp_path_factory.mktemp("tfds")
    three_files = tfds.download.DownloadConfig(num_shards=3)
    TinyPictures(data_dir=directory).download_and_prepare(download_config=three_files)
    TinyScenes(data_dir=directory).download_and_prepare()
    return directory


def test_tfds_images_are_read_in_order(tfds_dir):
    import tensorflow_datasets as tfds

    train, test = data.from_tfds(
        "tiny_pictures", train_split="train[:75%]", test_split="holdout", data_dir=tfds_dir
    )
    assert (len(train), len(test)) == (30, 10)
    assert train.name == "tiny_pictures/train[:75%]"
    assert train.class_names == ("even", "odd")
    assert train.image_size == (6, 10)
    examples = tfds.load(
        "tiny_pictures", split="train[:75%]", data_dir=tfds_dir
    ).as_numpy_iterator()
    for image, label, example in zip(read_all(train), train.labels, examples, strict=True):
        np.testing.assert_array_equal(image, example["image"])
        assert label == example["label"]


def test_tfds_images_with_several_classes(tfds_dir):
    train, test = data.from_tfds("tiny_scenes", test_split="holdout", data_dir=tfds_dir)
    assert train.class_names == test.class_names == ("2", "3", "5", "7")
    for part, count in ((train, 40), (test, 10)):
        number_of = {
            np.asarray(picture(6, 10 if i % 4 else 30, seed=i)).tobytes(): i for i in range(count)
        }
        i = np.array([number_of[image.tobytes()] for image in read_all(part)])
        expected = np.stack([i % 2 == 0, i % 3 == 0, i % 5 == 0, i >= count - 2], 1)
        np.testing.assert_array_equal(part.labels.toarray(), expected)
        assert not expected.any(1).all()


def test_voc_has_several_classes_an_image():
    black = tf.io.encode_png(np.zeros((28, 28, 3), np.uint8))

    def all_up_to(builder, **options):
        numbers = tf.data.Dataset.range(20)
        return numbers.map(lambda i: {"image": black, "labels": tf.range(i + 1)})

    with tfds.testing.mock_data(as_dataset_fn=all_up_to):
        train, _ = data.from_tfds("voc/2007")
    np.testing.assert_array_equal(train.labels.toarray(), np.tri(20))
    assert train.class_names[14] == "person"


def test_tfds_training_images_show_every_class(tfds_dir):
    names = {"train_split": "train[:5%]", "test_split": "holdout", "data_dir": tfds_dir}
    with pytest.raises(
        data.DataError, match=r"train\[:5%\] has no images of . of its 4 classes .*larger part"
    ):
        data.from_tfds("tiny_scenes", **names)
    names |= {"train_split": "train[:1]"}
    with pytest.raises(data.DataError, match=r"train\[:1\] has no images of 1 of its 2 classes"):
        data.from_tfds("tiny_pictures", **names)
    assert len(data.from_tfds("tiny_pictures", **(names | {"train_split": "train"}))[0]) == 40
    with (
        tfds.testing.mock_data(num_examples=8),
        pytest.raises(
            data.DataError, match=r"cifar100/train\[:1%\] has no images of 9\d of its 10"
        ),
    ):
        data.from_tfds("cifar100", train_split="train[:1%]")


def test_tfds_splits_are_checked(tfds_dir):
    with pytest.raises(data.DataError, match="no split 'test', only holdout, train"):
        data.from_tfds("tiny_pictures", data_dir=tfds_dir)
    with pytest.raises(data.DataError, match="is empty"):
        data.from_tfds("tiny_pictures", test_split="holdout[:0]", data_dir=tfds_dir)


def test_tfds_files_of_another_format_are_refused(tfds_dir, tmp_path):
    options = {"data_dir": tmp_path, "file_format": "array_record"}
    tfds.builder("tiny_pictures", **options).download_and_prepare()
    with pytest.raises(data.DataError, match="as array_record, and only TFRECORD files are read"):
        data.from_tfds("tiny_pictures", test_split="holdout", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["tiny_pictures", "tiny_scenes"])
def test_tfds_images_above_the_limit_stay_on_disk(name, tfds_dir, monkeypatch):
    options = {"train_split": "train[10%:]", "test_split": "holdout", "data_dir": tfds_dir}
    in_memory = data.from_tfds(name, **options)
    monkeypatch.setattr("bit_keras.data.tfds_builder.MEMORY_LIMIT", 10)
    on_disk = data.from_tfds(name, **options)
    for expected, part in zip(in_memory, on_disk, strict=True):
        assert (part.image_size, part.fingerprint) == (expected.image_size, expected.fingerprint)
        difference = part.labels != expected.labels
        assert not (difference.nnz if part.multi_label else difference.any())
        for image, same in zip(read_all(part), read_all(expected), strict=True):
            np.testing.assert_array_equal(image, same)
    for file in (tfds_dir / name).rglob("*holdout*"):  # now they are read
        content = file.read_bytes()
        file.write_bytes(b"\0" * len(content))
        with pytest.raises(tf.errors.OpError):
            read_all(on_disk[1])
        file.write_bytes(content)
    assert len(read_all(on_disk[1])) == 10


def test_records_of_several_files_are_read_by_their_places(tmp_path):
    random = np.random.default_rng(0)
    records = [[random.bytes(n) for n in sizes] for sizes in ([5, 0, 70_000], [1, 300])]
    for name, content in zip("ab", records, strict=True):
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            for record in content:
                writer.write(record)
    places = [("b", 1), ("a", 2), ("a", 0), ("b", 0), ("a", 1), ("a", 2)]
    read = record_reader(tmp_path, places)
    found = [*tf.data.Dataset.range(6).map(read, num_parallel_calls=2).as_numpy_iterator()]
    assert found == [records["ab".index(name)][number] for name, number in places]


@pytest.mark.parametrize(
    ("name", "splits", "num_classes"),
    [
        ("cifar10", ("train[:98%]", "test"), 10),
        ("imagenet2012", ("train[:99%]", "validation"), 1000),
        ("mnist", ("train", "test"), 10),
    ],
)
def test_tfds_default_splits(name, splits, num_classes):
    black = tf.io.encode_png(np.zeros((28, 28, 3), np.uint8))

    def one_a_class(builder, **options):
        labels = tf.data.Dataset.range(num_classes)
        return labels.map(lambda label: {"image": black, "label": label})

    with tfds.testing.mock_data(as_dataset_fn=one_a_class):
        parts = data.from_tfds(name)
    for part, split in zip(parts, splits, strict=True):
        assert part.name == f"{name}/{split}"
        assert part.num_classes == len(part) == num_classes
        assert part.image_size == ((32, 32) if name == "cifar10" else (28, 28))


def test_tfds_names_and_features_are_checked():
    import tensorflow_datasets as tfds

    with pytest.raises(data.DataError, match="has no 'cifar_10'; did you mean cifar10"):
        data.from_tfds("cifar_10")
    with tfds.testing.mock_data(), pytest.raises(data.DataError, match=r"features are .*objects"):
        data.from_tfds("clevr")


def test_importing_the_room_loads_nothing_optional():
    # TensorFlow itself loads scikit-learn where it is installed.
    code = """
import sys, tensorflow
before = {*sys.modules}
import bit_keras.data
print({"sklearn", "tensorflow_datasets", "matplotlib"} & ({*sys.modules} - before))
"""
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "set()"


def test_fingerprints_tell_images_apart(tmp_path):
    images = np.zeros((6, 32, 32, 3), np.uint8)
    labels = np.array([0, 1] * 3)
    one = data.from_arrays(images, labels, test=(images, labels))[0]
    images[3, 5, 5] = 1
    two = data.from_arrays(images, labels, test=(images, labels))[0]
    found = {one.fingerprint, two.fingerprint, one.few_shot(1, 0).fingerprint}
    assert len(found | {one.few_shot(1, 1).fingerprint}) == 4
    assert one.few_shot(1, 1).fingerprint == one.few_shot(1, 1).fingerprint


def test_a_folder_with_train_but_no_test_says_so(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part / "cat").mkdir(parents=True)
    with pytest.raises(data.DataError, match="holds train and val and no test; rename"):
        data.from_directory(tmp_path)


def test_what_tfds_needs_for_a_real_download_is_installed():
    assert tfds.builder("cifar10").url_infos  # reads its checksums, as preparing does first


# Names of TensorFlow Datasets


def test_tfds_names_are_evaluated_on_their_test_split_alone(tfds_dir, monkeypatch):
    monkeypatch.setitem(
        data.tfds_builder.DEFAULT_SPLITS, "tiny_pictures", ("no such split", "holdout")
    )
    images = data.evaluation_images("tiny_pictures", data_dir=tfds_dir)
    same(images, data.from_tfds("tiny_pictures", train_split="train", data_dir=tfds_dir)[1])
    with pytest.raises(
        data.DataError, match=r"has no split 'test', only holdout, train; pass from"
    ):
        data.evaluation_images("tiny_scenes", data_dir=tfds_dir)


def test_imagenet2012_is_evaluated_on_its_validation_images():
    black = tf.io.encode_png(np.zeros((8, 8, 3), np.uint8))
    asked = []

    def two(builder, split, **options):
        asked.append(split)
        return tf.data.Dataset.range(2).map(lambda label: {"image": black, "label": label})

    with tfds.testing.mock_data(as_dataset_fn=two):
        images = data.evaluation_images("imagenet2012")
    assert asked == ["validation"]
    assert (len(images), images.num_classes) == (2, 1000)  # not every class has an image


@pytest.fixture(scope="module")
def smallnorb_dir(tmp_path_factory):
    """As TFDS itself has written it, of black images."""
    directory = tmp_path_factory.mktemp("tfds")
    builder = tfds.builder("smallnorb", data_dir=directory)
    black = np.zeros((96, 96, 1), np.uint8)

    def examples(count):
        for i in range(count):
            labels = {"category": 0, "elevation": i % 9, "azimuth": i % 18, "lighting": 0}
            pictures = {"image": black, "image2": black, "instance": 0}
            yield i, pictures | {f"label_{key}": label for key, label in labels.items()}

    with pytest.MonkeyPatch.context() as patch:
        parts = {"train": examples(803), "test": examples(410)}
        patch.setattr(type(builder), "_split_generators", lambda self, _: parts)
        builder.download_and_prepare()
    return directory


def test_vtab_tasks_have_names(smallnorb_dir, monkeypatch, tmp_path):
    train, test = data.from_vtab("smallnorb-azimuth", data_dir=smallnorb_dir)
    same(data.evaluation_images("vtab/smallnorb-azimuth", data_dir=smallnorb_dir), test)
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(smallnorb_dir))
    for found, expected in zip(
        data.from_name("vtab/smallnorb-azimuth"), (train, test), strict=True
    ):
        same(found, expected)
    with pytest.raises(data.DataError, match=r"^VTAB has no task 'dtdd'; did you mean dtd\?$"):
        data.evaluation_images("vtab/dtdd")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vtab" / "dtd").mkdir(parents=True)
    with pytest.raises(data.DataError, match=r"vtab/dtd holds no class folders"):
        data.evaluation_images("vtab/dtd")  # an existing folder is what is meant


@pytest.mark.parametrize("read", [data.from_name, data.evaluation_images])
@pytest.mark.parametrize("name", ["cifar_10", "cifar-10", "cifer10/x", "cifar10.tar"])
def test_names_that_tfds_does_not_know_may_have_been_meant_as_folders(name, read):
    with pytest.raises(
        data.DataError, match=rf"^there is no folder '{name}', and .*mean cifar10"
    ) as e:
        read(name)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["cifar10/small", "cifar10:9.9.9"])
def test_names_that_tfds_knows_were_not_meant_as_folders(name):
    with pytest.raises(
        data.DataError, match=rf"^{name} is not a data set of TFDS: .* not found|only"
    ):
        data.evaluation_images(name)


def test_what_must_be_fetched_by_hand_is_told(tmp_path):
    manual = tmp_path / "downloads" / "manual"
    files = r"ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar"
    with pytest.raises(
        data.DataError,
        match=rf"^imagenet2012 cannot be prepared: .*not exist .* goes into {manual} .*{files}",
    ) as error:
        data.evaluation_images("imagenet2012", data_dir=tmp_path)
    assert "\n" not in str(error.value)
    manual.mkdir(parents=True)
    (manual / "ILSVRC2012_img_train.tar").touch()
    with pytest.raises(
        data.DataError,
        match=rf"^imagenet2012 cannot be prepared: .*{manual}/ILSVRC2012_img_val.tar",
    ):
        data.evaluation_images("imagenet2012", data_dir=tmp_path)
