"""COCO's JSON files: read as pycocotools reads them, or refused with the annotation named."""

import copy
import json
import math

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from boxes import of_image
from pictures import picture, read_all

from bit_keras import data
from bit_keras.data import DataError

CONTENT = {
    "images": [
        {"id": 40, "file_name": "a.png", "width": 20, "height": 12},
        {"id": 7, "file_name": "sub/b.png", "width": 30, "height": 24},
        {"id": 9, "file_name": "c.png"},
        {"id": 11, "file_name": "empty.png", "width": 20, "height": 12},
    ],
    "categories": [
        {"id": 90, "name": "zebra"},
        {"id": 3, "name": "ant"},
        {"id": 17, "name": "emu"},
    ],
    "annotations": [
        {"id": 5, "image_id": 7, "category_id": 90, "bbox": [2.5, 3, 10, 8.25], "area": 50.5},
        {"id": 2, "image_id": 40, "category_id": 3, "bbox": [0, 0, 20, 12], "iscrowd": 1},
        {"id": 3, "image_id": 7, "category_id": 3, "bbox": [20, 10, 15, 20], "iscrowd": 0},
        {"id": 9, "image_id": 9, "category_id": 90, "bbox": [1, 1, 4, 5], "area": 20},
    ],
}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for i, image in enumerate(CONTENT["images"]):
        size = image.get("height", 12), image.get("width", 20)
        picture(*size, seed=i).save(folder / image["file_name"])
    return folder


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def both(path, folder=None, **options):
    """(The training images, {id: (objects, file, pixels)} of all images of a file)."""
    train, test = data.from_coco(path, folder, test_fraction=0.3, **options)
    found = {}
    for images in (train, test):
        for i, (image_id, file) in enumerate(zip(images.image_ids, images.files, strict=True)):
            found[image_id] = (of_image(images, i), file, read_all(images)[i])
    return train, found


def test_a_file_is_read_as_pycocotools_reads_it(photos):
    coco = pytest.importorskip("pycocotools.coco")
    path = written(photos / "all.json", CONTENT)
    train, found = both(path)
    assert train.class_names == ("ant", "emu", "zebra")
    assert train.category_ids.tolist() == [3, 17, 90]
    theirs = coco.COCO(str(path))
    assert found.keys() == {*theirs.getImgIds()}
    for image_id, (objects, file, pixels) in found.items():
        expected = theirs.loadAnns(theirs.getAnnIds([image_id]))
        assert file.endswith(theirs.loadImgs([image_id])[0]["file_name"])
        np.testing.assert_array_equal(pixels, PIL.Image.open(file))
        assert len(objects) == len(expected)
        for (label, box, crowd), annotation in zip(objects, expected, strict=True):
            left, top, width, height = annotation["bbox"]
            right, bottom = min(left + width, 30), min(top + height, 24)
            assert box == [left, top, right, bottom]
            assert train.category_ids[label] == annotation["category_id"]
            assert crowd == bool(annotation.get("iscrowd"))
    assert found[11][0] == []


def test_areas_are_those_of_the_objects_or_of_the_boxes(photos):
    images = data.from_coco(written(photos / "all.json", CONTENT), test_fraction=0.3)
    areas = {
        (part.image_ids[i], float(area))
        for part in images
        for i in range(len(part))
        for area in part.areas[part.starts[i] : part.starts[i + 1]]
    }
    assert areas == {(7, 50.5), (40, 240), (7, 10 * 14), (9, 20)}  # one is cut off


@pytest.mark.parametrize("place", ["all.json", "../all.json", "../notes/instances_photos.json"])
def test_images_are_found_beside_the_file(photos, place):
    path = written(photos / place, CONTENT)
    names = None
    if place == "../all.json":
        names = {i["file_name"]: f"photos/{i['file_name']}" for i in CONTENT["images"]}
        content = copy.deepcopy(CONTENT)
        for image in content["images"]:
            image["file_name"] = names[image["file_name"]]
        written(path, content)
    assert len(both(path)[1]) == 4


def test_a_folder_may_be_given(photos, tmp_path):
    path = written(tmp_path / "elsewhere" / "deep" / "all.json", CONTENT)
    assert len(both(path, photos)[1]) == 4
    with pytest.raises(DataError, match=r"none of the 4 images of .*all.json is in .*image_folder"):
        data.from_coco(path)


