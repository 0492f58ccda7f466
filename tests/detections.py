"""Boxes and detections for tests: stand-ins for a data set, and answers that are often wrong."""

import types

import numpy as np
from pycocotools import mask as mask_tools

SIZE = 320, 480  # height, width


class Truth(types.SimpleNamespace):
    """A stand-in for `BoxedImages`."""

    def __len__(self):
        return len(self.image_ids)

    @property
    def has_masks(self):
        known = self.masks is not None and not self.crowd.all()
        return known and all(self.masks[i] is not None for i in np.flatnonzero(~self.crowd))


def truth_of(images, class_names="abc", size=SIZE, **changes):
    """Boxes as `BoxedImages` has them; an image is a list of (class, box[, is it a crowd])."""
    rows = [(*row, False)[:3] for image in images for row in image]
    boxes = np.array([box for _, box, _ in rows], np.float32).reshape(-1, 4)
    truth = {
        "name": "some",
        "class_names": tuple(class_names),
        "num_classes": len(class_names),
        "category_ids": list(range(1, len(class_names) + 1)),
        "image_ids": list(range(len(images))),
        "image_sizes": np.tile(np.int32(size), (len(images), 1)),
        "starts": np.cumsum([0, *map(len, images)]),
        "boxes": boxes,
        "classes": np.array([k for k, *_ in rows], np.int32),
        "crowd": np.array([crowd for *_, crowd in rows], bool),
        "areas": np.prod(boxes[:, 2:] - boxes[:, :2], axis=1),
        "files": None,
        "masks": None,
        "read": lambda i: np.full((*size, 3), 40 * int(i) % 251, np.uint8),
    }
    return Truth(**truth | changes)


def detections_of(images):
    """Detections; an image is a list of (class, box, score)."""
    return [
        {
            "boxes": np.array([box for _, box, _ in image], np.float32).reshape(-1, 4),
            "scores": np.array([score for *_, score in image], np.float32),
            "classes": np.array([k for k, *_ in image], np.int32),
        }
        for image in images
    ]


def ellipse(box, size=SIZE):
    """A COCO RLE of the ellipse that fills a box."""
    left, top, right, bottom = map(float, box)
    x, y = np.arange(size[1]) + 0.5, np.arange(size[0])[:, None] + 0.5
    far = ((2 * x - left - right) / (right - left)) ** 2
    far = far + ((2 * y - top - bottom) / (bottom - top)) ** 2
    return mask_tools.encode(np.asfortranarray(far <= 1, np.uint8))


def rectangle(left, top, right, bottom, size=SIZE):
    """A COCO RLE of whole pixels."""
    inside = np.zeros(size, np.uint8, order="F")
    inside[top:bottom, left:right] = 1
    return mask_tools.encode(inside)


def with_masks(truth, detections, moved=0):
    """The same with an ellipse in each box; those of detections are `moved` to the right."""
    masks = np.array([*map(ellipse, truth.boxes), None], object)[:-1]
    areas = np.array([mask_tools.area(mask) for mask in masks], np.float64)
    found = [
        {**one, "masks": [ellipse(box) for box in one["boxes"] + np.float32([moved, 0, moved, 0])]}
        for one in detections
    ]
    return Truth(**{**vars(truth), "masks": masks, "areas": areas}), found


def right_answers(truth):
    """The true boxes, and masks if there are any, as detections."""
    found = []
    for a, b in zip(truth.starts[:-1], truth.starts[1:], strict=True):
        one = {"boxes": truth.boxes[a:b], "classes": truth.classes[a:b], "scores": np.ones(b - a)}
        found.append(one if truth.masks is None else {**one, "masks": [*truth.masks[a:b]]})
    return found


def scenes(seed=0, number=30, most=8, class_names="abcde", crowds=True):
    """Boxes of many sizes, some images without any, and answers with every kind of mistake."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    images = []
    for _ in range(number):
        image = []
        for _ in range(rng.integers(most + 1)):
            w, h = np.exp(rng.uniform(np.log(8), np.log(200), 2))
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            k = int(rng.integers(len(class_names)))
            image.append((k, (left, top, left + w, top + h), bool(crowds and rng.random() < 0.1)))
        images.append(image)
    return truth_of(images, class_names), detections_of([_answers(rng, *i) for i in images])


def _answers(rng, *image):
    said = []
    for k, (left, top, right, bottom), _ in image:
        sizes = np.array([right - left, bottom - top] * 2)
        for _ in range(rng.choice([0, 1, 2], p=[0.15, 0.7, 0.15])):
            moved = (left, top, right, bottom) + sizes * rng.normal(0, rng.choice([0.03, 0.15]), 4)
            said.append((int(rng.integers(3)) if rng.random() < 0.1 else k, moved, rng.random()))
    for _ in range(rng.integers(3)):
        left, top = rng.uniform(0, 300, 2)
        said.append((int(rng.integers(3)), (left, top, left + 50, top + 60), 0.6 * rng.random()))
    return sorted(said, key=lambda row: -row[2])
