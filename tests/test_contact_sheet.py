"""Predictions as a table, as CSV and as a picture."""

import csv
import io

import numpy as np
import PIL.Image

from bit_keras.classification import as_csv, as_table, write_contact_sheet


def answers(*rows):
    return [
        {
            "image": str(image),
            "predictions": [{"class": name, "probability": p} for name, p in best],
        }
        for image, *best in rows
    ]


def test_a_table_is_aligned():
    table = as_table(
        answers(
            ("pets/long name.jpg", ("cat", 0.98765), ("Siberian husky", 0.01)),
            ("line\nbreak \udcff.png", ("cat", 1.0)),
            ("nothing.png",),
        )
    )
    assert table.splitlines() == [
        "image               class           probability",
        "pets/long name.jpg  cat                  98.77%",
        "                    Siberian husky        1.00%",
        "line break ?.png    cat                 100.00%",
        "nothing.png         \N{EN DASH}",
    ]


def test_csv_holds_any_name():
    names = ["a,b", 'the "c"', "two\r\nlines", "one\rreturn", "café", "", "7", "-"]
    rows = [(f"{name}.png", (name, 0.1 + 0.2), (name[::-1], 1e-9)) for name in names]
    text = as_csv(answers(*rows, ("nothing.png",), ("caf\udce9.png", ("x", 1.0))))
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    assert header == ["image", "rank", "class", "probability"]
    expected = []
    for image, *best in rows:
        for rank, (name, probability) in enumerate(best, 1):
            expected.append([image, str(rank), name, repr(probability)])
    expected += [["nothing.png", "", "", ""], [r"caf\udce9.png", "1", "x", "1.0"]]
    assert lines == expected
    text.encode()  # which lone surrogates would not survive


def test_a_contact_sheet_shows_every_image_over_its_name(tmp_path):
    """In cells of 200 x 252 pixels: a picture of 176 x 176, a bar, two lines of text."""
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    for i, color in enumerate(colors):
        PIL.Image.new("RGB", (400, 200), color).save(tmp_path / f"{i}.png")
    long = "a name that does not fit under the picture it belongs to"
    best = [("red", 1.0), (long, 0.5), ("", 0.0)]  # the last of which has no class
    rows = [(tmp_path / f"{i}.png", *[one][: i < 2]) for i, one in enumerate(best)]
    write_contact_sheet(tmp_path / "new/sheet.png", answers(*rows))
    with PIL.Image.open(tmp_path / "new/sheet.png") as image:
        assert image.format == "PNG"
        sheet = np.array(image)
    assert sheet.shape == (24 + 252, 24 + 3 * 200, 3)
    for i, (color, (_, probability)) in enumerate(zip(colors, best, strict=True)):
        cell = sheet[24:276, 24 + 200 * i : 224 + 200 * i]
        drawn = np.all(cell == color, axis=2)
        assert drawn[44:132, :176].all()  # twice as wide as high
        assert drawn.sum() == 88 * 176
        blue = np.all(cell[182] == (0x00, 0x62, 0xA0), axis=1)
        assert blue.sum() == round(176 * probability)
        text = cell[186:].min(axis=(0, 2)) < 128
        assert text[:20].any()
        assert not text[176:].any()
    assert sheet[24 + 186 : 24 + 210, 224 + 150 : 224 + 176].min() < 128  # it was long indeed


def test_a_contact_sheet_ends_at_100_images(tmp_path):
    PIL.Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "0.png")
    many = answers(*[(tmp_path / "0.png", ("red", 0.5))] * 101)
    write_contact_sheet(tmp_path / "sheet.png", many)
    sheet = np.array(PIL.Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (24 + 10 * 252 + 24, 24 + 10 * 200, 3)
    assert np.all(sheet == (200, 0, 0), axis=2).sum() == 100 * 176**2
    assert sheet[-32:-16].min() < 128  # which is said below
