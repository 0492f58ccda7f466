"""From a data set's classes to a model's: by name, by position, by a map, or by an error."""

import numpy as np
import pytest

from bit_keras import data
from bit_keras.data import DataError, accepted_classes

# As `wordnet.Synset.aliases` has them.
ALIASES = (
    ("n01440764", "tench, Tinca_tinca", "tench", "Tinca_tinca"),
    ("n02012849", "crane"),
    ("n02110958", "pug, pug-dog", "pug", "pug-dog"),
    ("n03126707", "crane"),
    ("n04398044", "teapot"),
)
NUMBERS = ("0", "1", "2", "3", "4")


def pairs(accepted):
    """{row: the columns that are true} of rows that have any."""
    assert accepted.dtype == bool
    rows = {}
    for row, column in np.argwhere(accepted).tolist():
        rows.setdefault(row, []).append(column)
    return rows


def write(folder, *lines, encoding="utf-8"):
    path = folder / "map.csv"
    path.write_text("\n".join(lines), encoding=encoding)
    return path


# Reading


def test_a_map_is_read(tmp_path):
    path = write(
        tmp_path,
        "class, note,model_class",
        "Kaffeekännchen,,n04398044",
        'fish , "slippery, wet","tench, Tinca_tinca"',
        "both,,pug | 1|pug",
        "spoon,,",
        encoding="utf-8-sig",
    )
    assert data.read_class_map(path) == {
        "Kaffeekännchen": ("n04398044",),
        "fish": ("tench, Tinca_tinca",),
        "both": ("pug", "1"),
        "spoon": (),
    }


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["class,label"], r"columns class and model_class, separated by commas, got \['class', 'l"),
        ([], r"must name the columns class and model_class"),
        (["class,model_class", "a,1", "b,2", "a,3"], r"^line 4 .* 'a' again, after line 2; give"),
        (["class,model_class", " ,1"], r"^line 2 of .*map.csv must name a class"),
        (["class,model_class", "a"], r"^line 2 of .* must have a cell for each column"),
        (["class,model_class", "a,tench, Tinca_tinca"], r"put a cell with commas into double quot"),
        (["class,model_class", 'a,"tench'], r"is not a CSV file in UTF-8"),
    ],
)
def test_bad_maps_are_refused(tmp_path, lines, message):
    with pytest.raises(DataError, match=message) as error:
        data.read_class_map(write(tmp_path, *lines))
    assert "\n" not in str(error.value)


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a file; give a CSV file with the columns class an"):
        data.read_class_map(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="is not a CSV file in UTF-8"):
        data.read_class_map(write(tmp_path, "class,model_class", "ä,1", encoding="latin-1"))


# Without a map


def test_names_are_the_same_however_they_are_written():
    composed, apart = "caf\u00e9", "cafe\u0301"  # as most systems, and as macOS has it in folders
    model = ["tea", composed, "dog"]
    np.testing.assert_array_equal(accepted_classes([" dog", apart, "tea "], model), np.eye(3)[::-1])
    assert pairs(accepted_classes([composed], [("x", apart)])) == {0: [0]}
    class_map = {"dog": (apart,), composed: (" tea",)}
    assert pairs(accepted_classes([apart, " dog"], model, class_map)) == {0: [0], 1: [1]}


def test_classes_that_are_written_alike_are_refused():
    composed, apart = "caf\u00e9", "cafe\u0301"
    message = (
        r"^the classes 'caf\\xe9' and 'cafe\\u0301' of {} differ only in spaces .*; rename one"
    )
    with pytest.raises(DataError, match=message.format("the data")):
        accepted_classes([composed, apart], [composed, "tea"])
    with pytest.raises(DataError, match=message.format("the class map")):
        accepted_classes(["tea"], ["tea"], {"tea": ("tea",), composed: (), apart: ("tea",)})
    with pytest.raises(
        DataError, match=r"^the classes 'dog' and ' dog' of the data differ only in"
    ):
        accepted_classes(["dog", " dog"], ["tea", "dog"], {"dog": ("dog",)})
    with pytest.raises(DataError, match=r"may be any of 2 classes of the model; .* as '0', '1'$"):
        accepted_classes([composed], [composed, apart])
    same = np.eye(2)  # trained on, so the order tells them apart
    np.testing.assert_array_equal(accepted_classes(["dog", " dog"], ["dog", " dog"]), same)


def test_classes_of_the_same_name_are_the_same_in_any_order():
    order = np.random.default_rng(0).permutation(7)
    names = [*"abcdefg"]
    accepted = accepted_classes([names[i] for i in order], names)
    np.testing.assert_array_equal(accepted, np.eye(7, dtype=bool)[order])
    digits = [*"9876543210"]  # names that are numbers are names
    np.testing.assert_array_equal(accepted_classes(digits, digits[::-1]), np.eye(10)[::-1])


