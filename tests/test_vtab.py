"""VTAB-1k: splits, labels and images of its 19 tasks."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from bit_keras import data
from bit_keras.models.published import PUBLISHED

# The number of examples in the splits of TFDS; classes and test images (Zhai et al. 2019, table 2).
CLEVR = {"train": 70_000, "validation": 15_000, "test": 15_000}
NORB = {"train": 24_300, "test": 24_300}
SIZES = {
    "caltech101": ({"train": 3_060, "test": 6_084}, 102, 6_084),
    "cifar100": ({"train": 50_000, "test": 10_000}, 100, 10_000),
    "dtd": ({"train": 1_880, "validation": 1_880, "test": 1_880}, 47, 1_880),
    "oxford_flowers102": ({"train": 1_020, "validation": 1_020, "test": 6_149}, 102, 6_149),
    "oxford_iiit_pet": ({"train": 3_680, "test": 3_669}, 37, 3_669),
    "sun397": ({"train": 76_128, "validation": 10_875, "test": 21_750}, 397, 21_750),
    "svhn": ({"train": 73_257, "test": 26_032, "extra": 531_131}, 10, 26_032),
    "patch_camelyon": ({"train": 262_144, "validation": 32_768, "test": 32_768}, 2, 32_768),
    "eurosat": ({"train": 27_000}, 10, 5_400),
    "resisc45": ({"train": 31_500}, 45, 6_300),
    "diabetic_retinopathy": (
        {"sample": 10, "train": 35_126, "validation": 10_906, "test": 42_670},
        5,
        42_670,
    ),
    "clevr-count": (CLEVR, 8, 15_000),
    "clevr-distance": (CLEVR, 6, 15_000),
    "dmlab": ({"train": 65_550, "validation": 22_628, "test": 22_735}, 6, 22_735),
    "kitti-distance": ({"train": 6_347, "validation": 423, "test": 711}, 4, 711),
    "dsprites-xpos": ({"train": 737_280}, 16, 73_728),
    "dsprites-orientation": ({"train": 737_280}, 16, 73_728),
    "smallnorb-azimuth": (NORB, 18, 12_150),
    "smallnorb-elevation": (NORB, 9, 12_150),
}


def indices(split, counts):
    """Where the examples of "train[:800]+test[5:]" are, as a set of (split, index)."""
    found = set()
    for part in split.split("+"):
        name, bounds = part.rstrip("]").split("[")
        start, stop = (int(bound) if bound else None for bound in bounds.split(":"))
        found |= {(name, i) for i in range(counts[name])[start:stop]}
    return found


def test_the_tasks_are_those_of_the_published_checkpoints():
    published = [name.split("run0-")[1] for name in PUBLISHED if "vtab/BiT-M-R50x1-run0" in name]
    assert list(data.VTAB) == list(SIZES) == published
    for name, task in data.VTAB.items():
        assert PUBLISHED[f"vtab/BiT-M-R50x1-run0-{name}"].num_classes == task.num_classes
    groups = [task.group for task in data.VTAB.values()]
    assert groups == ["natural"] * 7 + ["specialized"] * 4 + ["structured"] * 8


CROP, FLIP = {"crop"}, {"flip"}
AUGMENTATIONS = {  # google-research/scenic's VTAB-1k configuration, but for the mirrored digits
    "svhn": CROP,
    "clevr-count": FLIP,
    "clevr-distance": FLIP,
    "dmlab": FLIP,
    "kitti-distance": FLIP,
    "dsprites-xpos": set(),
    "dsprites-orientation": CROP,
    "smallnorb-azimuth": CROP,
}


@pytest.mark.parametrize("name", SIZES)
def test_augmentations(name):
    assert data.VTAB[name].augmentations == AUGMENTATIONS.get(name, CROP | FLIP)


@pytest.mark.parametrize("name", SIZES)
def test_splits(name):
    counts, _, num_test = SIZES[name]
    train, test = (indices(split, counts) for split in data.VTAB[name].splits(counts))
    assert len(train) == 1000
    assert train >= {("train", i) for i in range(800)}
    assert len(test) == num_test
    assert not train & test


def test_percentages_of_a_split_are_rounded_down():
    def splits(name):
        return data.VTAB[name].splits({"train": 1999, "validation": 300, "test": 999})

    assert splits("svhn") == ("train[:800]+train[1799:1999]", "test[0:]")
    assert splits("oxford_iiit_pet") == ("train[:800]+train[1599:1799]", "test[0:]")
    assert splits("eurosat") == ("train[:800]+train[1199:1399]", "train[1599:]")
    assert splits("clevr-count") == ("train[:800]+train[1799:1999]", "validation[0:]")
    assert splits("dsprites-xpos") == ("train[:800]+train[1599:1799]", "train[1799:]")
    assert splits("smallnorb-azimuth") == ("train[:800]+test[0:200]", "test[499:]")
    assert splits("dtd") == ("train[:800]+validation[0:200]", "test[0:]")


def last_below(value, thresholds):
    return max(i for i, threshold in enumerate(thresholds) if threshold < value)


def clevr(*distances):
    coordinates = [[500.0, -1.0, distance] for distance in distances]
    objects = {"pixel_coords": tf.constant(coordinates), "size": tf.zeros(len(distances))}
    return {"objects": objects}


@pytest.mark.parametrize("count", range(3, 11))
def test_clevr_count(count):
    task = data.VTAB["clevr-count"]
    assert task.class_names[task.label(clevr(*[9.0] * count))] == f"{count} objects"


@pytest.mark.parametrize(
    ("distance", "class_name"),
    [
        (0.5, "0 to 8"),
        (8.0, "0 to 8"),  # on a threshold: not strictly above it
        (np.nextafter(np.float32(8), 9), "8 to 8.5"),
        (8.5, "8 to 8.5"),
        (8.75, "8.5 to 9"),
        (9.25, "9 to 9.5"),
        (10.0, "9.5 to 10"),
        (10.5, "10 to 100"),
        (100.0, "10 to 100"),
    ],
)
def test_clevr_distance_is_that_of_the_nearest_object(distance, class_name):
    task = data.VTAB["clevr-distance"]
    label = int(task.label(clevr(101.0, distance, 100.5)))
    assert task.class_names[label] == class_name
    assert label == last_below(distance, [0, 8, 8.5, 9, 9.5, 10, 100])


@pytest.mark.parametrize(
    ("objects", "class_name"),
    [
        ([(0, 30.0), (1, 5.0), (2, 25.0)], "up to 8 m"),  # car, van, truck
        ([(2, -3.0)], "up to 8 m"),
        ([(0, 8.0)], "up to 8 m"),
        ([(0, 8.5), (3, 2.0), (7, 1.0)], "8 to 20 m"),  # a pedestrian and what else are nearer
        ([(1, 20.0)], "8 to 20 m"),
        ([(2, 20.5)], "above 20 m"),
        ([(0, 999.0)], "above 20 m"),
        ([(3, 2.0), (6, 15.0)], "no vehicle"),
        ([], "no vehicle"),
    ],
)
def test_kitti_distance_is_that_of_the_nearest_vehicle(objects, class_name):
    task = data.VTAB["kitti-distance"]
    kinds = tf.constant([kind for kind, _ in objects], tf.int64)
    places = tf.reshape(tf.constant([[-1.0, 1.5, z] for _, z in objects]), [-1, 3])
    label = int(task.label({"objects": {"type": kinds, "location": places}}))
    assert task.class_names[label] == class_name
    nearest = min([z for kind, z in objects if kind < 3], default=1000)
    assert label == last_below(nearest, [-100, 8, 20, 999])


@pytest.mark.parametrize(
    ("name", "feature", "num_values"),
    [("dsprites-xpos", "label_x_position", 32), ("dsprites-orientation", "label_orientation", 40)],
)
def test_dsprites_values_are_grouped_into_16(name, feature, num_values):
    task = data.VTAB[name]
    values = tf.range(num_values, dtype=tf.int64)
    labels = [int(task.label({feature: value})) for value in values]
    assert labels == [int(value // (num_values / 16)) for value in range(num_values)]
    for value, label in enumerate(labels):
        first, last = task.class_names[label].split(" to ")
        assert int(first) <= value <= int(last)


def scenes(builder, **options):
    """Scenes of 3 to 10 objects, where mock_data draws every feature's number of objects anew."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    image = tf.io.encode_png(noise)

    def scene(i):
        count = 3 + i // 2
        objects = {"size": tf.zeros([count], tf.int64), "type": tf.range(count) % 8}
        for key in ("location", "pixel_coords"):
            objects[key] = tf.fill([count, 3], tf.cast(i + 1, tf.float32))
        return {"image": image, "objects": objects}

    return tf.data.Dataset.range(16).map(scene)


