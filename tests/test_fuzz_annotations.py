"""2,000 damaged files a reader of annotations: an error of ours or boxes within their images."""

import json

import numpy as np
import pytest
from mutations import altered, damaged, seeded
from pictures import picture

from bit_keras.data import DataError
from bit_keras.data.sources import annotations
from bit_keras.data.sources.annotations import boxed_sets
from bit_keras.data.sources.coco import coco_annotations
from bit_keras.data.sources.voc import voc_annotations
from bit_keras.data.sources.yolo import yolo_annotations

CASES = 2_000
HEIGHT, WIDTH = 24, 32


@pytest.fixture(autouse=True)
def images_are_known(monkeypatch):
    """Decoding the same sound pictures thousands of times would take minutes."""

    def check_images(files, folder, bad_images):
        missing = [file for file in files if not str(file).endswith((".png", ".jpg"))]
        if missing:
            raise DataError(f"1 image of {len(files)} cannot be read: {missing[0]}")
        return np.full((len(files), 3), (HEIGHT, WIDTH, 1), np.int32)

    monkeypatch.setattr(annotations, "check_images", check_images)
    monkeypatch.setattr(annotations, "identity", lambda files, folder: (0, 0))


def fuzz(write, read, capsys):
    """Reads what every case writes; returns how many were taken for sound."""
    sound = 0
    for case in range(CASES):
        write(seeded(case), case)
        try:
            sets = boxed_sets(*read(), "error", "skip" if case % 3 else "error")
            sound += 1
        except DataError as error:
            if len(str(error)) > 3_000:
                raise AssertionError(f"case {case}: a long message") from error
            continue
        except Exception as error:
            raise AssertionError(f"case {case}: {error!r}") from error
        for images in sets.values():
            boxes = images.boxes
            assert np.isfinite(boxes).all(), case
            assert (boxes[:, :2] < boxes[:, 2:]).all(), case
            assert (boxes >= 0).all(), case
            assert (boxes <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all(), case
            assert set(images.classes.tolist()) <= {*range(images.num_classes)}, case
        capsys.readouterr()
    return sound


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        picture(HEIGHT, WIDTH).save(tmp_path / f"{name}.png")
    return tmp_path


COCO = {
    "images": [
        {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
        {"id": 2, "file_name": "b.png"},
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


def test_coco(folder, capsys):
    file = folder / "x.json"

    def write(random, case):
        text = json.dumps(altered(COCO, random)).encode()
        file.write_bytes(damaged(text, random) if case % 2 else text)

    assert 0 < fuzz(write, lambda: coco_annotations(file), capsys) < CASES


def test_deep_nesting_is_no_json_of_coco(folder):
    (folder / "x.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not a JSON file"):
        coco_annotations(folder / "x.json")


VOC = f"""<annotation><folder>x</folder><filename>a.png</filename>
<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>12</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>3.5</xmin><ymin>2</ymin><xmax>9</xmax><ymax>20</ymax></bndbox>
</object></annotation>"""


def test_voc(tmp_path, capsys):
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    picture(HEIGHT, WIDTH).save(tmp_path / "JPEGImages/a.png")
    file, listed = tmp_path / "Annotations/a.xml", tmp_path / "ImageSets/Main/trainval.txt"

    def write(random, case):
        file.write_bytes(damaged(VOC.encode(), random))
        listed.write_bytes(b"a\n" if case % 4 else damaged(b"a\n", random))

    assert 0 < fuzz(write, lambda: voc_annotations(tmp_path), capsys) < CASES


YAML = b"""path: .
train: images
names:
  0: cat
  1: dog
nc: 2
"""
LABELS = b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.9 0.1 0.9 0.9\n1 0.3 0.3 0.2 0.2\n"


def test_yolo(tmp_path, capsys):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    picture(HEIGHT, WIDTH).save(tmp_path / "images/a.png")

    def write(random, case):
        yaml = damaged(YAML, random) if case % 2 else YAML
        (tmp_path / "data.yaml").write_bytes(yaml)
        (tmp_path / "labels/a.txt").write_bytes(LABELS if case % 2 else damaged(LABELS, random))

    assert 0 < fuzz(write, lambda: yolo_annotations(tmp_path), capsys) < CASES


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
