"""Boxes of TensorFlow Datasets, as TFDS itself reads them."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from boxes import of_image
from pictures import picture, read_all

from bit_keras import data
from bit_keras.data import DataError


@pytest.fixture(scope="module")
def boxes_dir(tmp_path_factory):
    """A data set that TFDS itself has written: 12 and 4 PNGs of two sizes; image 3 has no box."""

    class TinyBoxes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            objects = {
                "bbox": tfds.features.BBoxFeature(),
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                "is_crowd": np.bool_,
                "area": np.int64,
            }
            features = {
                "image": tfds.features.Image(encoding_format="png"),
                "image/id": np.int64,
                "objects": tfds.features.Sequence(objects),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(12), "test": self._generate_examples(4)}

        def _generate_examples(self, count):
            for i in range(count):
                objects = [
                    {
                        "bbox": tfds.features.BBox(0.25, 0.1 * k, 0.5, 0.1 * k + 0.5),
                        "label": (i + k) % 2,
                        "is_crowd": k == 2,
                        "area": 5 + k,
                    }
                    for k in range(0 if i == 3 else 1 + i % 3)
                ]
                if i == 1:  # without area
                    bbox = tfds.features.BBox(0.25, 0.5, 0.25, 0.75)
                    objects.append({"bbox": bbox, "label": 0, "is_crowd": False, "area": 0})
                image = np.asarray(picture(8, 10 if i % 2 else 20, seed=i))
                yield i, {"image": image, "image/id": 100 + i, "objects": objects}

    directory = tmp_path_factory.mktemp("tfds")
    TinyBoxes(data_dir=directory).download_and_prepare()
    return directory


def test_boxes_are_in_pixels(boxes_dir, capsys):
    train, test = data.from_boxed_tfds("tiny_boxes", data_dir=boxes_dir)
    assert (len(train), len(test), train.class_names) == (12, 4, ("cat", "dog"))
    assert "Left out: 1 of 24 boxes of tiny_boxes/train" in capsys.readouterr().err
    for i, (image_id, pixels) in enumerate(zip(train.image_ids, read_all(train), strict=True)):
        number = image_id - 100
        width = 10 if number % 2 else 20
        np.testing.assert_array_equal(pixels, picture(8, width, seed=number))
        expected = [
            ((number + k) % 2, [round(0.1 * k * width, 3), 2, (0.1 * k + 0.5) * width, 4], k == 2)
            for k in range(0 if number == 3 else 1 + number % 3)
        ]
        assert of_image(train, i) == expected
    assert {*train.areas.tolist()} == {5, 6, 7}


def test_images_above_the_limit_stay_on_disk(boxes_dir, monkeypatch):
    expected, _ = data.from_boxed_tfds("tiny_boxes", data_dir=boxes_dir)
    monkeypatch.setattr("bit_keras.data.sources.tfds.MEMORY_LIMIT", 10)
    on_disk, _ = data.from_boxed_tfds("tiny_boxes", data_dir=boxes_dir)
    assert on_disk.description() == expected.description()
    for image, other in zip(read_all(on_disk), read_all(expected), strict=True):
        np.testing.assert_array_equal(image, other)


def test_splits_are_checked(boxes_dir):
    options = {"data_dir": boxes_dir}
    train, _ = data.from_boxed_tfds("tiny_boxes", train_split="train[:50%]", **options)
    assert len(train) == 6
    with pytest.raises(DataError, match="has no split 'val'"):
        data.from_boxed_tfds("tiny_boxes", test_split="val", **options)
    with pytest.raises(DataError, match="TensorFlow Datasets has no 'tiny_bxes'"):
        data.from_boxed_tfds("tiny_bxes", **options)
    with pytest.raises(DataError, match="there is no folder 'tiny_bxes', and TensorFlow Datasets"):
        data.boxes_from_name("tiny_bxes")
    with pytest.raises(DataError, match="must have an `image`, and `objects`"):
        data.from_boxed_tfds("cifar10", **options)


@pytest.mark.parametrize(
    ("name", "crowd", "classes", "splits"),
    [
        ("coco/2017", "is_crowd", 80, ("train", "validation")),
        ("voc/2007", "is_difficult", 20, ("train+validation", "test")),
        ("voc/2012", "is_difficult", 20, ("train", "validation")),
    ],
)
def test_published_sets(name, crowd, classes, splits):
    image = tf.io.encode_png(np.zeros((10, 20, 3), np.uint8))
    asked = []

    def examples(builder, split=None, **options):
        asked.append(split)
        objects = {
            "bbox": tf.constant([[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]], tf.float32),
            "label": tf.constant([3, classes - 1], tf.int64),
            crowd: tf.constant([False, True]),
            "area": tf.constant([7, 8], tf.int64),
        }

        def example(i):  # the first image has one object, the others two
            some = {key: value[: 1 + tf.minimum(i, 1)] for key, value in objects.items()}
            name = tf.strings.as_string(i)
            return {"image": image, "image/id": i, "image/filename": name, "objects": some}

        return tf.data.Dataset.range(3).map(example)

    with tfds.testing.mock_data(as_dataset_fn=examples):
        train, _ = data.boxes_from_name(name)
    assert tuple(asked) == splits
    assert (len(train), train.num_classes) == (3, classes)
    assert of_image(train, 2) == [*((3, [4, 1, 12, 5], False), (classes - 1, [0, 0, 20, 10], True))]
    assert train.image_ids == ((0, 1, 2) if "coco" in name else ("0", "1", "2"))
    assert [len(of_image(train, i)) for i in range(3)] == [1, 2, 2]
    assert train.areas.tolist()[-2:] == ([7, 8] if "coco" in name else [32, 200])
