"""Checks of image files: which are broken, what is remembered, what is left out."""

import os
import pathlib
import shutil

import numpy as np
import PIL.Image
import pytest
from pictures import picture, read_all, write_table

import bit_keras
from bit_keras import data
from bit_keras.data.sources import checking


def test_many_files_are_checked_once_and_again_when_they_change(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(checking, "_MANY", 20)
    monkeypatch.setenv("BIT_KERAS_CACHE", str(tmp_path / "cache"))
    decoded, decode = [], checking._checked
    monkeypatch.setattr(checking, "_checked", lambda files: decoded.extend(files) or decode(files))
    for i in range(30):
        folder = tmp_path / "photos" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(20 + i, 30, seed=i).save(folder / f"{i}.png")
    first, _ = data.from_directory(tmp_path / "photos")
    assert len(decoded) == 30
    assert "Checking images" in capfd.readouterr().err
    again, _ = data.from_directory(tmp_path / "photos")
    assert len(decoded) == 30
    assert again.image_size == first.image_size
    assert again.description() == first.description()
    changed = tmp_path / "photos/a/0.png"
    changed.write_bytes(changed.read_bytes()[:200])
    with pytest.raises(data.DataError, match=r"1 image of 30 cannot be read: .*photos/a/0.png \("):
        data.from_directory(tmp_path / "photos")
    assert decoded[30:] == [str(changed)]
    picture(seed=0).save(changed)
    [cache] = (tmp_path / "cache/image_checks").iterdir()
    cache.write_bytes(cache.read_bytes()[:100])  # damaged, so that all are checked again
    assert len(data.from_directory(tmp_path / "photos")[0]) == 24
    assert len(decoded) == 31 + 30
    (tmp_path / "cache/image_checks").rename(tmp_path / "elsewhere")
    (tmp_path / "cache/image_checks").write_text("a file where a folder should be")
    picture(seed=0).save(changed)
    assert len(data.from_directory(tmp_path / "photos")[0]) == 24


def test_all_broken_files_of_all_parts_are_named_and_a_pipe_does_not_hang(folder, tmp_path):
    for part in ("train", "test", "val"):
        (tmp_path / "parts").mkdir(exist_ok=True)
        shutil.copytree(folder, tmp_path / "parts" / part)
    for name in ("train/cat/1.png", "test/dog/2.png", "val/cat/3.png"):
        (tmp_path / "parts" / name).write_bytes(b"no image")
    os.mkfifo(tmp_path / "parts/train/dog/pipe.png")
    with pytest.raises(data.DataError, match="4 images of 61 cannot be read") as error:
        data.from_directory(tmp_path / "parts")
    for name in ("train/cat/1.png", "test/dog/2.png", "val/cat/3.png", "train/dog/pipe.png (not a"):
        assert name in str(error.value)


def test_of_many_broken_files_all_are_listed_in_a_file(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BIT_KERAS_CACHE", str(tmp_path / "cache"))
    for i in range(30):
        (folder / "cat" / f"broken{i}.jpg").write_bytes(b"no image")
    with pytest.raises(
        data.DataError, match=r"30 images of 50 .*; and 10 more, all listed in"
    ) as e:
        data.from_directory(folder)
    [listed] = (tmp_path / "cache/broken_images").iterdir()
    assert str(listed) in str(e.value)
    lines = listed.read_text().splitlines()
    assert len(lines) == 30
    assert f"{folder}/cat/broken7.jpg\tcannot identify image file" in lines


def test_broken_images_can_be_left_out(folder, tmp_path):
    for name in ("3.png", "x.heic"):
        (folder / "cat" / name).write_bytes(b"no image")
    with pytest.raises(data.DataError, match='must be "error" or "skip", got \'ignore\''):
        data.from_directory(folder, bad_images="ignore")
    train, test = data.from_directory(folder, bad_images="skip")
    assert len(read_all(train)) + len(read_all(test)) == 19
    skipped = (f"{folder}/cat/3.png", f"{folder}/cat/x.heic")
    assert train.skipped == test.skipped == skipped
    assert not {*skipped} & {*train.files, *test.files}
    for image, file in zip(read_all(train), train.files, strict=True):
        np.testing.assert_array_equal(image, np.asarray(PIL.Image.open(file)))
    table = write_table(
        tmp_path,
        "image,label",
        *(f"{file},{pathlib.Path(file).parent.name}" for file in skipped[:1]),
    )
    with pytest.raises(data.DataError, match="none of the 1 images of table can be read"):
        data.from_csv(table, bad_images="skip")
    assert len(data.evaluation_images(str(folder), bad_images="skip")) == 19
    (folder / "cat").rename(folder.parent / "away")
    (folder / "cat").mkdir()
    (folder / "cat/3.png").write_bytes(b"no image")
    with pytest.raises(data.DataError, match="class 'cat' of photos has 0 images"):
        data.from_directory(folder, bad_images="skip")


def test_files_that_are_lost_after_the_check_are_named(folder, tmp_path):
    train, test = data.from_directory(folder)
    rule = bit_keras.HyperRule.release(16, (12, 20)).with_steps(4)
    rule = rule.replace(batch=8, resize=32, crop=32)
    model = bit_keras.ResNetV2((1,), 0.25, 0)
    pathlib.Path(train.files[0]).write_bytes(b"no image")
    pathlib.Path(test.files[0]).unlink()
    with pytest.raises(data.DataError, match="since the start, 2 images of 20 cannot") as error:
        bit_keras.fine_tune(model, train, test, workdir=tmp_path / "run", rule=rule)
    for reason in (f"{train.files[0]} (cannot identify", f"{test.files[0]} (No such file"):
        assert reason in str(error.value)
    with pytest.raises(data.DataError, match="since the start, 1 image of 4 cannot be read"):
        bit_keras.evaluate(bit_keras.ResNetV2((1,), 0.25, 2), test, size=32)