def parts(photos, change=lambda content: None):
    """A file to train on, and another of other images with changes, as (path, path)."""
    test = copy.deepcopy(CONTENT)
    for image in test["images"]:
        image["file_name"] = f"test/{image['file_name']}"
        (photos / image["file_name"]).parent.mkdir(parents=True, exist_ok=True)
        picture(image.get("height", 12), image.get("width", 20)).save(photos / image["file_name"])
    change(test)
    return written(photos / "train.json", CONTENT), written(photos / "test.json", test)


def test_a_file_to_test_on_may_number_classes_otherwise(photos):
    def renumber(content):
        content["categories"] = [
            {"id": i, "name": n} for i, n in enumerate(("zebra", "emu", "ant"))
        ]
        for annotation in content["annotations"]:
            annotation["category_id"] = {90: 0, 17: 1, 3: 2}[annotation["category_id"]]

    paths = parts(photos, renumber)
    train, test = data.from_coco(paths[0], test=paths[1])
    assert train.class_names == test.class_names
    assert train.classes.tolist() == test.classes.tolist()
    assert test.category_ids.tolist() == [2, 1, 0]
    assert (train.name, test.name) == ("train", "test")
    by_name = data.boxes_from_name(f"{paths[0]},{paths[1]}")
    assert [part.description() for part in by_name] == [train.description(), test.description()]


def test_a_file_to_test_on_must_have_the_same_class_names(photos):
    paths = parts(photos, lambda content: content["categories"][0].update(name="horse"))
    with pytest.raises(DataError, match="same names, but only one has 'horse', 'zebra'"):
        data.from_coco(paths[0], test=paths[1])


def test_train_and_test_must_be_different_images(photos):
    path = written(photos / "train.json", CONTENT)
    with pytest.raises(DataError, match=r"a\.png is in train and test"):
        data.from_coco(path, test=path)


FIRST = ("annotations", 0)


@pytest.mark.parametrize(
    ("place", "changes", "message"),
    [
        (FIRST, {"bbox": [2, 3, 0, 8]}, r"annotation 5 of all\.json \(.*b\.png\), .* has no area"),
        (FIRST, {"bbox": [2, 3, -1, 8]}, "annotation 5 .*corners in the wrong order"),
        (FIRST, {"bbox": [2, math.nan, 1, 8]}, "annotation 5 .*is not finite"),
        (FIRST, {"bbox": [2, "x", 1, 8]}, "annotation 5 .*is not finite"),
        (FIRST, {"bbox": [31, 3, 4, 8]}, "annotation 5 .*lies outside its image of 30x24"),
        (FIRST, {"bbox": [1, 3, 4]}, "annotation 5 .*must have a bbox of 4 numbers"),
        (FIRST, {"bbox": None}, "annotation 5 .*must have a bbox of 4 numbers, got None"),
        (FIRST, {"area": -1}, "annotation 5 .*must have an area of 0 or more"),
        (FIRST, {"category_id": 4}, "annotation 5 .*has the category 4, which is not among"),
        (FIRST, {"category_id": [3]}, "annotation 5 .*has the category"),
        (FIRST, {"image_id": 41}, "annotation 5 of all.json, which is of the image 41, which is"),
        (("images", 1), {"width": 31}, "1 of 4 images are .*b.png, which has 30x24 .*says 31x24"),
        (("images", 1), {"id": 40}, "two images with the id 40, a.png and sub/b.png"),
        (("images", 1), {"file_name": "a.png"}, "a.png is twice in all of all"),
        (("images", 1), {"file_name": "lost.png"}, "1 image of 4 cannot be read: .*lost.png"),
        (("images", 0), {"file_name": "lost.png"}, "1 image of 4 cannot be read: .*lost.png"),
        (("images", 1), {"file_name": None}, "entry 1 of 'images' in .* has no file_name"),
        (("categories", 1), {"id": 90}, "2 categories with the id 90"),
        (("categories", 1), {"name": "zebra"}, "2 categories with the name 'zebra'"),
        (("categories", 1), {"id": "3"}, "ids of categories .* integers, got '3'"),
    ],
)
def test_what_cannot_be_used_is_named(photos, place, changes, message):
    content = copy.deepcopy(CONTENT)
    content[place[0]][place[1]].update(changes)
    with pytest.raises(DataError, match=message):
        data.from_coco(written(photos / "all.json", content))