def test_a_model_may_know_more_classes_by_any_of_their_names():
    accepted = accepted_classes(["pug-dog", "n03126707", "tench, Tinca_tinca"], ALIASES)
    assert pairs(accepted) == {0: [2], 1: [3], 2: [0]}
    assert accepted.shape == (3, 5)


def test_classes_of_a_model_without_names_are_in_the_datas_order():
    np.testing.assert_array_equal(accepted_classes([*"edcba"], NUMBERS), np.eye(5))
    np.testing.assert_array_equal(accepted_classes([*"12345"], NUMBERS), np.eye(5))
    with pytest.raises(DataError, match="give a class map"):
        accepted_classes([*"edcb"], NUMBERS)


def test_two_classes_of_one_name_are_told_apart_by_the_order_alone():
    np.testing.assert_array_equal(accepted_classes([*"aba"], [*"aba"]), np.eye(3))
    with pytest.raises(DataError, match=r"^'a' may be any of 2 classes .* as '0', '2'$"):
        accepted_classes([*"ba"], [*"aba"])
    with pytest.raises(DataError, match=r"^'crane' may be .* as 'n02012849', 'n03126707'$"):
        accepted_classes(["pug", "crane"], ALIASES)


def test_other_classes_need_a_map():
    with pytest.raises(
        DataError,
        match=r"^4 of the 5 classes of the data \('a', 'b', 'c', ...\) are not among the 5 of the "
        r"model \('n01440764', 'n02012849', 'n02110958', ...\); give a class map",
    ):
        accepted_classes(["a", "pug", "b", "c", "d"], ALIASES)
    with pytest.raises(DataError, match=r"^5 of the 5 classes"):  # numbers are none of its names
        accepted_classes(NUMBERS, ALIASES)


# With a map


def test_a_map_gives_each_class_some_of_the_models():
    class_map = {
        "animal": ("tench", "pug-dog", "n02012849"),
        "pot": ("4",),
        "same pot": ("teapot",),
        "left out": (),
        "absent from the data": ("no such class", "crane"),
    }
    names = ["left out", "pot", "unknown to the map", "animal", "same pot"]
    accepted = accepted_classes(names, ALIASES, class_map)
    assert accepted.shape == (5, 5)
    assert pairs(accepted) == {1: [4], 3: [0, 1, 2], 4: [4]}


def test_numbers_are_places_where_they_are_no_names():
    class_map = {"x": ("0", "2")}
    assert pairs(accepted_classes(["x"], NUMBERS, class_map)) == {0: [0, 2]}
    assert pairs(accepted_classes(["x"], [*"21a"], class_map)) == {
        0: [0]
    }  # "2" is the first's name
    with pytest.raises(DataError, match="'5', unknown to the model"):
        accepted_classes(["x"], NUMBERS, {"x": ("5",)})


def test_a_map_of_objectnets_size_counts_right():
    """313 classes, of which 113 have some of a model's 1,000, each of these at most once."""
    random = np.random.default_rng(0)
    ids = [f"n{i:08d}" for i in random.permutation(1000)]
    parts = np.split(random.permutation(1000)[:150], np.sort(random.choice(149, 112, False)) + 1)
    class_map = {f"class {i}": tuple(ids[k] for k in part) for i, part in enumerate(parts)}
    names = [f"class {i}" for i in random.permutation(313)]
    accepted = accepted_classes(names, ids, class_map)
    assert accepted.any(1).sum() == 113
    for name, row in zip(names, accepted, strict=True):
        assert {ids[k] for k in np.flatnonzero(row)} == {*class_map.get(name, ())}


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        ({"a": ("tenche",)}, r"names 'tenche', unknown to the model; did you mean 'tench'.*\?$"),
        ({"a": ("tenche", "pugg"), "b": ("tenche", "pog")}, r"names 'tenche' and 2 others, unknow"),
        ({"a": ("?",)}, r"its classes are 'n01440764', .*, \.\.\., or by number 0 to 4$"),
        ({"a": ("-1",)}, r"'-1', unknown to the model"),
        ({"a": ("pug",), "b": ("crane",)}, r"^'crane' may be any of 2 classes .* 'n03126707'$"),
        ({"c": ("pug",)}, r"for no class of the data; .* names such as 'a', 'b', got 'c'$"),
        ({"a": (), "c": ("pug",)}, r"for no class of the data"),
        ({}, r"for no class of the data; .*, got none$"),
    ],
)
def test_a_map_that_cannot_be_used_is_refused(class_map, message):
    with pytest.raises(DataError, match=message) as error:
        accepted_classes(["a", "b"], ALIASES, class_map)
    assert "\n" not in str(error.value)
