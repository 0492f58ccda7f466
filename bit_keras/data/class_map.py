"""Which of a model's classes count as correct for each class of a data set."""

import difflib
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .labeled_images import DataError
from .sources.csv_file import SEPARATOR, read_rows


def read_class_map(path: str | os.PathLike) -> dict[str, tuple[str, ...]]:
    """Reads a CSV file (UTF-8, commas) with a header and a line for each class of a data set.

    For instance, for a model of ILSVRC-2012:

        class,model_class
        teapot,n04398044
        dog,beagle|pug|n02110958
        spoon,

    The column `class` has the data set's classes, for instance the names of its folders;
    `model_class` has the model's classes that are correct for it, separated by "|", named as in
    `accepted_classes`. Images of a class without any are not evaluated. Other columns are ignored.

    Returns:
        {class of the data: classes of the model}.

    Raises:
        DataError: If a column is missing, a line has no class, or a class has two lines.
    """
    path = pathlib.Path(path).absolute()
    class_map, line_of = {}, {}
    for line, row in read_rows(path, ("class", "model_class")):
        name = row["class"]
        if not name:
            raise DataError(f"line {line} of {path} must name a class of the data; fill its cell")
        if name in class_map:
            raise DataError(
                f"line {line} of {path} names the class {name!r} again, after line "
                f"{line_of[name]}; give each class one line, with all the model's classes, "
                f"separated by {SEPARATOR!r}"
            )
        line_of[name] = line
        names = (part.strip() for part in row["model_class"].split(SEPARATOR))
        class_map[name] = tuple(dict.fromkeys(part for part in names if part))
    return class_map


def accepted_classes(
    class_names: Sequence[str],
    model_names: Sequence[str | Sequence[str]],
    class_map: Mapping[str, Sequence[str]] | None = None,
) -> np.ndarray:
    """Finds which of a model's classes are correct for each class of a data set.

    Names are compared without surrounding spaces and in one Unicode form, because file systems and
    CSV files write the same accented name in several ways.

    Without a map, classes are matched by name; the model must have all of the data's. If its
    classes have no names (they are called "0", "1", ...) and there are as many as in the data, they
    are matched by order.

    Args:
        class_names: The data set's classes.
        model_names: For each of the model's classes its name, or several, such as
            ("n01440764", "tench, Tinca_tinca", "tench", "Tinca_tinca").
        class_map: From classes of the data to classes of the model, each by a name that no other
            class has, or else by its number, "0" for the first. Classes of the data that are not
            in the map get an empty row; classes of the map that are not in the data are ignored.

    Returns:
        bool [len(class_names), len(model_names)]; images of a class with an empty row cannot be
        evaluated.

    Raises:
        DataError: If the model lacks a class, or a name fits several; if a map is needed and
            missing, or has no class of the data; if two names of the map or the data are the same.
    """
    classes = [*map(normalized, class_names)]
    aliases = [(names,) if isinstance(names, str) else names for names in model_names]
    aliases = [[*map(normalized, names)] for names in aliases]
    firsts = [names[0] for names in aliases]
    numbers = [str(label) for label in range(len(aliases))]
    labels_of = {}
    for label, names in enumerate(aliases):
        for name in dict.fromkeys(names):
            labels_of.setdefault(name, []).append(label)

    if class_map is None:
        unknown = [name for name in classes if name not in labels_of]
        unnamed = unknown and firsts == numbers and len(classes) == len(numbers)
        if unnamed or firsts == classes:
            return np.eye(len(numbers), dtype=bool)
        if unknown:
            raise DataError(
                f"{len(unknown)} of the {len(classes)} classes of the data ({_some(unknown)}) "
                f"are not among the {len(aliases)} of the model ({_some(firsts)}); give a class "
                "map, a CSV file with the columns class and model_class"
            )
        wanted = [(name,) for name in classes]
    else:
        check_distinct(class_map, "the class map")
        class_map = {normalized(k): [*map(normalized, v)] for k, v in class_map.items()}
        # A name that is also a number means the class of that name.
        labels_of = {number: [label] for label, number in enumerate(numbers)} | labels_of
        wanted = [class_map.get(name, ()) for name in classes]
        if not any(wanted):
            raise DataError(
                "the class map has model classes for no class of the data; its column class must "
                f"have names such as {_some(class_names)}, got {_some(class_map) or 'none'}"
            )
        _check_known(wanted, labels_of, firsts)

    check_distinct(class_names, "the data")
    accepted = np.zeros([len(classes), len(aliases)], bool)
    for row, names in zip(accepted, wanted, strict=True):
        for name in names:
            labels = labels_of[name]
            if len(labels) > 1:
                unique = [
                    next((name for name in aliases[k] if len(labels_of[name]) == 1), str(k))
                    for k in labels
                ]
                raise DataError(
                    f"{name!r} may be any of {len(labels)} classes of the model; say which in a "
                    f"class map, as {_some(unique)}"
                )
            row[labels[0]] = True
    return accepted


def normalized(name: str) -> str:
    """Returns a class name as names are compared: in one Unicode form, without outer spaces."""
    return unicodedata.normalize("NFC", name).strip()


def check_distinct(names: Iterable[str], whose: str) -> None:
    """Raises DataError if two names are compared as the same; `whose` they are, for the message."""
    spelled = {}
    for name in names:
        if (other := spelled.setdefault(normalized(name), name)) != name:
            raise DataError(
                f"the classes {other!a} and {name!a} of {whose} differ only in spaces around them "
                "or in how Unicode writes them; rename one, or make them one"
            )


def _check_known(wanted, labels_of, firsts):
    unknown = dict.fromkeys(name for names in wanted for name in names if name not in labels_of)
    if unknown:
        first, *others = unknown
        nearest = difflib.get_close_matches(first, labels_of)
        hint = (
            f"did you mean {' or '.join(map(repr, nearest))}?"
            if nearest
            else f"its classes are {_some(firsts)}, or by number 0 to {len(firsts) - 1}"
        )
        raise DataError(
            f"the class map names {first!r}{f' and {len(others)} others' if others else ''}, "
            f"unknown to the model; {hint}"
        )


def _some(names):
    names = list(names)
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