def test_all_wrong_annotations_are_counted_and_may_be_left_out(photos, capsys):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["bbox"][2] = 0
    content["annotations"][3]["category_id"] = 1
    path = written(photos / "all.json", content)
    with pytest.raises(DataError, match=r"^2 of 4 boxes cannot be used, .*annotation 5 .*=skip"):
        data.from_coco(path)
    _, found = both(path, bad_boxes="skip")
    assert {key: len(objects) for key, (objects, _, _) in found.items()} == {
        7: 1,
        9: 0,
        11: 0,
        40: 1,
    }
    assert "Left out: 2 of 4 boxes" in capsys.readouterr().err
    with pytest.raises(DataError, match='bad_boxes must be "error" or "skip"'):
        data.from_coco(path, bad_boxes="no")


def test_broken_images_may_be_left_out_with_their_boxes(photos, capsys):
    (photos / "sub" / "b.png").write_bytes(b"no image")
    path = written(photos / "all.json", CONTENT)
    with pytest.raises(DataError, match="1 image of 4 cannot be read"):
        data.from_coco(path)
    _, found = both(path, bad_images="skip")
    assert {key: len(objects) for key, (objects, _, _) in found.items()} == {40: 1, 9: 1, 11: 0}
    assert "Left out: 1 image of 4" in capsys.readouterr().err
    skipped = data.evaluation_boxes(str(path), bad_images="skip").skipped
    assert skipped == (str(photos / "sub" / "b.png"),)


def test_boxes_far_beyond_their_image_are_told(photos, capsys):
    data.from_coco(written(photos / "all.json", CONTENT))
    err = capsys.readouterr().err
    assert "all: 1 of 4 boxes reach beyond their images and are cut off there" in err
    assert "annotation 3 of all.json" in err


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_lie_in_the_upright_image_or_turn_with_it(photos, orientation):
    stored = np.zeros((24, 32, 3), np.uint8)
    stored[2:8, 4:20] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image = PIL.Image.fromarray(stored)
    image.save(photos / "a.jpg", exif=exif, quality=100)
    picture().save(photos / "b.jpg")
    upright = (
        np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(photos / "a.jpg")))[..., 0] > 128
    )
    rows, columns = np.flatnonzero(upright.any(1)), np.flatnonzero(upright.any(0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
    height, width = upright.shape
    of_upright = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    cases = [((width, height), of_upright)]
    if orientation >= 5:  # else the sizes cannot tell, and boxes are upright
        cases.append(((32, 24), [4, 2, 16, 6]))
    for (stated_width, stated_height), bbox in cases:
        content = {
            "images": [
                {"id": 1, "file_name": "a.jpg", "width": stated_width, "height": stated_height},
                {"id": 2, "file_name": "b.jpg"},
            ],
            "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}],
            "annotations": [
                {"image_id": 1, "category_id": 1, "bbox": bbox},
                {"image_id": 2, "category_id": 1, "bbox": [1, 1, 2, 2]},
            ],
        }
        _, found = both(written(photos / "turned.json", content))
        assert found[1][0] == [(0, box, False)]
        assert found[1][2].shape == (height, width, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a JSON file"),
        ("[]", "must have a list of objects 'images'"),
        ('{"images": [], "annotations": []}', "must have a list of objects 'categories'"),
        ('{"images": [], "annotations": [], "categories": [3]}', "list of objects 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "has no categories"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
            "has no images",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=message):
        data.from_coco(tmp_path / "x.json")
    with pytest.raises(DataError, match="is not a file"):
        data.from_coco(tmp_path / "y.json")


def test_a_set_without_boxes_is_refused(photos):
    with pytest.raises(DataError, match="no image of all has a box of a single object"):
        data.from_coco(written(photos / "all.json", CONTENT | {"annotations": []}))


def test_evaluation_reads_the_images_to_test_on_alone(photos):
    path = written(photos / "all.json", CONTENT)
    assert len(data.evaluation_boxes(str(path))) == 4
    few = {**CONTENT, "images": CONTENT["images"][:2], "annotations": CONTENT["annotations"][:3]}
    test = data.evaluation_boxes(f"{photos / 'none.json'},{written(photos / 'test.json', few)}")
    assert (test.name, test.image_ids) == ("test", (40, 7))
