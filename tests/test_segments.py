"""Segmentations of COCO files: masks as pycocotools makes them, or the annotation is named."""

import copy
import importlib.util
import json
import math

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from pictures import picture

from bit_keras import data
from bit_keras.data import DataError

coco = pytest.importorskip("pycocotools.coco")
coding = pytest.importorskip("pycocotools.mask")

DISK = (np.hypot(*np.ogrid[-10:14, -12:18]) < 9).astype(np.uint8)  # of an image of 30x24
COMPRESSED = coding.encode(np.asfortranarray(DISK))["counts"].decode()
CONTENT = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 30, "height": 24},
        {"id": 2, "file_name": "b.png"},
    ],
    "categories": [{"id": 3, "name": "ant"}],
    "annotations": [
        {
            "id": 10,
            "image_id": 1,
            "category_id": 3,
            "bbox": [2, 3, 20, 18],
            "area": 7.5,
            "segmentation": [[2, 3, 22, 3, 22, 21.5], [2, 15, 8.5, 20, 2, 20, 1, 17]],
        },
        {
            "id": 11,
            "image_id": 1,
            "category_id": 3,
            "bbox": [3, 1, 18, 18],
            "segmentation": {"size": [24, 30], "counts": COMPRESSED},
        },
        {
            "id": 12,
            "image_id": 1,
            "category_id": 3,
            "bbox": [0, 0, 3, 24],
            "iscrowd": 1,
            "segmentation": {"size": [24, 30], "counts": [5, 7, 20, 13, 675]},
        },
        {
            "id": 13,
            "image_id": 1,
            "category_id": 3,
            "bbox": [20, 10, 20, 30],  # partly outside
            "segmentation": [[20, 10, 40, 10, 40, 40, 20, 40]],
        },
    ],
}


def written(folder, content):
    for i, image in enumerate(content["images"]):
        picture(24, 30, seed=i).save(folder / image["file_name"])
    path = folder / "all.json"
    path.write_text(json.dumps(content))
    return path


def with_a_test_set(folder, content, **options):
    """The images of a file, all of them to train on."""
    (folder / "test").mkdir()
    test = copy.deepcopy(CONTENT)
    return data.from_coco(written(folder, content), test=written(folder / "test", test), **options)[
        0
    ]


def test_masks_are_those_of_pycocotools(tmp_path):
    images = with_a_test_set(tmp_path, CONTENT)
    theirs = coco.COCO(str(tmp_path / "all.json"))
    assert len(images.masks) == 4
    for code, annotation in zip(images.masks, CONTENT["annotations"], strict=True):
        assert code["size"] == [24, 30]
        mask = theirs.annToMask(annotation)
        assert mask.sum() >= 20
        np.testing.assert_array_equal(coding.decode(code), mask)
    assert images.has_masks
    assert images.areas.tolist() == [7.5, 18 * 18, 3 * 24, 10 * 14]


@pytest.mark.parametrize("segmentation", [None, [], {}, [[]], "missing"])
def test_without_a_segmentation_there_is_no_mask(tmp_path, segmentation):
    content = copy.deepcopy(CONTENT)
    content["annotations"][1]["segmentation"] = segmentation
    if segmentation == "missing":
        del content["annotations"][1]["segmentation"]
    images = with_a_test_set(tmp_path, content)
    assert [mask is None for mask in images.masks] == [False, True, False, False]
    assert not images.has_masks
    message = r"1 of 3 objects of .* have no mask, the first being object 1 of image .*a\.png"
    with pytest.raises(DataError, match=message):
        data.require_masks(images)
    with pytest.raises(DataError, match=message):
        data.detection_batches(images, batch=1, size=32, seed=0, masks=True)
    for annotation in content["annotations"]:
        annotation["segmentation"] = []
    assert data.from_coco(written(tmp_path, content))[0].masks is None


