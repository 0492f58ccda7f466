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
import tensorflow as tf
import tensorflow_datasets as tfds

from bit_keras import data


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


def numbered(labels):
    """Three classes of images of one pixel, image i having the red value i."""
    images = np.zeros((len(labels), 1, 1, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    pixels = tf.constant(images)
    return data.LabeledImages(
        "numbered", np.array(labels), tuple("abc"), (1, 1), lambda i: tf.gather(pixels, i)
    )


def read_all(images):
    """Every image, through a tf.data map as in training."""
    return [image.numpy() for image in tf.data.Dataset.range(len(images)).map(images.read)]


def numbers(images):
    return [int(image[0, 0, 0]) for image in read_all(images)]


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
    ],
)
def test_impossible_sets_are_refused(call, message):
    with pytest.raises(data.DataError, match=message):
        call()


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
        ((IMAGES, np.eye(4)), r"integers of shape \[N\], got float64 of shape \[4, 4\]"),
        ((IMAGES, np.array(list("aabb"))), r"integers of shape \[N\]"),
        ((IMAGES, np.array([0, 0, 5, 5])), "got 0 .. 5"),
    ],
)
def test_wrong_arrays_are_refused(arguments, message):
    with pytest.raises(data.DataError, match=message):
        data.from_arrays(*arguments)


def test_a_class_without_training_images_is_refused():
    with pytest.raises(data.DataError, match="class 'z' has no training images"):
        data.from_arrays(IMAGES, LABELS, test=(IMAGES, LABELS), class_names=["x", "y", "z"])


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


# TensorFlow Datasets


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """A data set that TFDS itself has written: 40 and 10 PNGs of two sizes."""
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

    directory = tmp_path_factory.mktemp("tfds")
    TinyPictures(data_dir=directory).download_and_prepare()
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


def test_tfds_splits_are_checked(tfds_dir, monkeypatch):
    with pytest.raises(data.DataError, match="no split 'test', only holdout, train"):
        data.from_tfds("tiny_pictures", data_dir=tfds_dir)
    with pytest.raises(data.DataError, match="is empty"):
        data.from_tfds("tiny_pictures", test_split="holdout[:0]", data_dir=tfds_dir)
    monkeypatch.setattr("bit_keras.data.tfds_builder.MEMORY_LIMIT", 10)
    with pytest.raises(data.DataError, match=r"take .* GiB of memory"):
        data.from_tfds("tiny_pictures", test_split="holdout", data_dir=tfds_dir)


@pytest.mark.parametrize(
    ("name", "splits", "num_classes"),
    [
        ("cifar10", ("train[:98%]", "test"), 10),
        ("imagenet2012", ("train[:99%]", "validation"), 1000),
        ("mnist", ("train", "test"), 10),
    ],
)
def test_tfds_default_splits(name, splits, num_classes):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=5):
        parts = data.from_tfds(name)
    for part, split in zip(parts, splits, strict=True):
        assert part.name == f"{name}/{split}"
        assert part.num_classes == num_classes
        assert len(read_all(part)) == 5
        assert part.image_size == ((28, 28) if name == "mnist" else part.image_size)


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
