"""Folders in the layout of Pascal VOC."""

import pytest
from boxes import of_image
from pictures import picture

from bit_keras import data
from bit_keras.data import DataError

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{xmin}</xmin>"
    "<ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
)


def annotate(root, stem, *objects, filename=None, size="<width>20</width><height>12</height>"):
    """Writes the XML file of an image; objects are (name, xmin, ymin, xmax, ymax, difficult)."""
    keys = ("name", "xmin", "ymin", "xmax", "ymax", "difficult")
    text = "".join(OBJECT.format(**dict(zip(keys, each, strict=True))) for each in objects)
    (root / "Annotations" / f"{stem}.xml").write_text(
        f"<annotation><filename>{filename or stem + '.jpg'}</filename><size>{size}"
        f"<depth>3</depth></size>{text}</annotation>"
    )


def lists(root, **names):
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for name, stems in names.items():
        text = "".join(f"{stem}\n" for stem in stems.split())
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "cells"
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for i, stem in enumerate("abcdef"):
        picture(seed=i).save(root / "JPEGImages" / f"{stem}.{'png' if stem == 'b' else 'jpg'}")
        annotate(root, stem, ("red", 1, 1, 5, 4, 0), ("white", 3, 2, 20, 12, int(stem == "a")))
    annotate(root, "c")
    return root


def test_pixels_are_counted_from_one_and_the_last_is_included(voc):
    lists(voc, trainval="a b c", test="d e f", train="a", val="b c")
    train, test = data.from_voc(voc)
    assert (train.name, test.name) == ("cells/train", "cells/test")
    assert train.class_names == test.class_names == ("red", "white")
    assert (train.image_ids, test.image_ids) == (("a", "b", "c"), ("d", "e", "f"))
    assert of_image(train, 0) == [(0, [0, 0, 5, 4], False), (1, [2, 1, 20, 12], True)]
    assert of_image(train, 1)[1] == (1, [2, 1, 20, 12], False)
    assert of_image(train, 2) == []
    assert train.validation is None
    assert [p.description() for p in data.boxes_from_name(str(voc))] == [
        *(train.description(), test.description())
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"train": "a b", "val": "c d", "test": "e f"}, ["ab", "ef", "cd"]),
        ({"train": "a b", "val": "d", "trainval": "a b d"}, ["ab", "d", None]),
        ({"trainval": "a b", "test": "d"}, ["ab", "d", None]),
    ],
)
def test_lists_say_what_is_trained_on(voc, names, expected):
    lists(voc, **names)
    train, test = data.from_voc(voc)
    found = [part and "".join(part.image_ids) for part in (train, test, train.validation)]
    assert found == expected


def test_without_lists_the_images_are_split(voc):
    train, test = data.from_voc(voc, test_fraction=0.34, seed=1)
    assert (len(train), len(test)) == (4, 2)
    assert sorted(train.image_ids + test.image_ids) == [*"abcdef"]
    lists(voc, train="a b")
    with pytest.raises(DataError, match=r"has only train\.txt; add a list"):
        data.from_voc(voc)


def test_a_single_pixel_is_a_box(voc):
    annotate(voc, "a", ("red", 7, 3, 7, 3, 0), ("white", 0, 0, 3, 3, 0))
    lists(voc, trainval="a b", test="d")
    assert of_image(data.from_voc(voc)[0], 0) == [
        (0, [6, 2, 7, 3], False),
        (1, [0, 0, 3, 3], False),  # written from 0 on, and cut off
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": [("red", 9, 1, 5, 4, 0)]}, "object 1 of .*a.xml, which has its corners in th"),
        ({"objects": [("red", 8, 1, 7, 4, 0)]}, "object 1 of .*a.xml, which has its corners in th"),
        ({"objects": [("red", 21, 1, 25, 4, 0)]}, "object 1 .*lies outside its image of 20x12"),
        ({"objects": [("red", "nan", 1, 5, 4, 0)]}, "object 1 .*a bndbox of 4 numbers, got"),
        ({"objects": [("red", "", 1, 5, 4, 0)]}, "object 1 .*a bndbox of 4 numbers, got"),
        ({"objects": [("", 1, 1, 5, 4, 0)]}, "object 1 of .*has no name"),
        ({"filename": "b.jpg"}, "a.xml is of another image by its filename, b.jpg"),
        (
            {"size": "<width>12</width><height>20</height>"},
            r"1 of 3 images are .*a.jpg, which has 20x12 pixels where .*a.xml says 12x20",
        ),
    ],
)
def test_what_cannot_be_used_is_named(voc, change, message):
    lists(voc, trainval="a b", test="d")
    annotate(voc, "a", *change.pop("objects", ()), **change)
    with pytest.raises(DataError, match=message):
        data.from_voc(voc)