def code(counts, size=(24, 30)):
    return {"size": [*size], "counts": counts}


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, 9, 9]], "has a polygon of 2 points, and 3 are needed"),
        ([[1, 1, 9, 1, 9, 9], []], "has a polygon of 0 points"),
        ([[1, 1, 9, 1, 9, 9, 3]], "a polygon with an odd number of coordinates, 7"),
        ([[1, 1, 9, 1, 9, math.nan]], "a polygon that is not of finite numbers"),
        ([[1, 1, 9, 1, 9, math.inf]], "a polygon that is not of finite numbers"),
        ([[1, 1, 9, 1, 9, None]], "a polygon that is not of finite numbers"),
        ([[1, 1, 9, 1, 9, "x"]], "a polygon that is not of finite numbers"),
        ([[1, 1, 9, 1, 9, 10**400]], "a polygon that is not of finite numbers"),
        ([[[1, 1], [9, 1], [9, 9]]], "a polygon that is not of finite numbers"),
        ([[31, 1, 39, 1, 39, 9]], r"lie outside, beginning at \(31, 1\), its image of 30x24"),
        ([[1, 24, 9, 24, 9, 30], [-5, 1, 0, 1, 0, 9]], "polygons that lie outside"),
        ([[1, 1, 1e9, 1, 9, 9]], r"the coordinate 1e\+09, far outside its image of 30x24"),
        ([1, 1, 9, 1, 9, 9], "must have a segmentation of polygons, .* got list of int"),
        ("polygon", "must have a segmentation of polygons, .* got str"),
        (7, "must have a segmentation of polygons, .* got int"),
        (code([700, 20], (30, 24)), "a run-length code of 24x30 pixels, and its image has 30x24"),
        (code(COMPRESSED, (24, 31)), "counts must .* sum to its 31x24 pixels"),
        (code([700, 19]), r"sum to its 30x24 pixels \(720\), and sum to 719"),
        (code([730, -10]), "counts must be 0 or more"),
        (code([]), "and sum to 0"),
        (code([0.5, 719.5]), "counts cannot be read"),
        (code(None), "counts cannot be read"),
        (code(COMPRESSED[:-1]), "counts cannot be read|counts must"),
        (code(COMPRESSED + "1"), "counts must be"),
        (code("zzz"), "counts cannot be read"),
        (code("o" * 50), "counts cannot be read"),
        (code("é"), "counts cannot be read"),
        (code("\ud800"), "counts cannot be read"),
        ({"counts": [720]}, r"size must be \[height, width\], got None"),
        (code([720], ("24", "30")), r"size must be \[height, width\]"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, segmentation, message):
    content = copy.deepcopy(CONTENT)
    content["annotations"][1]["segmentation"] = segmentation
    with pytest.raises(
        DataError,
        match=rf"^1 of 4 boxes .*being annotation 11 of all.json \(.*a.png\), which .*{message}",
    ):
        data.from_coco(written(tmp_path, content))


def test_objects_of_wrong_segmentations_may_be_left_out(tmp_path, capsys):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["segmentation"] = [[1, 1]]
    content["annotations"][1]["segmentation"] = code([720], (30, 24))
    images = with_a_test_set(tmp_path, content, bad_boxes="skip")
    assert "Left out: 2 of 8 boxes" in capsys.readouterr().err
    assert (len(images.boxes), len(images.masks), images.has_masks) == (2, 2, True)
    assert coding.area(images.masks.tolist()).tolist() == [20, 10 * 14]


def test_wrong_segmentations_are_refused_without_pycocotools_too(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "coco" in name else found(name)
    )
    images = with_a_test_set(tmp_path, CONTENT)
    assert images.masks is None
    with pytest.raises(ValueError, match=r"needed to read masks .* pip install .*\[detection\]"):
        data.require_masks(images)
    content = copy.deepcopy(CONTENT)
    content["annotations"][1]["segmentation"] = [[1, 1]]
    with pytest.raises(DataError, match="polygon of 1 point, and 3"):
        data.from_coco(written(tmp_path, content))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_lie_in_the_upright_image_or_turn_with_it(tmp_path, orientation):
    stored = np.zeros((24, 32, 3), np.uint8)
    stored[2:8, 4:20] = stored[8:12, 15:20] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    upright = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(tmp_path / "a.png")))[..., 0]
    masks = [upright > 0]
    if orientation >= 5:  # else the sizes cannot tell, and masks are upright
        masks.append(stored[..., 0] > 0)
    picture().save(tmp_path / "b.png")
    for mask in masks:
        encoded = coding.encode(np.asfortranarray(mask, np.uint8))
        left, top, width, height = coding.toBbox(encoded).tolist()
        content = {
            "images": [
                {"id": 1, "file_name": "a.png", "width": mask.shape[1], "height": mask.shape[0]},
                {"id": 2, "file_name": "b.png"},
            ],
            "categories": [{"id": 1, "name": "x"}],
            "annotations": [
                {
                    "image_id": 1,
                    "category_id": 1,
                    "bbox": [left, top, width, height],
                    "segmentation": {"size": [*mask.shape], "counts": encoded["counts"].decode()},
                }
            ],
        }
        path = tmp_path / "all.json"
        path.write_text(json.dumps(content))
        train, _ = data.from_coco(path)
        assert train.image_ids == (1,)
        np.testing.assert_array_equal(coding.decode(train.masks[0]), upright > 0)
        assert coding.toBbox(train.masks[0]).tolist() == [
            *train.boxes[0, :2],
            *(train.boxes[0, 2:] - train.boxes[0, :2]),
        ]
