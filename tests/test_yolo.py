"""Folders in the layout of YOLO."""

import pytest
from boxes import of_image
from pictures import picture

from bit_keras import data
from bit_keras.data import DataError


@pytest.fixture
def yolo(tmp_path):
    root = tmp_path / "signs"
    for part in ("train", "val", "test"):
        for kind in ("images", "labels"):
            (root / kind / part).mkdir(parents=True)
        for i in range(3):
            picture(12, 20, seed=i).save(root / "images" / part / f"{i}.png")
            (root / "labels" / part / f"{i}.txt").write_text(
                "1 0.5 0.5 0.4 0.5\n0 0.1 0.25 0.2 .5\n"
            )
    (root / "labels" / "train" / "1.txt").unlink()
    (root / "labels" / "train" / "2.txt").write_text("\n")
    write(root)
    return root


def write(root, name="data.yaml", **changes):
    content = {"path": ".", "train": "images/train", "val": "images/val", "names": "[stop, yield]"}
    lines = [f"{key}: {value}" for key, value in (content | changes).items() if value is not None]
    (root / name).write_text("\n".join(lines))


def test_fractions_become_pixels(yolo):
    train, test = data.from_yolo(yolo)
    assert (train.name, test.name) == ("signs/train", "signs/test")
    assert train.class_names == ("stop", "yield")
    assert of_image(train, 0) == [(1, [6, 3, 14, 9], False), (0, [0, 0, 4, 6], False)]
    assert of_image(train, 1) == of_image(train, 2) == []
    assert train.image_ids[0] == "images/train/0.png"
    assert train.areas.tolist() == [48, 24]
    for path in (yolo / "data.yaml", yolo):
        assert data.boxes_from_name(str(path))[0].description() == train.description()


def test_what_is_tested_on(yolo):
    write(yolo, test="images/test")
    train, test = data.from_yolo(yolo)
    assert test.image_ids[0] == "images/test/0.png"
    assert train.validation.image_ids[0] == "images/val/0.png"
    write(yolo, val=None)
    train, test = data.from_yolo(yolo, test_fraction=0.34)
    assert sorted(train.image_ids + test.image_ids) == [f"images/train/{i}.png" for i in range(3)]


def test_other_ways_to_say_the_same(yolo):
    expected = [part.description()["fingerprint"] for part in data.from_yolo(yolo)]
    (yolo / "train.txt").write_text("".join(f"./images/train/{i}.png\n" for i in range(3)))
    for changes in (
        {"train": "train.txt", "names": "{0: stop, 1: yield}"},
        {"train": "[images/train]", "nc": "2"},
        {"path": None, "train": "../images/train", "val": "../images/val"},  # Roboflow's
        {"path": str(yolo.parent / "elsewhere")},
    ):
        write(yolo, **changes)
        assert [part.description()["fingerprint"] for part in data.from_yolo(yolo)] == expected


def test_labels_lie_beside_images_that_are_in_no_folder_of_that_name(yolo):
    folder = yolo / "photos"
    folder.mkdir()
    picture().save(folder / "x.png")
    (folder / "x.txt").write_text("0 0.5 0.5 1 1")
    write(yolo, train="photos")
    assert of_image(data.from_yolo(yolo)[0], 0) == [(0, [0, 0, 20, 12], False)]


def test_polygons_become_their_extent(yolo):
    (yolo / "labels" / "train" / "0.txt").write_text("1 0.1 0.5 0.5 0.25 0.75 1\n")
    assert of_image(data.from_yolo(yolo)[0], 0) == [(1, [2, 3, 15, 12], False)]


def test_boxes_are_cut_off_at_the_border(yolo):
    (yolo / "labels" / "train" / "0.txt").write_text("1 1.0 1.0 0.5 0.5\n")
    assert of_image(data.from_yolo(yolo)[0], 0) == [(1, [15, 9, 20, 12], False)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.5 1.5 0.1 0.1", r"line 1 of .*0\.txt, which must have coordinates in \[0, 1\]"),
        ("1 120 80 40 30", r"must have coordinates in \[0, 1\], as fractions, got 120 80 40 30"),
        ("1 0.5 0.5 -0.1 0.1", r"must have coordinates in \[0, 1\]"),
        ("1 0.5 nan 0.1 0.1", "must have finite numbers"),
        ("stop 0.5 0.5 0.1 0.1", "must have finite numbers"),
        ("2 0.5 0.5 0.1 0.1", r"has the class 2, and names has 0 \.\. 1"),
        ("0.5 0.5 0.5 0.1 0.1", r"has the class 0\.5"),
        ("-1 0.5 0.5 0.1 0.1", "has the class -1"),
        ("1 0.5 0.5 0.1", "must have 5 numbers, or a class and a polygon, got 4"),
        ("1 0.5 0.5 0.1 0.1 0.9", "must have 5 numbers, or a class and a polygon, got 6"),
        ("1 0.5 0.5 0 0.1", "has no area"),
    ],
)
def test_wrong_lines_are_named_and_counted(yolo, line, message):
    for part in ("train", "val"):
        (yolo / "labels" / part / "0.txt").write_text(f"{line}\n1 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError, match=f"^2 of 8 boxes cannot be used, .*{message}"):
        data.from_yolo(yolo)
    train, _ = data.from_yolo(yolo, bad_boxes="skip")
    assert len(train.boxes) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": None}, "names no images to train on"),
        ({"train": "images/lost"}, "train of .*data.yaml is images/lost, and there is no"),
        ({"train": "labels/train"}, "has no images in labels/train"),
        ({"val": "images/train"}, r"0\.png is in train and test"),
        ({"names": None}, "must have names"),
        ({"names": "[stop, stop]"}, "'stop' comes twice"),
        ({"names": "{0: stop, 2: yield}"}, r"numbered 0 to 1, got \[0, 2\]"),
        ({"nc": "3"}, "nc: 3 and 2 names"),
        ({"names": "[stop"}, "is not a YAML file"),
    ],
)
def test_settings_are_checked(yolo, changes, message):
    write(yolo, **changes)
    with pytest.raises(DataError, match=message):
        data.from_yolo(yolo)


def test_a_folder_needs_one_yaml_file(yolo, tmp_path):
    (yolo / "data.yaml").rename(yolo / "signs.yaml")
    assert len(data.from_yolo(yolo)[0]) == 3
    write(yolo, "other.yml")
    with pytest.raises(DataError, match="has 2 YAML files"):
        data.from_yolo(yolo)
    with pytest.raises(DataError, match=r"there is no .*lost\.yaml"):
        data.from_yolo(yolo / "lost.yaml")
    with pytest.raises(DataError, match='is no detection data set; give "scenes"'):
        data.boxes_from_name(str(tmp_path))
    (yolo / "signs.yaml").write_text("text")
    with pytest.raises(DataError, match="must have names, train and val, got str"):
        data.from_yolo(yolo / "signs.yaml")


def test_labels_that_are_not_found_are_told(yolo):
    (yolo / "labels").rename(yolo / "texts")
    with pytest.raises(DataError, match=r"no image of signs/train has a box .*expected"):
        data.from_yolo(yolo)


def test_evaluation_reads_the_images_to_test_on_alone(yolo):
    assert data.evaluation_boxes(str(yolo)).image_ids[0] == "images/val/0.png"
    write(yolo, test="images/test")
    assert data.evaluation_boxes(str(yolo)).image_ids[0] == "images/test/0.png"
    write(yolo, val=None)
    assert len(data.evaluation_boxes(str(yolo))) == 3