@pytest.mark.parametrize("name", SIZES)
def test_tasks_give_batches(name):
    counts, num_classes, _ = SIZES[name]
    examples = scenes if "objects" in data.VTAB[name].features else None
    with tfds.testing.mock_data(num_examples=3, as_dataset_fn=examples):
        train, test = data.from_vtab(name, counts=counts)
    assert (train.name, test.name) == (f"{name}/train800val200", f"{name}/test")
    assert train.num_classes == num_classes == data.VTAB[name].num_classes
    assert len(set(train.class_names)) == num_classes
    assert train.augmentations == test.augmentations == data.VTAB[name].augmentations
    image = train.read(tf.constant(0, tf.int64))
    assert image.dtype == tf.uint8
    assert image.shape[2] == 3
    batches = (
        next(iter(data.training_batches(train, batch=4, resize=40, crop=32, seed=0))),
        next(iter(data.test_batches(test, batch=2, size=32))),
    )
    for (images, labels), part, count in zip(batches, (train, test), (4, 2), strict=True):
        assert images.shape == (count, 32, 32, 3)
        assert labels.shape == (count, num_classes)
        assert images.dtype == labels.dtype == tf.float32
        assert 0 <= np.min(images) < np.max(images) <= 1
        assert 0 <= part.labels.min() <= part.labels.max() < num_classes
        np.testing.assert_array_equal(np.sum(labels, 1), 1)


