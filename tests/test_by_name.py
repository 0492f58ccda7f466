"""Data sets by the name or path that a user types, for training and for testing."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from pictures import picture, read_all, same, write_table

import bit_keras
from bit_keras import data


def test_names_lead_to_folders_and_tables(folder):
    assert data.from_name(str(folder))[0].class_names == ("cat", "dog")
    path = write_table(
        folder, "image,label", *(f"cat/{i}.png,{i % 2}" for i in range(10)), name="a.CSV"
    )
    train, test = data.from_name(str(path), examples_per_class=3)
    assert np.bincount(train.labels).tolist() == [3, 3]
    assert len(test) == 2
    write_table(folder, "image,label", *(f"cat/{i}.png,a|b" for i in range(10)), name="a.CSV")
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
    with pytest.raises(data.DataError, match=r"2 images of 25 cannot be read"):
        data.from_name(str(root))
    (root / "test" / "cat" / "broken.png").write_bytes(b"")
    with pytest.raises(data.DataError, match=r"broken.png \(cannot identify"):
        data.evaluation_images(str(root))


def test_folders_with_nothing_to_evaluate_on_are_refused(folder, tmp_path):
    with pytest.raises(data.DataError, match=r"gone is not a folder; give a folder of class fold"):
        data.evaluation_images(f"{tmp_path}/gone/")
    (folder / "test").mkdir()
    with pytest.raises(data.DataError, match=r"photos/test holds no images; put images"):
        data.evaluation_images(str(folder))  # a class folder among others
    root = tmp_path / "parts"
    (root / "train" / "cat").mkdir(parents=True)
    with pytest.raises(data.DataError, match=r"parts holds train and no test; put the images to"):
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
    path = str(write_table(folder, header, *lines))
    images = data.evaluation_images(path)
    expected = data.from_csv(path)[1]
    assert (images.name, images.class_names) == ("table/test", ("cat", "dog"))
    assert images.labels.tolist() == expected.labels.tolist() == [0] * 4 + [1] * 4
    for one, other in zip(read_all(images), read_all(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    (folder / "dog" / "1.png").write_bytes(b"")  # to train on, and not read
    write_table(
        folder, header, "dog/1.png,dog,train", "cat/1.png,cat|ant,train", "cat/0.png,cat,test"
    )
    images = data.evaluation_images(path)
    assert images.class_names == ("ant", "cat", "dog")
    assert images.labels.toarray().tolist() == [[False, True, False]]
    with pytest.raises(data.DataError, match=r"table.csv marks no image as test; put test into"):
        data.evaluation_images(str(write_table(folder, header, "cat/0.png,cat,train")))


def test_a_table_without_splits_is_evaluated_on_whole(folder):
    lines = (f"{c}/{i}.png,{c}" for c in ("dog", "cat") for i in range(3))
    images = data.evaluation_images(str(write_table(folder, "image,label", *lines)))
    assert (images.name, images.labels.tolist()) == ("table", [1] * 3 + [0] * 3)


def test_tfds_names_are_evaluated_on_their_test_split_alone(tfds_dir, monkeypatch):
    monkeypatch.setitem(
        data.sources.tfds.DEFAULT_SPLITS, "tiny_pictures", ("no such split", "holdout")
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
    black = tf.io.encode_png(np.zeros((96, 96, 1), np.uint8)).numpy()

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
        data.DataError, match=rf"^{name} is not a data set of TFDS: .* (not found|only)"
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


def test_public_functions_say_what_they_want_in_place_of_what_they_got(folder, tmp_path):
    pair = data.from_directory(folder)
    train, _ = pair
    for given, message in (
        (pair, r"train is the pair \(train, test\); unpack it"),
        (
            data.test_batches(train, batch=4, size=32),
            r"make them by bit_keras\.data\.from",
        ),
        (np.zeros((4, 8, 8, 3)), "and not a ndarray"),
    ):
        with pytest.raises(data.DataError, match=message):
            bit_keras.fine_tune("BiT-XS-R26x0.25", given, workdir=tmp_path / "run")
    with pytest.raises(data.DataError, match="images is the pair"):
        bit_keras.evaluate("BiT-XS-R26x0.25", pair)
    assert len(data.labeled_images(str(folder), "images")) == 20
    assert not (tmp_path / "run").exists()
