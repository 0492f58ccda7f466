"""Masks: exact in drawn scenes, and moved by the pipeline as their pictures are."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
import tensorflow as tf
from boxes import rectangles

from bit_keras import data
from bit_keras.data import DataError, masks
from bit_keras.data.sources import scenes

coding = pytest.importorskip("pycocotools.mask")

HEIGHT, WIDTH = 160, 200
DOWN, ACROSS = np.mgrid[:HEIGHT, :WIDTH] + 0.5


def disk(x, y, radius):
    return (ACROSS - x) ** 2 + (DOWN - y) ** 2 < radius**2


# One object an image, of various shapes and places, some at the border.
SHAPES = [
    disk(60, 70, 30) & ~disk(60, 70, 12),
    disk(190, 150, 50),
    (np.abs(ACROSS - 100) < 90) & (np.abs(DOWN - 80 - ACROSS / 10) < 20),
    disk(0, 80, 70) & (DOWN > ACROSS + 30),
]


def extent(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def masked(*shapes, **fields):
    """Images of one object each, red on black."""
    pixels = np.zeros((len(shapes), *shapes[0].shape, 3), np.uint8)
    pixels[..., 0] = 255 * np.stack(shapes)
    pixels = tf.constant(pixels)
    images = rectangles(*[[(0, *extent(shape))] for shape in shapes], size=shapes[0].shape)
    codes = [masks.mask_code(shape) for shape in shapes]
    return dataclasses.replace(
        images, read=lambda index: tf.gather(pixels, index), masks=codes, **fields
    )


IMAGES = masked(*SHAPES)
OPTIONS = {"batch": 16, "size": 160, "seed": 2, "masks": True}


def elements(dataset, count):
    return [tf.nest.map_structure(np.asarray, element) for element in dataset.take(count)]


def shares(start, stop, cells, pixels):
    """How much of each of `cells` parts of start .. stop lies in each pixel, in pixels."""
    edges, pixels = np.linspace(start, stop, cells + 1), np.arange(pixels)
    ends = np.minimum(edges[1:, None], pixels + 1), np.maximum(edges[:-1, None], pixels)
    return np.clip(ends[0] - ends[1], 0, None)


def pasted(mask, frame, size):
    """The pixels of a square of which a mask in a frame covers half or more."""
    left, top, right, bottom = frame
    down, across = shares(top, bottom, len(mask), size), shares(left, right, len(mask), size)
    return down.T @ (mask / 255) @ across >= 0.5


def moved(image):
    """What of a picture of `masked` is its object; what is beyond the image is gray."""
    return (image[..., 0] >= 0.5) & (image[..., 1] < 0.25)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("box", [[30, 40, 90, 100], [30.4, 41.7, 89.8, 99.1], [40.1, 60, 40.7, 61]])
@pytest.mark.parametrize("side", [7, 112])
def test_coverage_is_the_exact_share_of_each_cell(box, side):
    shape = SHAPES[0]
    found = masks.coverage(masks.mask_code(shape), box, side)
    assert (found.dtype, found.shape) == (np.uint8, (side, side))
    left, top, right, bottom = box
    exact = shares(top, bottom, side, HEIGHT) @ shape @ shares(left, right, side, WIDTH).T
    exact *= side**2 / ((right - left) * (bottom - top))
    np.testing.assert_allclose(found, 255 * exact, atol=0.51)
    assert found.max() > 200


def test_codes_are_read_as_pycocotools_reads_them():
    random = np.random.default_rng(0)
    for i in range(200):
        height, width = random.integers(1, 50, 2)
        mask = random.random((height, width)) < random.choice([0, 0.02, 0.5, 0.98, 1])
        mask = mask.repeat(1 + i % 9, 0).repeat(1 + i % 7, 1)
        code = masks.mask_code(mask)
        np.testing.assert_array_equal(coding.decode(code), mask)
        np.testing.assert_array_equal(masks.mask_pixels(code), mask)
        start, stop = sorted(random.integers(0, mask.shape[1] + 1, 2))
        part = masks.mask_pixels(code, slice(start, stop))
        np.testing.assert_array_equal(part, mask[:, start:stop])


@pytest.mark.parametrize("counts", [b"", b"zzz", b"o" * 30, b"\xff", b"05", "one more", "one less"])
def test_codes_of_other_pixels_are_refused(counts):
    whole = IMAGES.masks[0]["counts"]
    counts = {"one more": whole + b"1", "one less": whole[:-1]}.get(counts, counts)
    with pytest.raises(DataError, match=r"a mask of 200x160 pixels must .* sums to 32000;"):
        masks.mask_pixels({"size": [HEIGHT, WIDTH], "counts": counts})


def test_the_masks_of_scenes_are_the_pixels_that_differ(monkeypatch):
    drawn = scenes._object

    def with_opacity(change):
        monkeypatch.setattr(scenes, "_object", lambda *args: change(drawn(*args)))
        return [data.scene(index) for index in range(12)]

    for full, empty in zip(
        with_opacity(lambda opacity: (opacity >= 0.5).astype(np.float32)),
        with_opacity(np.zeros_like),
        strict=True,
    ):
        differ = (full.image != empty.image).any(-1)
        for box, mask in zip(full.boxes.astype(int), full.masks, strict=True):
            within = np.zeros_like(differ)
            within[box[1] : box[3], box[0] : box[2]] = True
            np.testing.assert_array_equal(mask, differ & within)
        np.testing.assert_array_equal(full.masks.any(0), differ)


def test_sets_of_scenes_have_the_masks_of_their_scenes():
    train, test = data.scenes(5, num_test=3, size=64, seed=3)
    for images, first in ((train, 0), (test, 2**31)):
        assert images.has_masks
        expected = [
            m for i in range(len(images)) for m in data.scene(first + i, size=64, seed=3)[3]
        ]
        for code, mask in zip(images.masks, expected, strict=True):
            np.testing.assert_array_equal(masks.mask_pixels(code), mask)


def test_masks_follow_any_scale_and_crop():
    compared = 0
    for jitter, fit in (
        ((0.8, 1.25), "letterbox"),
        ((0.6, 0.8), "stretch"),
        ((1.5, 1.6), "letterbox"),
    ):
        options = OPTIONS | {"scale_jitter": jitter, "fit": fit}
        ((batch, labels),) = elements(data.detection_batches(IMAGES, **options), 1)
        for i in np.flatnonzero(labels["classes"][:, 0] >= 0):
            mask = pasted(labels["masks"][i, 0], labels["frames"][i, 0], 160)
            expected = moved(batch[i])
            left, top, right, bottom = extent(expected)
            if min(right - left, bottom - top) > 30:
                assert iou(mask, expected) >= 0.98
                compared += 1
    assert compared > 30


def test_a_mirrored_mask_is_the_mask_of_the_mirrored_picture():
    square = DOWN[:, :160] > 0
    images = masked(  # of boxes whose sides divide 112, so that no cell lies in two pixels
        square & (disk(50, 50, 28) & (ACROSS > DOWN - 5))[:, :160],
        square & ((np.abs(ACROSS - 80) < 56) & (np.abs(DOWN - 90) < 14) & (ACROSS > DOWN))[:, :160],
    )
    sides = images.boxes[:, 2:] - images.boxes[:, :2]
    images = dataclasses.replace(
        images,
        boxes=np.concatenate([images.boxes[:, :2]] * 2, 1)
        + [[0, 0, *(np.ceil(side / 28) * 28)] for side in sides],
    )
    seen = {}
    for batch, labels in elements(
        data.detection_batches(images, **OPTIONS, scale_jitter=(1, 1)), 2
    ):
        for image, frame, mask in zip(batch, labels["frames"], labels["masks"], strict=True):
            np.testing.assert_array_equal(pasted(mask[0], frame[0], 160), moved(image))
            seen[frame[0].tobytes()] = mask[0]
    frames = {key: np.frombuffer(key, np.float32) for key in seen}
    assert len(seen) == 4
    for key, (left, top, right, bottom) in frames.items():
        other = np.array([160 - right, top, 160 - left, bottom], np.float32).tobytes()
        np.testing.assert_array_equal(seen[key], seen[other][:, ::-1])


def test_frames_are_whole_and_rows_belong_together():
    shapes = [(ACROSS < 60) & (DOWN < 60), (ACROSS > 120) & disk(160, 100, 50)]
    codes = [masks.mask_code(shape) for shape in (*shapes, shapes[0])]
    objects = [(0, *extent(shapes[0])), (1, *extent(shapes[1])), (2, 0, 0, 40, 40)]
    images = rectangles(objects, size=(HEIGHT, WIDTH), masks=codes, crowd=[False, False, True])
    expected = [masks.coverage(codes[k], images.boxes[k]) for k in (0, 1)]
    numbers, beyond = set(), 0
    options = OPTIONS | {"scale_jitter": (1, 2.5), "size": 96}
    for _, labels in elements(data.detection_batches(images, **options), 6):
        assert labels["masks"].shape == (16, 2, 112, 112)
        assert (labels["masks"].dtype, labels["frames"].dtype) == (np.uint8, np.float32)
        there = labels["classes"] >= 0
        frames, boxes = labels["frames"], labels["boxes"]
        np.testing.assert_array_equal(np.clip(frames, 0, 96), boxes)
        beyond += (frames[there] != boxes[there]).any(-1).sum()
        assert not frames[~there].any()
        assert not labels["masks"][~there].any()
        for k, mask in zip(labels["classes"][there], labels["masks"][there], strict=True):
            assert any(np.array_equal(mask, grid) for grid in (expected[k], expected[k][:, ::-1]))
        numbers |= {*there.sum(1).tolist()}
    assert numbers == {0, 1, 2}
    assert beyond > 20


def test_batches_with_masks_are_functions_of_seed_and_step():
    options = OPTIONS | {"batch": 4}
    whole = elements(data.detection_batches(IMAGES, **options), 4)
    resumed = elements(data.detection_batches(IMAGES, **options, start_step=3), 1)
    tf.nest.map_structure(np.testing.assert_array_equal, resumed[0], whole[3])
    halves = [elements(data.detection_batches(IMAGES, **options, part=(k, 2)), 2) for k in (0, 1)]
    for step in (0, 1):
        joined = tf.nest.map_structure(lambda *x: np.concatenate(x), *(h[step] for h in halves))
        tf.nest.map_structure(np.testing.assert_array_equal, joined, whole[step])
    assert [*whole[0][1]] == ["boxes", "classes", "frames", "masks", "seeds"]


def test_seeds_differ_and_change_nothing_else():
    options = OPTIONS | {"batch": 4, "masks": False}
    plain, seeded, masked_too, other = (
        elements(data.detection_batches(IMAGES, **(options | more)), 3)
        for more in ({}, {"seeds": True}, {"masks": True}, {"seeds": True, "seed": 3})
    )
    for (images, labels), (_, with_seeds), (_, with_masks) in zip(
        plain, seeded, masked_too, strict=True
    ):
        assert {*labels} == {"boxes", "classes"}
        assert with_seeds["seeds"].dtype == np.int32
        for name, values in labels.items():
            np.testing.assert_array_equal(values, with_seeds[name])
            np.testing.assert_array_equal(values, with_masks[name])
        np.testing.assert_array_equal(with_seeds["seeds"], with_masks["seeds"])
        assert images.shape == (4, 160, 160, 3)
    seeds = np.concatenate([labels["seeds"] for _, labels in (*seeded, *other)])
    assert seeds.shape == (24, 2)
    assert len({*map(tuple, seeds.tolist())}) == 24


def test_subsets_and_splits_keep_masks():
    images = masked(*SHAPES)
    some = images.subset([2, 0, 2])
    assert [*some.masks] == [images.masks[i] for i in (2, 0, 2)]
    train, test = images.split(0.25, seed=1)
    for part in (train, test):
        assert [*part.masks] == [images.masks[i] for i in part.image_ids]
    without = dataclasses.replace(images, masks=[None] * 4)
    assert without.masks is None
    assert not without.has_masks
    assert without.subset([1]).masks is None
    assert not dataclasses.replace(images, crowd=[True] * 4).has_masks
    partly = dataclasses.replace(images, masks=[None, *images.masks[1:]])
    assert not partly.has_masks
    assert dataclasses.replace(partly, crowd=[True, False, False, False]).has_masks


def test_a_description_tells_masks_apart_where_they_are_used():
    images = masked(*SHAPES)
    partly = dataclasses.replace(images, masks=[None, *images.masks[1:]])
    without = dataclasses.replace(images, masks=None)
    sets = (images, partly, without)
    assert len({json.dumps(s.description()) for s in sets}) == 1
    assert len({json.dumps(s.description(masks=True)) for s in sets}) == 3
    assert without.description(masks=True) == without.description()
    assert images.description(masks=True) == masked(*SHAPES).description(masks=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [WIDTH, HEIGHT]}, r"got the size \[200, 160\]"),
        ({"size": None}, "got the size None"),
        ({"counts": "text"}, "counts of type str"),
        ({"counts": None}, "counts of type NoneType"),
    ],
)
def test_masks_of_another_form_are_refused(change, message):
    codes = [*IMAGES.masks]
    codes[2] = codes[2] | change
    with pytest.raises(DataError, match=rf"mask 0 of image 2 of rectangles must be .*{message}"):
        dataclasses.replace(IMAGES, masks=codes)
    with pytest.raises(DataError, match="or None, got ndarray"):
        dataclasses.replace(IMAGES, masks=[*codes[:2], np.zeros((HEIGHT, WIDTH)), None])
    with pytest.raises(DataError, match=r"the masks of rectangles must be of shape \[4\]"):
        dataclasses.replace(IMAGES, masks=codes[:2])


def test_sets_without_masks_are_refused_where_masks_are_needed():
    images = dataclasses.replace(IMAGES, masks=None)
    for use in (data.require_masks, lambda images: data.detection_batches(images, **OPTIONS)):
        with pytest.raises(DataError, match="rectangles has no masks; give a COCO file"):
            use(images)
        with pytest.raises(DataError, match="rectangles has only crowds"):
            use(dataclasses.replace(IMAGES, crowd=[True] * 4))


def test_without_pycocotools_scenes_have_no_masks(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "coco" in name else found(name)
    )
    train, _ = data.scenes(2, num_test=1, size=32)
    assert train.masks is None
    with pytest.raises(ValueError, match="needed to read masks and is not installed: pip install"):
        data.require_masks(train)