def test_all_wrong_objects_are_counted(voc):
    lists(voc, trainval="a b", test="d")
    for stem in "ad":
        annotate(voc, stem, ("red", 9, 1, 5, 4, 0), ("red", 1, 1, 5, 4, 0))
    with pytest.raises(DataError, match=r"^2 of 6 boxes cannot be used, the first being object 1"):
        data.from_voc(voc)
    train, test = data.from_voc(voc, bad_boxes="skip")
    assert of_image(train, 0) == of_image(test, 0) == [(0, [0, 0, 5, 4], False)]


def test_sizes_and_names_may_be_missing_or_with_folders(voc):
    lists(voc, trainval="a b", test="d")
    expected = data.from_voc(voc)[0].description()
    for options in ({"size": "<width>0</width>"}, {"size": ""}, {"filename": "C:\\photos\\a.bmp"}):
        annotate(voc, "a", ("red", 1, 1, 5, 4, 0), ("white", 3, 2, 20, 12, 1), **options)
        assert data.from_voc(voc)[0].description() == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"trainval": "a b", "test": "lost"}, r"names lost, and there is no .*lost\.xml"),
        ({"trainval": "a b a", "test": "d"}, r"a\.jpg is twice in train"),
        ({"trainval": "a b", "test": "d b"}, r"b\.png is in train and test"),
        ({"trainval": "c", "test": "a"}, "test has classes that cells/train lacks .'red', 'white'"),
        ({"trainval": "a", "test": "c"}, "no image of cells/test has a box"),
    ],
)
def test_lists_are_checked(voc, names, message):
    lists(voc, **names)
    with pytest.raises(DataError, match=message):
        data.from_voc(voc)


def test_files_must_be_there_and_sound(voc, tmp_path):
    with pytest.raises(DataError, match="has no folder Annotations"):
        data.from_voc(tmp_path)
    picture().save(voc / "JPEGImages" / "b.bmp")
    with pytest.raises(DataError, match=r"b.bmp and .*b.png have one name"):
        data.from_voc(voc)
    (voc / "JPEGImages" / "b.bmp").unlink()
    (voc / "JPEGImages" / "f.jpg").unlink()
    with pytest.raises(DataError, match=r"f\.xml has no image: JPEGImages has no f\.jpg"):
        data.from_voc(voc)
    (voc / "Annotations" / "e.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"e\.xml is not an XML file"):
        data.from_voc(voc)


def test_images_that_are_lost_after_they_were_checked_are_named(voc):
    train, _ = data.from_voc(voc)
    (voc / "JPEGImages" / f"{train.image_ids[0]}.jpg").unlink()
    with (
        pytest.raises(DataError, match="since the start, 1 image of"),
        data.naming_lost_images(train),
    ):
        next(iter(data.detection_test_batches(train, batch=len(train), size=32)))


def test_evaluation_reads_the_images_to_test_on_alone(voc):
    assert len(data.evaluation_boxes(str(voc))) == 6  # no lists: all of them
    lists(voc, trainval="a c d", test="b e")
    (voc / "JPEGImages" / "d.jpg").write_bytes(b"no image")  # is not looked at
    test = data.evaluation_boxes(str(voc))
    assert (test.name, test.image_ids, test.class_names) == (
        "cells/test",
        ("b", "e"),
        ("red", "white"),
    )
