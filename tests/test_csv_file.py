"""CSV files of image paths and classes."""

import numpy as np
import pytest
from pictures import picture, read_all, write_table

from bit_keras import data


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
    path = write_table(folder, "image,label", *lines, encoding="utf-8-sig")
    train, test = data.from_csv(path, test_fraction=0.3, seed=5)
    assert (train.name, test.name) == ("table/train", "table/test")
    assert train.class_names == ("wolf", "äffin")
    assert train.image_size == (12, 20)
    assert np.bincount(test.labels).tolist() == [3, 3]
    assert contents(train) | contents(test) == {
        pixels(s): {"wolf" if s >= 10 else "äffin"} for s in range(20)
    }


def test_a_table_with_several_classes_an_image_and_its_own_split(folder):
    path = write_table(
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

    one_each = write_table(folder, "image,label,split", "cat/0.png,a,train", "cat/1.png,a,test")
    assert [part.multi_label for part in data.from_csv(one_each)] == [False, False]
    without_split = write_table(
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
        (["image,label", "table.csv,a"], r"table.csv \(cannot identify image file\)"),
        (["image,label", "cat/photo.heic,a"], r"heic \(the format .heic is not supported\)"),
    ],
)
def test_bad_tables_are_refused(folder, lines, message):
    (folder / "cat" / "photo.heic").touch()
    with pytest.raises(data.DataError, match=message) as error:
        data.from_csv(write_table(folder, *lines))
    assert "\n" not in str(error.value)


def test_what_is_no_table_is_refused(folder):
    with pytest.raises(data.DataError, match=r"gone.csv is not a file; give a CSV file"):
        data.from_csv(folder / "gone.csv")
    with pytest.raises(data.DataError, match=r"not a CSV file in UTF-8 \('utf-8' codec"):
        data.from_csv(write_table(folder, "image,label", "cat/0.png,ä", encoding="latin-1"))


def test_groups_and_images_to_choose_by_come_from_columns(folder):
    lines = [f"{c}/{i}.png,{c},video {i // 2}" for c in ("cat", "dog") for i in range(10)]
    train, test = data.from_csv(write_table(folder, "image,label,group", *lines))
    assert {*train.groups} == {f"video {n}" for n in range(5)} - {*test.groups}
    assert len({*test.groups}) == 1
    several = [line.replace(",cat,", ",cat|dog,") for line in lines]
    train, test = data.from_csv(write_table(folder, "image,label,group", *several))
    assert not {*train.groups} & {*test.groups}
    assert len(train) + len(test) == 20

    parts = [f"{line},{('train', 'validation', 'test')[n % 3]}" for n, line in enumerate(lines)]
    train, test = data.from_csv(write_table(folder, "image,label,group,split", *parts))
    assert (len(train), len(train.validation), len(test)) == (7, 7, 6)
    assert train.validation.name == "table/validation"


def test_broken_images_of_a_table_can_be_left_out(folder):
    (folder / "cat/1.png").write_bytes(b"no image")
    lines = [f"cat/{i}.png,{'ab'[i % 2]},{'train' if i < 6 else 'test'}" for i in range(8)]
    table = write_table(folder, "image,label,split", *lines)
    with pytest.raises(data.DataError, match=r"cat/1.png \(cannot identify image file\)"):
        data.from_csv(table)
    train, test = data.from_csv(table, bad_images="skip")
    assert (len(train), len(test)) == (5, 2)
    assert train.skipped == (str(folder / "cat/1.png"),)
    assert train.labels.tolist() == [0, 0, 1, 0, 1]
