"""Folders of class folders: the same pixels as Pillow has, and clear errors."""

import io
import os
import pathlib

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
import pytest
from pictures import picture, read_all

from bit_keras import data
from bit_keras.data.sources import checking


def see_through(image):
    alpha = PIL.Image.fromarray(np.tile(np.arange(image.width, dtype=np.uint8), (image.height, 1)))
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return image


def test_a_folder_of_class_folders(folder):
    train, test = data.from_directory(folder, test_fraction=0.3, seed=5)
    assert (train.name, test.name) == ("photos/train", "photos/test")
    assert train.class_names == ("cat", "dog")
    assert train.image_size == (12, 20)
    assert np.bincount(test.labels).tolist() == [3, 3]

    seen = [
        (image.tobytes(), label)
        for part in (train, test)
        for image, label in zip(read_all(part), part.labels, strict=True)
    ]
    expected = [(np.asarray(picture(seed=s)).tobytes(), s // 10) for s in range(20)]
    assert sorted(seen) == sorted(expected)


def test_train_and_test_folders_hidden_files_and_links(folder, tmp_path):
    root = tmp_path / "parted"
    (root / "test").mkdir(parents=True)
    (root / "train").symlink_to(folder)
    (root / "test" / "dog").symlink_to(folder / "dog")  # no cat to test on: fine
    for junk in ("train/.DS_Store", "train/dog/Thumbs.db", "test/dog/._9.png", "test/dog/notes"):
        (root / junk).write_bytes(b"junk")
    (root / "train" / "__MACOSX").mkdir()
    (root / "train" / ".cache").mkdir()

    train, test = data.from_directory(root)
    assert (len(train), len(test)) == (20, 10)
    assert test.class_names == train.class_names == ("cat", "dog")
    assert set(test.labels) == {1}
    np.testing.assert_array_equal(read_all(test)[4], np.asarray(picture(seed=14)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright(folder, orientation):
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = orientation
    picture(seed=1).save(folder / "cat" / "0.png", exif=exif)
    with PIL.Image.open(folder / "cat" / "0.png") as image:
        expected = np.asarray(PIL.ImageOps.exif_transpose(image))
    train, test = data.from_directory(folder)
    assert expected.tobytes() in {i.tobytes() for i in read_all(train) + read_all(test)}
    assert expected.shape == ((12, 20, 3) if orientation < 5 else (20, 12, 3))


KINDS = {
    "rgb.jpg": (lambda i: i, {"quality": 95}),
    "progressive.jpeg": (lambda i: i, {"progressive": True}),
    "gray.JPG": (lambda i: i.convert("L"), {}),
    "cmyk.jpg": (lambda i: i.convert("CMYK"), {}),
    "rgba.png": (see_through, {}),
    "gray_alpha.png": (lambda i: i.convert("LA"), {}),
    "palette.png": (lambda i: i.convert("P"), {}),
    "bits.png": (lambda i: i.convert("1"), {}),
    "rgb.bmp": (lambda i: i, {}),
    "gray.bmp": (lambda i: i.convert("L"), {}),
    "rgba.bmp": (see_through, {}),
    "still.gif": (lambda i: i, {}),
    "moving.gif": (lambda i: i, {"save_all": True, "append_images": [picture(seed=9)]}),
    "rgb.webp": (lambda i: i, {}),
    "rgba.webp": (see_through, {"lossless": True, "exact": True}),
    "really_a_png.jpg": (lambda i: i, {"format": "PNG"}),
}


def test_every_kind_of_image_looks_as_in_pillow_over_white(tmp_path):
    (tmp_path / "train" / "all").mkdir(parents=True)
    (tmp_path / "test").symlink_to(tmp_path / "train")
    for name, (change, options) in KINDS.items():
        change(picture()).save(tmp_path / "train" / "all" / name, **options)
    train, _ = data.from_directory(tmp_path)
    for image, name in zip(read_all(train), sorted(KINDS), strict=True):
        with PIL.Image.open(tmp_path / "train" / "all" / name) as expected:
            lossy = expected.format == "JPEG"  # decoders differ in how they enlarge the chroma
            blended = expected.mode in ("RGBA", "LA") and expected.format != "BMP"
            if blended:
                white = PIL.Image.new("RGBA", expected.size, "white")
                expected = PIL.Image.alpha_composite(white, expected.convert("RGBA"))
            expected = np.asarray(expected.convert("RGB")).astype(int)
        assert np.abs(image - expected).max() <= (12 if lossy else int(blended)), name
        assert np.abs(image - expected).mean() <= 2, name


def test_sixteen_bits_become_eight(folder):
    deep = np.arange(240, dtype=np.uint16).reshape(12, 20) * 256 + 77
    PIL.Image.fromarray(deep).save(folder / "cat" / "0.png")
    expected = np.repeat(deep[..., None] // 256, 3, axis=2).astype(np.uint8).tobytes()
    assert expected in {i.tobytes() for part in data.from_directory(folder) for i in read_all(part)}


def damaged_exif():
    photo = io.BytesIO()
    picture().save(photo, "JPEG", exif=b"Exif\0\0no EXIF at all")
    return photo.getvalue()


def test_damaged_metadata_is_no_reason_to_refuse_a_photo(folder):
    (folder / "cat" / "0.jpg").write_bytes(damaged_exif())
    train, test = data.from_directory(folder)
    assert len(train) + len(test) == 21


def spoil(folder, name, content=b""):
    """Writes a file into the class cat, or truncates the one that is there to `content` bytes."""
    path = folder / "cat" / name
    path.write_bytes(path.read_bytes()[:content] if isinstance(content, int) else content)


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: spoil(f, "3.png", 300), r"photos/cat/3.png cannot be read: .*; repair it"),
        (
            lambda f: [spoil(f, f"{i}.png", 90) for i in (2, 5, 7)],
            r"2.png cannot .* \(and 2 others: ",
        ),
        (lambda f: spoil(f, "x.jpg", saved(picture(), format="JPEG")[:-99]), "x.jpg cannot"),
        (lambda f: spoil(f, "x.jpg"), "x.jpg cannot"),
        (lambda f: spoil(f, "x.jpg", saved(picture(), format="TIFF")), "x.jpg cannot.*Unknown"),
        (lambda f: (f / "cat" / "x.jpg").symlink_to(f / "gone"), "x.jpg cannot.*No such file"),
        (lambda f: picture().convert("P").save(f / "cat" / "x.bmp"), "x.bmp cannot .* palette"),
        (
            lambda f: picture().save(
                f / "cat" / "x.webp", save_all=True, append_images=[picture(seed=2)]
            ),
            "x.webp cannot .* animated WebP",
        ),
        (
            lambda f: [spoil(f, name) for name in ("b.HEIC", "a.tif", "c.heic")],
            r"3 images in formats .* \(.heic, .tif\), the first being .*a.tif; convert",
        ),
        (lambda f: (f / "bird").mkdir(), "class folder .*/bird holds no images"),
        (lambda f: (f / "cat").rename(f / "test"), None),
        (
            lambda f: [(f / "cat").rename(f / "test"), (f / "dog").rename(f / "train")],
            "holds no cl",
        ),
    ],
)
def test_bad_folders_are_refused(folder, change, message):
    change(folder)
    if message is None:  # a class may be called test
        assert data.from_directory(folder)[0].class_names == ("dog", "test")
        return
    with pytest.raises(data.DataError, match=message) as error:
        data.from_directory(folder)
    assert "\n" not in str(error.value)


def test_folders_without_class_folders_are_refused(tmp_path):
    with pytest.raises(data.DataError, match="is not a folder"):
        data.from_directory(tmp_path / "missing")
    with pytest.raises(data.DataError, match="holds no class folders"):
        data.from_directory(tmp_path)


def test_a_class_to_test_must_be_a_class_to_train(folder):
    (folder / "train" / "cat").mkdir(parents=True)
    (folder / "test").mkdir()
    (folder / "dog").rename(folder / "test" / "dog")
    with pytest.raises(data.DataError, match=r"has classes that .*/train lacks \(dog\)"):
        data.from_directory(folder)


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
    with pytest.raises(data.DataError, match=r"photos/a/0.png cannot be read: "):
        data.from_directory(tmp_path / "photos")
    assert decoded[30:] == [str(changed)]
    picture(seed=0).save(changed)
    [cache] = (tmp_path / "cache/checked_images").iterdir()
    cache.write_bytes(cache.read_bytes()[:100])  # damaged, so that all are checked again
    assert len(data.from_directory(tmp_path / "photos")[0]) == 24
    assert len(decoded) == 31 + 30
    (tmp_path / "cache/checked_images").rename(tmp_path / "elsewhere")
    (tmp_path / "cache/checked_images").write_text("a file where a folder should be")
    picture(seed=0).save(changed)
    assert len(data.from_directory(tmp_path / "photos")[0]) == 24


def test_all_broken_files_are_named_and_a_pipe_does_not_hang(folder):
    for name in ("1.png", "2.png"):
        (folder / "cat" / name).write_bytes(b"no image")
    os.mkfifo(folder / "dog" / "pipe.png")
    with pytest.raises(data.DataError, match=r"cat/1.png cannot .*2 others: .*2.png, .*pipe.png\)"):
        data.from_directory(folder)
