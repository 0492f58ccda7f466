"""Which of a model's classes are right for the classes of a data set that has others."""

import difflib
import os
import pathlib
import unicodedata
from collections.abc import Mapping, Sequence

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

    The column `class` has the data set's classes, the names of its folders for instance;
    `model_class` the model's classes that are right for it, separated by "|", as
    `accepted_classes` takes them. Images of a class that has none cannot be tested. Other columns
    are left alone.

    Returns:
      {class of the data: classes of the model}.

    Raises:
      DataError: a missing column, a line without a class, or a class on two lines.
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
    """Finds which of a model's answers are right for which class of a data set.

    Names are the same if they differ in spaces around them alone, or in how Unicode writes their
    accents: file systems and tables write the same name in several ways.

    Without a map, classes of the same name are the same, if the model knows all of the data's. If
    it does not, and nobody knows what its classes are (they are called "0", "1", ...), but they are
    as many as the data's, they are the same in the same order.

    Args:
      class_names: the data set's classes.
      model_names: what each of the model's classes is called: a name, or several of them, as
        ("n01440764", "tench, Tinca_tinca", "tench", "Tinca_tinca").
      class_map: from classes of the data to classes of the model, each by a name that no other
        class has, or else by its number, "0" being the first. Classes of the data that it lacks are
        left out, and what the data lack of it is passed over.

    Returns:
      bool [len(class_names), len(model_names)]; a class of the data whose row is empty is to be
      left out of a test.

    Raises:
      DataError: a class that the model does not have, or a name that several have; no map where
        one is needed, or one without a class of the data; two names of it or of the data that are
        the same.
    """
    classes = [*map(_plain, class_names)]
    aliases = [(name,) if isinstance(name, str) else name for name in model_names]
    aliases = [tuple(map(_plain, names)) for names in aliases]
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
        _check_distinct(class_map, "the class map")
        class_map = {_plain(name): [*map(_plain, names)] for name, names in class_map.items()}
        # What is both a name and a number is the name.
        labels_of = {number: [label] for label, number in enumerate(numbers)} | labels_of
        wanted = [class_map.get(name, ()) for name in classes]
        if not any(wanted):
            raise DataError(
                "the class map has model classes for no class of the data; its column class must "
                f"have names such as {_some(class_names)}, got {_some(class_map) or 'none'}"
            )
        _check_known(wanted, labels_of, firsts)

    _check_distinct(class_names, "the data")
    accepted = np.zeros([len(classes), len(aliases)], bool)
    for row, names in zip(accepted, wanted, strict=True):
        for name in names:
            labels = labels_of[name]
            if len(labels) > 1:
                raise DataError(
                    f"{name!r} may be any of {len(labels)} classes of the model; say which in a "
                    f"class map, as {_some([_distinct(k, aliases, labels_of) for k in labels])}"
                )
            row[labels[0]] = True
    return accepted


def _plain(name):
    return unicodedata.normalize("NFC", name).strip()


def _check_distinct(names, whose):
    spelled = {}
    for name in names:
        if (other := spelled.setdefault(_plain(name), name)) != name:
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


def _distinct(label, aliases, labels_of):
    """A name of a class that no other has, or its number."""
    return next((name for name in aliases[label] if len(labels_of[name]) == 1), str(label))


def _some(names):
    names = list(names)
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
