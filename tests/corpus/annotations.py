"""COCO, VOC and YOLO files: cut short, of wrong types, with impossible boxes, or bombs."""

import copy
import json
import math
from collections.abc import Callable
from typing import NamedTuple

from corpus.folders import put

HEIGHT, WIDTH = 8, 9  # of every image


class Set(NamedTuple):
    """A detection data set, in the folder `write` gets.

    Attributes:
        write: Writes it into an existing folder.
        expected: The boxes of its images, in order, [[left, top, right, bottom], ...]; or what the
            refusal says, an expression.
    """

    write: Callable
    expected: list | str


BOX = [1, 2, 5, 6]
COCO = {
    "images": [
        {"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH},
        {"id": 2, "file_name": "2.png"},
    ],
    "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 4, 4]},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [1, 2, 4, 4]},
    ],
}


def _coco(change=None, text=None):
    """Writes a COCO file, changed as JSON or as text."""

    def write(root):
        put(root, "1.png", "2.png")
        content = copy.deepcopy(COCO)
        if change:
            change(content)
        whole = json.dumps(content)
        (root / "all.json").write_text(text(whole) if text else whole)

    return write


def _first(kind, **changes):
    return _coco(lambda content: content[kind][0].update(changes))


def _box(*box):
    return _first("annotations", bbox=[*box])


_NESTED = "[" * 100_000
_ABOVE = "../../outside.png"


def _outside(root):
    """A picture that a file names by a path out of its folder: it is read as any picture is."""
    put(root.parents[1], "outside.png")
    _first("images", file_name=_ABOVE)(root)


COCO_SETS = {
    "coco_sound": Set(_coco(), [BOX, BOX]),
    "coco_cut": Set(_coco(text=lambda t: t[: len(t) // 2]), "is not a JSON file"),
    "coco_empty": Set(_coco(text=lambda t: ""), "is not a JSON file"),
    "coco_binary": Set(_coco(text=lambda t: "\0\1\2" * 99), "is not a JSON file"),
    "coco_deep": Set(_coco(text=lambda t: _NESTED), "is not a JSON file"),
    "coco_deep_box": Set(
        _coco(text=lambda t: t.replace("[1, 2, 4, 4]", "[" * 900 + "]" * 900, 1)),
        "must have a bbox of 4 numbers|is not a JSON file",
    ),
    "coco_long_number": Set(
        _coco(text=lambda t: t.replace("[1, 2", f"[{'9' * 5000}, 2", 1)),
        "is not a JSON file|is not finite",
    ),
    "coco_list": Set(_coco(text=lambda t: "[]"), "must have a list of objects 'images'"),
    "coco_null_images": Set(_coco(lambda c: c.update(images=None)), "list of objects 'images'"),
    "coco_texts": Set(_coco(lambda c: c.update(annotations=["x"])), "objects 'annotations'"),
    "coco_same_images": Set(_first("images", id=2), "two images with the id 2"),
    "coco_same_files": Set(_first("images", file_name="2.png"), "is twice in all"),
    "coco_same_files_otherwise": Set(_first("images", file_name="./2.png"), "is twice in all"),
    "coco_same_categories": Set(_first("categories", id=3), "2 categories with the id 3"),
    "coco_same_names": Set(_first("categories", name="dog"), "2 categories with the name 'dog'"),
    "coco_nan": Set(_box(math.nan, 2, 4, 4), "1 of 2 boxes .*is not finite"),
    "coco_infinite": Set(_box(1, 2, math.inf, 4), "1 of 2 boxes .*is not finite"),
    "coco_huge": Set(_box(1, 2, 1e308, 1e308), [[1, 2, WIDTH, HEIGHT], BOX]),
    "coco_no_area": Set(_box(1, 2, 0, 4), "1 of 2 boxes .*has no area"),
    "coco_negative": Set(_box(5, 6, -4, -4), "1 of 2 boxes .*corners in the wrong order"),
    "coco_outside": Set(_box(100, 100, 4, 4), "1 of 2 boxes .*lies outside its image of 9x8"),
    "coco_partly_outside": Set(_box(-3, -3, 8, 9), [[0, 0, 5, 6], BOX]),
    "coco_texts_in_box": Set(_box("a", "b", "c", "d"), "1 of 2 boxes .*is not finite"),
    "coco_objects_in_box": Set(_box({}, [], None, True), "1 of 2 boxes .*is not finite"),
    "coco_no_box": Set(_first("annotations", bbox=None), "must have a bbox of 4 numbers"),
    "coco_unknown_image": Set(_first("annotations", image_id=9), "of the image 9, which is not"),
    "coco_list_as_image": Set(_first("annotations", image_id=[1]), "which is not among its"),
    "coco_unknown_class": Set(_first("annotations", category_id=9), "has the category 9, which"),
    "coco_missing_image": Set(_first("images", file_name="no.png"), "1 image of 2 cannot be read"),
    "coco_other_size": Set(_first("images", height=99), "not of the size that was annotated"),
    "coco_outside_folder": Set(_outside, [BOX, BOX]),
    "coco_outside_missing": Set(
        _first("images", file_name="../../../../../../etc/passwd.png"), "1 image of 2 cannot be"
    ),
    "coco_system_file": Set(
        _first("images", file_name="/etc/passwd"), "passwd .cannot identify image file"
    ),
    "coco_device": Set(_first("images", file_name="/dev/zero"), "zero .not a regular file"),
    "coco_folder": Set(_first("images", file_name="."), "not a regular file"),
    "coco_long_name": Set(_first("images", file_name="x" * 300), "File name too long"),
    "coco_nul": Set(_first("images", file_name="a\0b"), "embedded null byte"),
    "coco_surrogate": Set(_first("images", file_name="\ud800.png"), "surrogates not allowed"),
    "coco_line_break": Set(_first("images", file_name="a\nb.png"), r"a\\nb.png .No such file"),
    "coco_huge_mask": Set(
        _first("annotations", segmentation={"size": [10**9, 10**9], "counts": [10**18]}),
        "has a run-length code of 1000000000x1000000000 pixels, and its image has 9x8",
    ),
    "coco_short_mask": Set(
        _first("annotations", segmentation={"size": [HEIGHT, WIDTH], "counts": [3]}),
        "counts must be 0 or more and sum to",
    ),
    "coco_far_polygon": Set(
        _first("annotations", segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]), "far outside"
    ),
}

_SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"


def _object(*corners, name="cat"):
    keys = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, corners, strict=True))
    return f"<object><name>{name}</name><bndbox>{inner}</bndbox></object>"


