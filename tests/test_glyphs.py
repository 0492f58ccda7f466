"""Rendered glyphs, drawn from the DejaVu fonts that come with matplotlib."""

import unicodedata
from pathlib import Path

import glyph_drawing
import glyphs
import matplotlib
import numpy as np
import pytest

from bit_keras.data import DataError


@pytest.fixture(scope="module")
def coverage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fonts")
    for font in Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuS*.ttf"):
        (folder / font.name).symlink_to(font)
    return glyphs.read_coverage(glyphs.find_fonts([folder]))


@pytest.fixture(scope="module")
def rendered(coverage):
    characters = [*"ABCabc", "\N{GREEK CAPITAL LETTER ALPHA}", "\N{CYRILLIC SMALL LETTER ZHE}"]
    return glyphs.render(coverage, characters)


def test_no_chosen_character_is_or_contains_a_number(coverage):
    characters = glyphs.choose_characters(coverage, min_fonts=3)
    assert {"A", "q", "\N{GREEK SMALL LETTER BETA}", "&"} <= set(characters)
    assert len(characters) == len(set(characters))
    for character in characters:
        forms = character + unicodedata.normalize("NFKD", character)
        assert not any(unicodedata.category(c).startswith("N") for c in forms)
        assert unicodedata.numeric(character, None) is None
        assert "DIGIT" not in unicodedata.name(character)
    # Letters by category, digits by shape.
    assert not {"\N{LATIN LETTER TWO WITH STROKE}", "\N{LATIN SMALL LETTER TONE FIVE}"} & set(
        characters
    )


def test_common_characters_of_a_script_come_first():
    coverage = {
        Path("one"): frozenset("abcd"),
        Path("two"): frozenset("bcd"),
        Path("three"): frozenset("d"),
    }
    # d is in three fonts, b and c in two each.
    assert glyphs.choose_characters(coverage, min_fonts=2, max_per_script=2) == ["b", "d"]


def test_pictures_are_centered_and_fill_their_share(rendered):
    images, labels, names = rendered
    assert images.dtype == np.uint8
    assert images.shape == (len(labels), 48, 48)
    assert labels.dtype == np.int32
    assert set(labels) == set(range(len(names)))
    for image in images:
        (rows,), (columns,) = np.nonzero(image.any(axis=1)), np.nonzero(image.any(axis=0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == round(48 * glyph_drawing.FILL)
        for span in (rows, columns):
            assert abs(span[0] + span[-1] - 47) <= 1


def test_labels_name_the_character_drawn(rendered):
    images, labels, names = rendered
    picture_of = {name: images[labels == label].mean(axis=0) for label, name in enumerate(names)}
    # An A is mirror symmetric; a B is not, and is symmetric top to bottom as an A is not.
    a, b = picture_of["A"], picture_of["B"]
    assert np.abs(a - a[:, ::-1]).mean() < np.abs(b - b[:, ::-1]).mean()
    assert np.abs(b - b[::-1]).mean() < np.abs(a - a[::-1]).mean()


def test_characters_drawn_alike_are_one_class(rendered):
    images, _, names = rendered
    assert "A" in names
    assert "\N{GREEK CAPITAL LETTER ALPHA}" not in names
    assert len({image.tobytes() for image in images}) == len(images)


def test_missing_empty_and_digit_glyphs_are_not_drawn(coverage):
    font = next(iter(coverage))
    missing = "\N{HANGUL SYLLABLE GA}"
    assert missing not in coverage[font]
    claimed = {font: frozenset(["A", " ", "7", missing])}
    assert glyphs.render(claimed, sorted(claimed[font]))[2] == ["A"]


def test_fonts_are_taken_from_each_folder_in_turn():
    crowd = {Path(f"crowd/{i}"): frozenset("A") for i in range(20)}
    single = {Path("single/0"): frozenset("A")}
    wanted = glyphs._share_out(crowd | single, ["A"], 2, seed=0)
    assert {font.parent.name for font in wanted} == {"crowd", "single"}


def batches(rendered, **settings):
    images, labels, names = rendered
    settings = {"num_classes": len(names), "batch": 16, "seed": 3, **settings}
    return glyphs.glyph_batches(images, labels, **settings)


def test_batches_are_rgb_in_the_unit_range_with_one_hot_labels(rendered):
    images, labels = next(iter(batches(rendered, size=40).as_numpy_iterator()))
    assert images.shape == (16, 40, 40, 3)
    assert images.dtype == labels.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std(axis=(1, 2, 3)).min() > 0.01  # nothing is washed out
    assert labels.shape == (16, len(rendered[2]))
    np.testing.assert_array_equal(labels.sum(axis=1), 1)


def test_a_batch_is_a_function_of_seed_and_step(rendered):
    from_start = list(batches(rendered).take(4).as_numpy_iterator())
    resumed = list(batches(rendered, start_step=2).take(2).as_numpy_iterator())
    for (images, labels), (same_images, same_labels) in zip(from_start[2:], resumed, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)
    assert not np.array_equal(from_start[0][0], from_start[1][0])
    other = next(iter(batches(rendered, seed=4).as_numpy_iterator()))
    assert not np.array_equal(from_start[0][0], other[0])


def test_an_epoch_visits_every_glyph_once_in_its_own_order(rendered):
    images = rendered[0][:20]
    dataset = glyphs.glyph_batches(images, np.arange(20), num_classes=20, batch=5, seed=0)
    visits = np.concatenate([labels.argmax(1) for _, labels in dataset.take(8).as_numpy_iterator()])
    for epoch in (visits[:20], visits[20:]):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(20))
    assert not np.array_equal(visits[:20], visits[20:])


def test_a_folder_without_fonts_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"No \.ttf"):
        glyphs.find_fonts([tmp_path])
