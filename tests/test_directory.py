"""Folders of class folders: the same pixels as Pillow has, and clear errors."""

import io

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
import pytest
from pictures import picture, read_all

from bit_keras import data


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
    "palette.bmp": (lambda i: i.convert("P"), {}),
    "bits.bmp": (lambda i: i.convert("1"), {}),
    "moving.webp": (lambda i: i, {"save_all": True, "append_images": [picture(seed=9)]}),
    "keyed.gif": (lambda i: i.convert("P"), {"transparency": 3}),
    "keyed.png": (lambda i: i, {"transparency": picture().getpixel((3, 2))}),
    "rgb.tif": (lambda i: i, {}),
    "cmyk.tiff": (lambda i: i.convert("CMYK"), {}),
    "gray_alpha.tga": (lambda i: i.convert("LA"), {}),
    "rgb.ppm": (lambda i: i, {}),
    "gray.pgm": (lambda i: i.convert("L"), {}),
    "rgb.pcx": (lambda i: i, {}),
    "rgb.jpe": (lambda i: i, {}),
    "rgb.jp2": (lambda i: i, {"irreversible": False}),
    "rgba.ico": (lambda i: see_through(i.resize((16, 16))), {"sizes": [(16, 16)]}),
    "still": (lambda i: i, {"format": "PNG"}),
}


def test_every_kind_of_image_looks_as_in_pillow_over_white(tmp_path):
    (tmp_path / "train" / "all").mkdir(parents=True)
    (tmp_path / "test").symlink_to(tmp_path / "train")
    for name, (change, options) in KINDS.items():
        change(picture()).save(tmp_path / "train" / "all" / name, **options)
    train, _ = data.from_directory(tmp_path)
    for image, name in zip(read_all(train), sorted(KINDS), strict=True):
        with PIL.Image.open(tmp_path / "train" / "all" / name) as expected:
            # Decoders differ in how they enlarge the chroma.
            lossy = expected.format == "JPEG" or name == "moving.webp"
            blended = expected.has_transparency_data and expected.format != "BMP"
            if blended:
                white = PIL.Image.new("RGBA", expected.size, "white")
                expected = PIL.Image.alpha_composite(white, expected.convert("RGBA"))
            expected = np.asarray(expected.convert("RGB")).astype(int)
        assert np.abs(image - expected).max() <= (12 if lossy else int(blended)), name
        assert np.abs(image - expected).mean() <= 2, name


def test_sixteen_bits_become_eight(folder):
    deep = np.arange(240, dtype=np.uint16).reshape(12, 20) * 256 + 77
    PIL.Image.fromarray(deep).save(folder / "cat" / "0.png")
    PIL.Image.fromarray(deep).save(folder / "cat" / "0.tif")
    PIL.Image.fromarray(deep.astype(np.float32) / 2**16).save(folder / "cat" / "1.tif")
    expected = np.repeat(deep[..., None] // 256, 3, axis=2).astype(np.uint8)
    seen = np.stack([i for part in data.from_directory(folder) for i in read_all(part)]).astype(int)
    assert np.sum(np.all(seen == expected, axis=(1, 2, 3))) == 2
    assert np.sum(np.abs(seen - expected).max(axis=(1, 2, 3)) <= 1) == 3  # floats are rounded
    PIL.Image.fromarray(deep.astype(np.float32) - 1).save(folder / "cat" / "1.tif")
    with pytest.raises(data.DataError, match=r"1.tif \(its pixels lie in \[76, 61260\], where"):
        data.from_directory(folder)


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
        (
            lambda f: spoil(f, "3.png", 300),
            r"1 image of 20 cannot be read: .*photos/cat/3.png \(image file is truncated\); repair",
        ),
        (
            lambda f: [spoil(f, f"{i}.png", 90) for i in (2, 5, 7)],
            r"3 images of 20 cannot be read: .*2.png \(.*5.png \(.*7.png \(.*bad_images=skip",
        ),
        (lambda f: spoil(f, "x.jpg", saved(picture(), format="JPEG")[:-99]), r"x.jpg \(.* truncat"),
        (lambda f: spoil(f, "x.jpg"), r"x.jpg \(cannot identify image file\)"),
        (lambda f: (f / "cat" / "x.jpg").symlink_to(f / "gone"), r"x.jpg \(No such file or dir"),
        (
            lambda f: [spoil(f, name) for name in ("b.HEIC", "a.tif", "c.heic")],
            r"3 images .*a.tif \(cannot .*b.HEIC \(the format .heic is not supported\)",
        ),
        (
            lambda f: spoil(f, "x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
            "x.png",
        ),
        (
            lambda f: (f / "bird").mkdir(),
            "class folder .*/bird holds no images; put .* or remove it",
        ),
        (
            lambda f: [(f / "bird" / "scans").mkdir(parents=True), spoil(f, "../bird/scans/1.dcm")],
            r"bird holds no images, but 1 other files, .*scans/1.dcm; put .*, ...\)$",
        ),
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