SOUND = _object(2, 3, 5, 6)
_LAUGHS = "<!DOCTYPE a [<!ENTITY l0 'ha'>" + "".join(
    f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 12)
)
_LONG = f"<!DOCTYPE a [<!ENTITY l '{'ha' * 50_000}'>]>"


def _voc(text=None, *, listed=None, inner=SOUND):
    def write(root):
        put(root / "JPEGImages", "1.png", "2.png")
        (root / "Annotations").mkdir()
        whole = f"<annotation>{_SIZE}{inner}</annotation>"
        (root / "Annotations/1.xml").write_text(text or whole)
        (root / "Annotations/2.xml").write_text(f"<annotation>{_SIZE}{SOUND}</annotation>")
        if listed is not None:
            (root / "ImageSets/Main").mkdir(parents=True)
            (root / "ImageSets/Main/trainval.txt").write_text(listed)

    return write


def _inner(inner, expected):
    return Set(_voc(inner=inner), expected)


VOC_SETS = {
    "voc_sound": Set(_voc(), [BOX, BOX]),
    "voc_cut": Set(_voc("<annotation><object>"), "1.xml is not an XML file"),
    "voc_empty": Set(_voc(" "), "1.xml is not an XML file"),
    "voc_bomb": Set(
        _voc(f"{_LAUGHS}]><annotation>&l11;</annotation>"), "1.xml is not an XML file .*amplif"
    ),
    "voc_long_bomb": Set(
        _voc(f"{_LONG}<annotation>{'&l;' * 5000}</annotation>"), "not an XML file .*amplif"
    ),
    "voc_outside_entity": Set(
        _voc(
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
            f"<annotation>{_SIZE}{_object(2, 3, 5, 6, name='&x;')}</annotation>"
        ),
        "not an XML file .undefined entity",
    ),
    "voc_deep": Set(_voc("<a>" * 100_000 + SOUND + "</a>" * 100_000), [BOX, BOX]),
    "voc_encoding": Set(_voc('<?xml version="1.0" encoding="x"?><a/>'), "not an XML file"),
    "voc_nan": _inner(_object("nan", 3, 5, 6), "must have a bndbox of 4 numbers"),
    "voc_infinite": _inner(_object(2, 3, "inf", 6), "1 of 2 boxes .*is not finite"),
    "voc_texts": _inner(_object("a", 3, 5, 6), "must have a bndbox of 4 numbers"),
    "voc_wrong_order": _inner(_object(5, 6, 2, 3), "has its corners in the wrong order"),
    "voc_outside": _inner(_object(50, 50, 60, 60), "lies outside its image of 9x8"),
    "voc_no_name": _inner(_object(2, 3, 5, 6, name=""), "has no name"),
    "voc_other_image": _inner("<filename>2.png</filename>", "is of another image by its filename"),
    "voc_other_size": Set(
        _voc(f"<a><size><width>1</width><height>1</height></size>{SOUND}</a>"), "not of the size"
    ),
    "voc_outside_filename": _inner(f"<filename>../../x/1.png</filename>{SOUND}", [BOX, BOX]),
    "voc_listed_twice": Set(_voc(listed="1\n2\n1\n"), "is twice in"),
    "voc_listed_missing": Set(_voc(listed="1\n3\n"), "names 3, and there is no .*3.xml"),
    "voc_listed_outside": Set(_voc(listed="1\n../../../x\n"), r"names \.\./\.\./\.\./x, and there"),
    "voc_listed_long": Set(_voc(listed=f"1\n{'x' * 300}\n"), "cannot be read .File name too long"),
    "voc_listed_nul": Set(_voc(listed="1\na\0b\n"), "null byte"),
    "voc_listed_folder": Set(_voc(listed="1\n.\n"), "names ., and there is no"),
}

