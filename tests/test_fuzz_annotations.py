"""2,000 damaged files a reader of annotations: an error of ours or boxes within their images."""

import json

import numpy as np
import pytest
from mutations import altered, damaged, few_or_many, fuzz
from pictures import picture

from bit_keras.data import DataError
from bit_keras.data.sources.annotations import boxed_sets
from bit_keras.data.sources.coco import coco_annotations
from bit_keras.data.sources.csv_file import csv_test_images
from bit_keras.data.sources.voc import voc_annotations
from bit_keras.data.sources.yolo import yolo_annotations

HEIGHT, WIDTH = 24, 32


def draw(path):
    """A GIF: Pillow alone checks it, which for each case is quicker than a graph of TensorFlow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(HEIGHT, WIDTH).save(path)


def check_boxes(annotated, bad_boxes):
    """Reads images and boxes, which must then lie in them."""
    for images in boxed_sets(*annotated, "error", bad_boxes).values():
        boxes = images.boxes
        assert np.isfinite(boxes).all()
        assert (boxes[:, :2] < boxes[:, 2:]).all()
        assert (boxes >= 0).all()
        assert (boxes <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
        assert set(images.classes.tolist()) <= {*range(images.num_classes)}


def run(cases, write, annotations):
    """Fuzzes a reader; wrong boxes are left out in two of three cases."""
    case = None

    def written(random, number):
        nonlocal case
        case = number
        return write(random, number)

    def read():
        check_boxes(annotations(), "skip" if case % 3 else "error")

    assert 0 < fuzz(cases, written, read, DataError) < cases


COCO = {
    "images": [
        {"id": 1, "file_name": "a.gif", "height": HEIGHT, "width": WIDTH},
        {"id": 2, "file_name": "b.gif"},
    ],
    "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 7,
            "bbox": [1, 2, 10.5, 11],
            "area": 100,
            "iscrowd": 0,
            "segmentation": [[1, 2, 11, 2, 11, 12, 1, 12]],
        },
        {
            "id": 2,
            "image_id": 2,
            "category_id": 3,
            "bbox": [0, 0, 5, 5],
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": [10, 20, HEIGHT * WIDTH - 30]},
        },
    ],
}


@few_or_many
def test_coco(tmp_path, cases):
    file = tmp_path / "x.json"
    for name in "ab":
        draw(tmp_path / f"{name}.gif")

    def write(random, case):
        text = json.dumps(altered(COCO, random)).encode()
        return file.write_bytes(damaged(text, random) if case % 2 else text)

    run(cases, write, lambda: coco_annotations(file))


def test_deep_nesting_is_no_json_of_coco(tmp_path):
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not a JSON file"):
        coco_annotations(tmp_path / "x.json")


VOC = f"""<annotation><folder>x</folder><filename>a.gif</filename>
<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>12</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>3.5</xmin><ymin>2</ymin><xmax>9</xmax><ymax>20</ymax></bndbox>
</object></annotation>"""


@few_or_many
def test_voc(tmp_path, cases):
    for name in ("Annotations", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    draw(tmp_path / "JPEGImages/a.gif")
    file, listed = tmp_path / "Annotations/a.xml", tmp_path / "ImageSets/Main/trainval.txt"

    def write(random, case):
        listed.write_bytes(b"a\n" if case % 4 else damaged(b"a\n", random))
        return file.write_bytes(damaged(VOC.encode(), random))

    run(cases, write, lambda: voc_annotations(tmp_path))


YAML = b"""path: .
train: images
names:
  0: cat
  1: dog
nc: 2
"""
LABELS = b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.9 0.1 0.9 0.9\n1 0.3 0.3 0.2 0.2\n"


@few_or_many
def test_yolo(tmp_path, cases):
    (tmp_path / "labels").mkdir()
    draw(tmp_path / "images/a.gif")

    def write(random, case):
        yaml = damaged(YAML, random) if case % 2 else YAML
        labels = LABELS if case % 2 else damaged(LABELS, random)
        (tmp_path / "labels/a.txt").write_bytes(labels)
        return (tmp_path / "data.yaml").write_bytes(yaml) + len(labels)

    run(cases, write, lambda: yolo_annotations(tmp_path))


CSV = b"""image,label,split,group
a.gif,cat,train,1
b.gif,"dog|cat",test,2
a b.gif,,test,3
"""


@few_or_many
def test_csv(tmp_path, cases):
    for name in ("a", "b", "a b"):
        draw(tmp_path / f"{name}.gif")
    file = tmp_path / "table.csv"

    def write(random, case):
        return file.write_bytes(damaged(CSV, random))

    assert 0 < fuzz(cases, write, lambda: csv_test_images(file), DataError) < cases


def test_names_that_hold_each_other_are_refused_at_once(tmp_path):
    """Written out, they would be 10**15 texts."""
    lines = [
        "a0: &a0 [x, x]",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 15)),
    ]
    names = ["names: [*a14]", "train: [*a14]", "nc: *a14"]
    (tmp_path / "data.yaml").write_text("\n".join([*lines, *names]))
    with pytest.raises(DataError, match=r"names in .* must be text, got a list"):
        yolo_annotations(tmp_path)
