"""Images on both sides of a split are found, by content and by likeness."""

import numpy as np
import PIL.Image
import pytest

from bit_keras import data
from bit_keras.data import overlap, overlaps


def scene(seed):
    """Blobs of colors, as many as a photo has things."""
    blobs = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return PIL.Image.fromarray(blobs).resize((128, 96), PIL.Image.Resampling.BICUBIC)


@pytest.fixture
def parts(tmp_path):
    """Train: pictures 0 to 7. Test: 8 to 11, 3 as it is, 5 at half the size as JPEG."""
    for part, seeds in (("train", range(8)), ("test", range(8, 12))):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
        for seed in seeds:
            scene(seed).save(tmp_path / part / "ab"[seed % 2] / f"{seed}.png")
    copy = tmp_path / "train/b/3.png"
    (tmp_path / "test/b/copy.png").write_bytes(copy.read_bytes())
    scene(5).resize((64, 48)).save(tmp_path / "test/b/small.jpg", quality=70)
    return tmp_path


def test_equal_files_and_look_alikes_are_found(parts):
    train, test = data.from_directory(parts)
    found = overlap(train, test)
    assert found.equal == [(f"{parts}/train/b/3.png", f"{parts}/test/b/copy.png")]
    assert found.alike == [(f"{parts}/train/b/5.png", f"{parts}/test/b/small.jpg")]
    said = str(found)
    assert "Images to test on that are also among those to train on, byte by byte: 1 (" in said
    assert "Images to test on that look like one to train on: 1 (" in said
    assert "group_by" in said
    assert str(overlap(train, train.subset([0]))).startswith("Images to test on that are also")
    assert str(overlap(*data.digits(5))) == ""


def test_too_many_images_are_compared_by_content_alone(parts, monkeypatch):
    monkeypatch.setattr(overlaps, "_MOST", 10)
    found = overlap(*data.from_directory(parts))
    assert (len(found.equal), found.alike) == (1, None)


def test_pictures_that_differ_are_no_look_alikes(tmp_path):
    for part in ("train", "test"):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(15):
                scene([i, part == "train", label == "a"]).save(tmp_path / part / label / f"{i}.jpg")
    found = overlap(*data.from_directory(tmp_path))
    assert (found.equal, found.alike) == ([], [])
