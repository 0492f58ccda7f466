"""TensorFlow Datasets, read as TFDS itself reads them."""

import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from pictures import picture, read_all, same

from bit_keras import data
from bit_keras.data.sources.tfrecords import record_reader


def test_tfds_images_are_read_in_order(tfds_dir):
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


def test_a_tfds_name_without_a_test_split_has_test_images(tfds_dir):
    train, test = data.from_tfds("tiny_validation", data_dir=tfds_dir)
    assert (len(train), len(test), test.name) == (40, 8, "tiny_validation/validation")
    train, test = data.from_tfds("tiny_train", data_dir=tfds_dir)
    assert (len(train), len(test), test.name) == (32, 8, "tiny_train/train/test")
    assert np.bincount(test.labels).tolist() == [4, 4]
    same(test, data.evaluation_images("tiny_train", data_dir=tfds_dir))
    whole, part = data.from_tfds("tiny_train", test_split="train[:10]", data_dir=tfds_dir)
    assert (len(whole), len(part)) == (40, 10)


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
    monkeypatch.setattr("bit_keras.data.sources.tfds.MEMORY_LIMIT", 10)
    on_disk = data.from_tfds(name, **options)
    for expected, part in zip(in_memory, on_disk, strict=True):
        assert (part.image_size, part.fingerprint) == (expected.image_size, expected.fingerprint)
        difference = part.labels != expected.labels
        assert not (difference.nnz if part.multi_label else difference.any())
        for image, other in zip(read_all(part), read_all(expected), strict=True):
            np.testing.assert_array_equal(image, other)
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


@pytest.mark.parametrize(
    "name",
    [
        *("i_naturalist2017", "i_naturalist2018", "imagenet2012", "places365_small"),
        "visual_domain_decathlon/svhn",
    ],
)
def test_tfds_images_without_labels_are_not_tested_on(name):
    """TFDS marks the test images of these sets -1, as its builders' sources say."""
    black = tf.io.encode_png(np.zeros((8, 8, 3), np.uint8))

    def one_a_class(builder, split, **options):
        labels = tf.data.Dataset.range(builder.info.features["label"].num_classes)
        unknown = "test" in split
        return labels.map(lambda label: {"image": black, "label": -1 if unknown else label})

    with tfds.testing.mock_data(as_dataset_fn=one_a_class):
        tests = data.from_tfds(name)[1], data.evaluation_images(name)
        with pytest.raises(data.DataError, match=r"^the split 'test' of .* without labels; pass f"):
            data.from_tfds(name, test_split="test")
    for test in tests:
        assert test.name == f"{name.split('/')[0]}/validation"
        assert test.labels.tolist() == [*range(test.num_classes)]


def test_tfds_names_and_features_are_checked():
    import tensorflow_datasets as tfds

    with pytest.raises(data.DataError, match="has no 'cifar_10'; did you mean cifar10"):
        data.from_tfds("cifar_10")
    with tfds.testing.mock_data(), pytest.raises(data.DataError, match=r"features are .*objects"):
        data.from_tfds("clevr")


def test_what_tfds_needs_for_a_real_download_is_installed():
    assert tfds.builder("cifar10").url_infos  # reads its checksums, as preparing does first


def test_a_host_that_is_not_there_is_told_at_once(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)  # or the proxy would be asked
    url = "http://pictures.invalid/tiny.zip"  # RFC 2606: no host has such a name

    class TinyElsewhere(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        url_infos = {url: None}  # noqa: RUF012 (as TFDS reads it from a file of checksums)

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=2),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            dl_manager.download(url)

        def _generate_examples(self):
            yield from ()

    start = time.monotonic()
    with pytest.raises(data.DataError, match=r"is not in .*, and pictures\.invalid cannot be"):
        data.from_tfds("tiny_elsewhere", data_dir=tmp_path)
    assert time.monotonic() - start < 60  # TFDS itself takes 204 seconds