@pytest.mark.parametrize("name", SIZES)
def test_builders_have_the_tasks_classes(name):
    """Where the class is a feature of the builder as it stands, it has as many."""
    task = data.VTAB[name]
    features = tfds.builder(task.builder).info.features
    (key,) = task.features
    if key == "objects":
        assert task.features["objects"].keys() <= features["objects"].keys()
    elif not task.class_names:
        assert features[key].num_classes == task.num_classes
    else:  # the last value falls into the last class
        last = tf.constant(features[key].num_classes - 1, tf.int64)
        assert task.label({key: last}) == task.num_classes - 1


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Has TFDS itself write clevr, dsprites and smallnorb, of tiny images: {name: examples}."""
    directory = tmp_path_factory.mktemp("tfds")
    random = np.random.default_rng(0)

    def clevr_example(i):
        count = random.integers(3, 11)
        thing = {"color": 0, "material": 0, "shape": 0, "size": 0, "rotation": 0.0}
        thing |= {"3d_coords": np.zeros(3, np.float32)}
        places = random.uniform(7, 14, (count, 3)).astype(np.float32)
        return {
            "image": random.integers(0, 256, (4, 6, 3), np.uint8),
            "file_name": str(i),
            "objects": [thing | {"pixel_coords": place} for place in places],
            "question_answer": [],
        }

    def dsprites_example(i):
        labels = {"shape": 3, "scale": 6, "orientation": 40, "x_position": 32, "y_position": 32}
        return (
            {"image": random.integers(0, 2, (64, 64, 1), np.uint8)}
            | {f"label_{key}": random.integers(count) for key, count in labels.items()}
            | {f"value_{key}": np.float32(0) for key in labels}
        )

    def smallnorb_example(i):
        labels = {"category": 5, "elevation": 9, "azimuth": 18, "lighting": 6}
        pictures = random.integers(0, 256, (2, 96, 96, 1), np.uint8)
        return {"image": pictures[0], "image2": pictures[1], "instance": 0} | {
            f"label_{key}": random.integers(count) for key, count in labels.items()
        }

    for name, example, counts in (
        ("clevr", clevr_example, {"train": 2003, "validation": 5}),
        ("dsprites", dsprites_example, {"train": 1007}),
        ("smallnorb", smallnorb_example, {"train": 803, "test": 405}),
    ):
        builder = tfds.builder(name, data_dir=directory)
        examples = {
            split: [(i, example(i)) for i in range(count)] for split, count in counts.items()
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(builder), "_split_generators", lambda self, _, all=examples: all)
            builder.download_and_prepare()
    return directory


@pytest.mark.parametrize(
    ("name", "splits", "label"),
    [
        (
            "clevr-distance",
            ("train[:800]+train[1802:2002]", "validation"),
            lambda objects: last_below(
                min(z for _, _, z in objects["pixel_coords"]), [0, 8, 8.5, 9, 9.5, 10, 100]
            ),
        ),
        ("dsprites-xpos", ("train[:800]+train[805:1005]", "train[906:]"), lambda x: x // 2),
        ("smallnorb-elevation", ("train[:800]+test[:200]", "test[202:]"), lambda x: x),
    ],
)
def test_prepared_data_are_read_as_tfds_reads_them(name, splits, label, prepared):
    task = data.VTAB[name]
    (feature,) = task.features
    parts = data.from_vtab(name, data_dir=prepared)
    for part, split in zip(parts, splits, strict=True):
        examples = [*tfds.load(task.builder, split=split, data_dir=prepared).as_numpy_iterator()]
        assert part.labels.tolist() == [label(example[feature]) for example in examples]
        for i in range(0, len(examples), 49):
            image = examples[i]["image"] * (255 if task.builder == "dsprites" else 1)
            found = part.read(i).numpy()
            assert found.shape[2] == 3
            np.testing.assert_array_equal(found, np.broadcast_to(image, found.shape))


def test_prepared_images_above_the_limit_stay_on_disk(prepared, monkeypatch):
    in_memory, _ = data.from_vtab("dsprites-xpos", data_dir=prepared)
    monkeypatch.setattr("bit_keras.data.sources.tfds.MEMORY_LIMIT", 10)
    on_disk, _ = data.from_vtab("dsprites-xpos", data_dir=prepared)
    np.testing.assert_array_equal(on_disk.labels, in_memory.labels)
    for i in (0, 799, 800, len(in_memory) - 1):
        np.testing.assert_array_equal(on_disk.read(i), in_memory.read(i))


def test_mistakes_are_told():
    with pytest.raises(data.DataError, match="no task 'clevr_count'; did you mean clevr-count"):
        data.from_vtab("clevr_count")
    with pytest.raises(data.DataError, match=r"no task 'mnist'; the tasks are caltech101, .*eleva"):
        data.from_vtab("mnist")
    with tfds.testing.mock_data(), pytest.raises(data.DataError, match="splits of dtd are: pass c"):
        data.from_vtab("dtd")


def test_what_must_be_downloaded_by_hand_is_told(tmp_path):
    manual = tmp_path / "downloads" / "manual"
    with pytest.raises(data.DataError) as told:
        data.from_vtab("diabetic_retinopathy", data_dir=tmp_path)
    assert str(told.value) == (
        "diabetic_retinopathy has files that must be downloaded by hand: get train.zip.001 to .005,"
        " test.zip.001 to .007, sample.zip, trainLabels.csv.zip from https://www.kaggle.com/c/"
        f"diabetic-retinopathy-detection/data and unpack into {manual}, which then has train, test,"
        " sample, trainLabels.csv"
    )
    (manual / "others").mkdir(parents=True)
    with pytest.raises(data.DataError, match=r"hand: get NWPU-RESISC45\.rar from http"):
        data.from_vtab("resisc45", data_dir=tmp_path)
    (manual / "NWPU-RESISC45").touch()  # there, and not the folder that it should be
    with pytest.raises(data.DataError, match=r"^resisc45 cannot be prepared: "):
        data.from_vtab("resisc45", data_dir=tmp_path)


@pytest.mark.parametrize("name", SIZES)
def test_a_task_names_the_files_that_its_builder_wants_by_hand(name):
    task = data.VTAB[name]
    address, files = task.by_hand
    instructions = tfds.builder_cls(task.builder.split("/")[0]).MANUAL_DOWNLOAD_INSTRUCTIONS or ""
    assert bool(files) == bool(instructions)
    assert address in instructions