_YAML = "path: .\ntrain: images\nnames: [cat, dog]\n"
_LINE = "0 0.33333333 0.5 0.44444444 0.5\n"  # BOX


def _yolo(yaml=_YAML, line=_LINE, **files):
    def write(root):
        put(root / "images", "1.png", "2.png")
        (root / "labels").mkdir()
        (root / "labels/1.txt").write_text(line)
        (root / "labels/2.txt").write_text(_LINE)
        (root / "data.yaml").write_text(yaml)
        for name, content in files.items():
            (root / f"{name}.txt").write_text(content)

    return write


def _line(line, expected):
    return Set(_yolo(line=line), expected)


def _yaml(text, expected):
    return Set(_yolo(text), expected)


def _merges(levels=30):
    """Maps that each hold the one before ten times: 10**30 entries."""
    lines = ["a0: &a0 {k: 1}"]
    for n in range(1, levels):
        lines.append(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}")
    return "\n".join([*lines, _YAML])


def _lists(levels=30):
    lines = ["a0: &a0 [x, x]"]
    for n in range(1, levels):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    return "\n".join([*lines, f"names: [*a{levels - 1}]", "train: images"])


YOLO_SETS = {
    "yolo_sound": Set(_yolo(), [BOX, BOX]),
    "yolo_cut": _yaml(_YAML[:-6], "is not a YAML file"),
    "yolo_empty": _yaml("", "must have names, train and val, got NoneType"),
    "yolo_merge_bomb": _yaml(_merges(), "is not a YAML file"),
    "yolo_list_bomb": _yaml(_lists(), "names in .* must be text, got a list"),
    "yolo_deep": _yaml("names: " + "[" * 5000, "is not a YAML file"),
    "yolo_ring": _yaml("names: &a [*a]\ntrain: images", "names in .* must be text, got a list"),
    "yolo_code": _yaml(
        _YAML + "x: !!python/object/apply:os.system ['touch canary']\n", "is not a YAML file"
    ),
    "yolo_many_names": _yaml(
        f"train: images\nnames: [{', '.join(map(str, range(2_000)))}, '1999']\n", "comes twice"
    ),
    "yolo_number_as_names": _yaml("train: images\nnames: 3\n", "must have names, a list"),
    "yolo_long_folder": _yaml(f"train: {'x' * 300}\nnames: [a]\n", "and there is no"),
    "yolo_nul_folder": _yaml('train: "a\\0b"\nnames: [a]\n', "and there is no"),
    "yolo_list_as_path": _yaml("path: [1]\n" + _YAML[8:], "path in .* must be text, got a list"),
    "yolo_outside_missing": _yaml("train: ../../../../no\nnames: [a]\n", "and there is no"),
    "yolo_list": Set(_yolo("train: l.txt\nnames: [cat]\n", l="images/1.png\n"), [BOX]),
    "yolo_listed_twice": Set(
        _yolo("train: l.txt\nnames: [cat]\n", l="images/1.png\n./images/1.png\n"), "is twice in"
    ),
    "yolo_listed_missing": Set(
        _yolo("train: l.txt\nnames: [cat]\n", l="../../../../etc/no.png\n"), "1 image of 1 cannot"
    ),
    "yolo_listed_nul": Set(_yolo("train: l.txt\nnames: [cat]\n", l="a\0b\n"), "null byte"),
    "yolo_listed_long": Set(
        _yolo("train: l.txt\nnames: [cat]\n", l=f"{'x' * 300}\n"), "File name too long"
    ),
    "yolo_cut_line": _line("0 0.5 0.5 0.5\n", "must have 5 numbers, or a class and a polygon"),
    "yolo_nan": _line("0 nan 0.5 0.5 0.5\n", "must have finite numbers"),
    "yolo_infinite": _line("0 0.5 0.5 inf 0.5\n", "must have finite numbers"),
    "yolo_pixels": _line("0 5 5 4 4\n", r"must have coordinates in \[0, 1\]"),
    "yolo_no_area": _line("0 0.5 0.5 0 0.5\n", "has no area"),
    "yolo_unknown_class": _line("7 0.5 0.5 0.5 0.5\n", "has the class 7"),
    "yolo_huge_class": _line(f"{'9' * 400} 0.5 0.5 0.5 0.5\n", "must have finite numbers"),
    "yolo_text": _line("cat is here now .\n", "must have finite numbers"),
}

SETS = COCO_SETS | VOC_SETS | YOLO_SETS
