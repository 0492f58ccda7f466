"""Folders as people have them: what is taken for a class, a part, a group."""

import pathlib
import shutil

import pytest
from pictures import picture

from bit_keras import data


@pytest.mark.parametrize(
    ("parts", "tested"),
    [
        (("Training", "Testing"), "Testing"),
        (("Train", "TEST"), "TEST"),
        (("train", "val", "test"), "test"),
        (("train", "Validation"), "Validation"),
    ],
)
@pytest.mark.parametrize("around", ["", "archive/data set"])
def test_usual_layouts_are_understood(tmp_path, monkeypatch, parts, tested, around):
    for n, part in enumerate(parts):
        for label in "ab":
            place = tmp_path / "set" / around / part / label
            place.mkdir(parents=True)
            for i in range(n + 1):
                picture(seed=i).save(place / f"{i}.png")
    monkeypatch.setenv("PICTURES", str(tmp_path / "set"))
    name = pathlib.Path("set", around).name
    for path in (tmp_path / "set", "$PICTURES"):
        train, test = data.from_directory(path)
        assert (train.name, test.name) == (f"{name}/{parts[0]}", f"{name}/{tested}")
        assert (len(train), len(test)) == (2, 2 * (parts.index(tested) + 1))
        assert train.class_names == ("a", "b")
        assert len(data.evaluation_images(str(path) if path != "$PICTURES" else path)) == len(test)


def test_classes_that_are_called_like_parts_are_classes(tmp_path):
    for label in ("train", "car", "val"):
        (tmp_path / label).mkdir()
        for i in range(3):
            picture(seed=i).save(tmp_path / label / f"{i}.png")
    train, test = data.from_directory(tmp_path)
    assert train.class_names == ("car", "train", "val")
    assert len(train) + len(test) == 9


def test_images_in_folders_below_a_class_are_of_that_class(folder, capfd):
    (folder / "cat/2019/june").mkdir(parents=True)
    for i in range(5):
        (folder / f"cat/{i}.png").rename(folder / f"cat/2019/june/{i}.png")
    (folder / "cat/2019/loop").symlink_to(folder / "cat")
    for name in ("cat/2019/scan.dcm", "dog/a.npy", "dog/b.npy", "loose.jpg", "dog/Thumbs.db"):
        (folder / name).write_bytes(b"")
    parts = data.from_directory(folder)
    assert sum(map(len, parts)) == 20
    assert sum((part.labels == 0).sum() for part in parts) == 10
    said = capfd.readouterr().err
    assert (
        "photos: files left out, as they are no images or in no class folder: 4, of these " in said
    )
    assert f"2 .npy ({folder}/dog/a.npy), 1 .dcm" in said


def test_parts_may_lie_in_the_class_folders(folder):
    for label in ("cat", "dog"):
        for i in range(10):
            part = folder / label / ("train" if i < 6 else "val" if i < 8 else "Test")
            part.mkdir(exist_ok=True)
            (folder / label / f"{i}.png").rename(part / f"{i}.png")
    train, test = data.from_directory(folder)
    assert (train.name, test.name) == ("photos/train", "photos/test")
    assert (len(train), len(test), len(train.validation)) == (12, 4, 4)
    assert train.class_names == test.class_names == ("cat", "dog")
    assert all("/Test/" in file for file in test.files)
    assert len(data.evaluation_images(str(folder))) == 4


def test_images_to_choose_by_are_kept_beside_those_to_train_on(folder, tmp_path):
    for part in ("train", "test", "valid"):
        shutil.copytree(folder, tmp_path / "parts" / part)
    train, test = data.from_directory(tmp_path / "parts")
    assert test.name == "parts/test"
    assert train.validation.name == "parts/valid"
    assert train.few_shot(2).validation is train.validation
    assert (len(train), len(test), len(train.validation)) == (20, 20, 20)


def test_groups_stay_on_one_side(folder):
    for i in range(10):
        for label in ("cat", "dog"):
            (folder / label / f"{i}.png").rename(folder / label / f"patient{i // 2}_{i}.png")
    train, test = data.from_directory(folder, group_by=r"patient(\d)")
    assert set(train.groups) == {*"01234"} - set(test.groups)
    assert len(set(test.groups)) == 1
    assert len(train) + len(test) == 20
    assert test.files[0].endswith(f"patient{test.groups[0]}_{2 * int(test.groups[0])}.png")
    again, _ = data.from_directory(folder, group_by=r"patient(\d)")
    assert again.files.tolist() == train.files.tolist()
    for pattern, message in (
        ("(", "must be a regular expression"),
        ("person", "finds nothing in cat/patient0_0.png; give an expression"),
        ("patient", "all 20 images of photos are in one group"),
        ("cat|dog", "has no images of 1 of its 2 classes"),
    ):
        with pytest.raises(data.DataError, match=message):
            data.from_directory(folder, group_by=pattern)
    with pytest.raises(data.DataError, match="group_by finds groups in paths, and digits is no"):
        data.from_name("digits", group_by="x")


def test_a_class_to_choose_by_must_be_a_class_to_train(folder, tmp_path):
    for part in ("train", "test", "val"):
        shutil.copytree(folder, tmp_path / "parts" / part)
    (tmp_path / "parts/val/cat").rename(tmp_path / "parts/val/lynx")
    with pytest.raises(data.DataError, match=r"parts/val has classes that .* lacks \(lynx\)"):
        data.from_directory(tmp_path / "parts")
