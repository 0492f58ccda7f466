"""Images and the boxes of the objects in them, read one by one by index."""

import dataclasses
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from .labeled_images import DataError


@dataclasses.dataclass(frozen=True, eq=False)
class BoxedImages:
    """Boxes in memory, and a function that reads image number `i`.

    A box is [left, top, right, bottom] in pixels of the upright image, whose upper left corner is
    (0, 0): pixel i covers i .. i + 1, so a box around the first pixel is [0, 0, 1, 1].

    Attributes:
        name: The set's name in messages and reports, such as "scenes/train".
        class_names: One name per class.
        read: From a scalar int64 tensor in 0 .. N - 1 to uint8 [height, width, 3]. It is traced by
            `tf.data`, so arrays it uses must be eager tensors, as in `LabeledImages`.
        image_sizes: int32 [N, 2], the (height, width) of every image.
        boxes: float32 [M, 4], image by image. What lies outside the image is cut off.
        classes: int32 [M], in 0 .. num_classes - 1.
        starts: int64 [N + 1]; image i has the rows starts[i] to starts[i + 1] of what is [M].
        crowd: bool [M], whether a box is not of one object, or of one that need not be found: it is
            not trained on, and no mistake in scoring, found or not (COCO's `iscrowd`, VOC's
            `difficult`). By default none is.
        areas: float32 [M], the objects' areas in pixels, which may be smaller than the boxes'. By
            default those of the boxes.
        image_ids: One int or text per image, which names it in files; by default its number.
        category_ids: int64 [K], the number of every class in COCO files; by default 1 to K.
        files: The images' paths, an array of objects [N], where they are files.
        masks: An array of objects [M]: the pixels of each object in COCO's run-length code,
            {"size": [height, width] of its image, "counts": bytes}, as `pycocotools.mask.encode`
            makes it, or None for an object without a mask. None if no object has one.
        fingerprint: A number that differs between sets of different images, to tell runs apart.
        augmentations: The random changes that keep classes correct, of "flip".
        num_bytes: How many bytes one pass over the images reads from files or arrays.
        skipped: Paths of images that were left out because they cannot be read.
        validation: Images of the same classes that the source has set aside to choose a model by.

    Raises:
        DataError: If there are no images or classes, a shape or range is another, or a box is not
            finite, has no area, its corners in the wrong order, or no part within its image, or a
            mask is no such code or of another size than its image.
    """

    name: str
    class_names: tuple[str, ...]
    read: Callable[[tf.Tensor], tf.Tensor]
    image_sizes: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    starts: np.ndarray
    crowd: np.ndarray | None = None
    areas: np.ndarray | None = None
    image_ids: Sequence[int | str] | None = None
    category_ids: np.ndarray | None = None
    files: np.ndarray | None = None
    masks: np.ndarray | None = None
    fingerprint: int = 0
    augmentations: frozenset[str] = frozenset({"flip"})
    num_bytes: int = 0
    skipped: tuple[str, ...] = ()
    validation: "BoxedImages | None" = None

    def __post_init__(self):
        self._set(class_names=tuple(self.class_names))
        count = len(np.asarray(self.image_sizes))
        if not (count and self.class_names):
            missing = "classes" if count else "images"
            raise DataError(f"{self.name} holds no {missing}, and needs some: add them")
        starts = self._array("starts", self.starts, np.int64, [count + 1])
        boxes = np.asarray(self.boxes, np.float64)
        boxes = boxes.reshape(-1, 4) if not boxes.size else boxes
        number = len(boxes)
        if starts[0] != 0 or starts[-1] != number or np.any(np.diff(starts) < 0):
            raise DataError(
                f"the starts of {self.name} must grow from 0 to its {number} boxes, got "
                f"{starts[0]} to {starts[-1]}"
            )
        classes = self._array("classes", self.classes, np.int32, [number])
        if number and not 0 <= classes.min() <= classes.max() < self.num_classes:
            raise DataError(
                f"the classes of {self.name} must lie in 0 .. {self.num_classes - 1} for its "
                f"{self.num_classes} class names, got {classes.min()} .. {classes.max()}"
            )
        sizes = self._array("image_sizes", self.image_sizes, np.int32, [count, 2])
        if sizes.min() < 1:
            raise DataError(f"the image_sizes of {self.name} must be 1 or more, got {sizes.min()}")
        boxes = self._array("boxes", boxes, np.float64, [number, 4])
        boxes, faults = clipped_boxes(boxes, sizes[np.repeat(np.arange(count), np.diff(starts))])
        for row, fault in faults.items():
            image = np.searchsorted(starts, row, "right") - 1
            raise DataError(
                f"{len(faults)} of {number} boxes of {self.name} cannot be used; the first is box "
                f"{row - starts[image]} of image {image}, which {fault}"
            )
        self._set(image_sizes=sizes, boxes=boxes, classes=classes, starts=starts)
        self._set_optional(count, number)

    def _set_optional(self, count, number):
        """Checks what has a default, or puts it in its place."""
        crowd = np.zeros(number, bool) if self.crowd is None else self.crowd
        areas = box_areas(self.boxes) if self.areas is None else self.areas
        ids = range(1, self.num_classes + 1) if self.category_ids is None else self.category_ids
        image_ids = range(count) if self.image_ids is None else self.image_ids
        self._set(
            crowd=self._array("crowd", crowd, bool, [number]),
            areas=self._array("areas", areas, np.float32, [number]),
            category_ids=self._array("category_ids", ids, np.int64, [self.num_classes]),
            image_ids=tuple(image_ids),
            masks=self._checked_masks(number),
        )
        if not np.all(self.areas >= 0):
            raise DataError(f"the areas of {self.name} must be 0 or more, got {self.areas.min()}")
        for what, values, needed in (
            ("image_ids", self.image_ids, count),
            ("category_ids", self.category_ids.tolist(), self.num_classes),
            ("class_names", self.class_names, self.num_classes),
        ):
            if len(set(values)) != needed or len(values) != needed:
                raise DataError(
                    f"{self.name} must have {needed} different {what}, got {len(values)}, "
                    f"{len(set(values))} of them different"
                )

    def _checked_masks(self, number):
        if self.masks is None:
            return None
        masks = np.empty(len(self.masks), object)
        for row, mask in enumerate(self.masks):  # NumPy would look into what is no dictionary
            masks[row] = mask
        masks = self._array("masks", masks, object, [number])
        sizes = np.repeat(self.image_sizes, np.diff(self.starts), axis=0).tolist()
        for row, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
            if mask is not None and not _is_code(mask, size):
                image = np.searchsorted(self.starts, row, "right") - 1
                shown = type(mask).__name__
                if isinstance(mask, dict):
                    counts = type(mask.get("counts")).__name__
                    shown = f"the size {mask.get('size')} and counts of type {counts}"
                raise DataError(
                    f"mask {row - self.starts[image]} of image {image} of {self.name} must be "
                    f'{{"size": {size}, "counts": bytes}}, as pycocotools.mask.encode makes it of '
                    f"an image of {size[1]}x{size[0]} pixels, or None, got {shown}"
                )
        return None if all(mask is None for mask in masks) else masks

    def _set(self, **fields):
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _array(self, what, values, dtype, shape):
        values = np.asarray(values)
        if list(values.shape) != shape and not (values.size == 0 == shape[0]):
            raise DataError(
                f"the {what} of {self.name} must be of shape {shape}, got {list(values.shape)}"
            )
        if np.issubdtype(dtype, np.integer) and values.dtype.kind not in "iu" and values.size:
            raise DataError(f"the {what} of {self.name} must be integers, got {values.dtype}")
        return values.astype(dtype).reshape(shape)

    def __len__(self) -> int:
        return len(self.image_sizes)

    @property
    def num_classes(self) -> int:
        """The number of class names."""
        return len(self.class_names)

    @property
    def has_masks(self) -> bool:
        """Whether there are objects to train on, and each of them has a mask."""
        if self.masks is None or self.crowd.all():
            return False
        return all(mask is not None for mask in self.masks[~self.crowd])

    def description(self, masks: bool = False) -> dict:
        """What identifies the set in a run's settings.

        Args:
            masks: Whether sets of different masks differ, for runs that train on them or test by
                them. Others go on whether or not masks could be read.
        """
        parts = (self.image_sizes, self.boxes, self.classes, self.starts, self.crowd, self.areas)
        found = {
            "name": self.name,
            "num_images": len(self),
            "num_boxes": len(self.boxes),
            "fingerprint": zlib.crc32(b"".join(part.tobytes() for part in parts), self.fingerprint),
        }
        if masks and self.masks is not None:
            codes = (b"" if mask is None else mask["counts"] for mask in self.masks)
            found["masks"] = zlib.crc32(b"\n".join(codes))
        return found

    def subset(self, indices: Sequence[int], name: str | None = None) -> "BoxedImages":
        """The images at `indices`, in that order, under a new name if given; copies no pixels.

        An image that comes again has its number among the indices added to its id.
        """
        indices = np.asarray(indices, np.int64)
        counts = np.diff(self.starts)[indices]
        starts = np.concatenate([[0], np.cumsum(counts)])
        rows = np.repeat(self.starts[indices] - starts[:-1], counts) + np.arange(starts[-1])
        with tf.device("CPU:0"):
            table = tf.constant(indices)
        return dataclasses.replace(
            self,
            name=name or self.name,
            read=lambda index: self.read(tf.gather(table, index)),
            image_sizes=self.image_sizes[indices],
            **{key: getattr(self, key)[rows] for key in ("boxes", "classes", "crowd", "areas")},
            masks=None if self.masks is None else self.masks[rows],
            starts=starts,
            image_ids=_different([self.image_ids[i] for i in indices]),
            files=None if self.files is None else self.files[indices],
            fingerprint=zlib.crc32(indices.tobytes(), self.fingerprint),
            num_bytes=self.num_bytes * len(indices) // len(self),  # an estimate
        )

    def split(
        self, test_fraction: float = 0.2, seed: int = 0, second: str = "test"
    ) -> tuple["BoxedImages", "BoxedImages"]:
        """Splits the images at random into (train, test), both in the order of this set.

        Train has at least one image of every class that has boxes.

        Args:
            test_fraction: The part of the images to test on, between 0 and 1.
            seed: Of the choice.
            second: What to call the second part.

        Raises:
            DataError: If the fraction is not in (0, 1), or train needs every image as the first of
                a class.
        """
        if not 0 < test_fraction < 1:
            raise DataError(f"{second}_fraction must lie between 0 and 1, got {test_fraction}")
        order = np.random.RandomState(seed).permutation(len(self))
        place = np.argsort(order)[np.repeat(np.arange(len(self)), np.diff(self.starts))]
        first = np.full(self.num_classes, len(self))
        np.minimum.at(first, self.classes, place)
        spare = np.delete(order, first[first < len(self)])
        if not spare.size:
            raise DataError(
                f"every image of {self.name} is needed to train on, as the first of a class, so "
                "none is left to test on: add images or drop classes"
            )
        test = np.sort(spare[: max(1, round(test_fraction * len(self)))])
        if len(test) == len(self):
            raise DataError(f"{self.name} has 1 image, and a split needs 2 or more: add images")
        train, name = np.setdiff1d(np.arange(len(self)), test), self.name.removesuffix("/train")
        return self.subset(train, f"{name}/train"), self.subset(test, f"{name}/{second}")


def clipped_boxes(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
    """Cuts off what lies outside the images, and finds boxes that are none.

    Args:
        boxes: Floats [M, 4].
        sizes: Integers [M, 2], the (height, width) of each box's image.

    Returns:
        (float32 [M, 4], {row: what is wrong with it, such as "has no area"}).
    """
    limits = np.tile(sizes[:, ::-1], 2).astype(np.float32)
    with np.errstate(over="ignore"):  # of numbers that float32 cannot hold
        clipped = np.clip(boxes.astype(np.float32), 0, limits)
    faults = {}
    wrong = ~np.isfinite(boxes).all(1) | ~np.all(clipped[:, 2:] > clipped[:, :2], 1)
    for row in np.flatnonzero(wrong):
        left, top, right, bottom = boxes[row]
        shown = f"[{left:g}, {top:g}, {right:g}, {bottom:g}]"
        if not np.isfinite(boxes[row]).all():
            faults[int(row)] = f"is not finite, {shown}"
        elif right < left or bottom < top:
            faults[int(row)] = f"has its corners in the wrong order, {shown}"
        elif right == left or bottom == top:
            faults[int(row)] = f"has no area, {shown}"
        else:
            height, width = sizes[row]
            faults[int(row)] = f"lies outside its image of {width}x{height} pixels, {shown}"
    return clipped, faults


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Returns width times height of boxes [M, 4]: [M]."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _is_code(mask, size):
    """Whether a mask is a run-length code of an image of size [height, width]."""
    if not isinstance(mask, dict) or not isinstance(mask.get("counts"), bytes):
        return False
    return isinstance(mask.get("size"), list | tuple) and [*mask["size"]] == size


def _different(image_ids):
    """The ids, where one that comes again is made another."""
    if len({*image_ids}) == len(image_ids):
        return image_ids
    return [f"{image_id}#{i}" for i, image_id in enumerate(image_ids)]


def without_boxes(
    name: str,
    class_names: Sequence[str],
    read: Callable[[tf.Tensor], tf.Tensor],
    image_sizes: np.ndarray,
) -> BoxedImages:
    """Returns images in which nothing is annotated; arguments as of `BoxedImages`."""
    none = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int)}
    starts = np.zeros(len(image_sizes) + 1, int)
    return BoxedImages(name, class_names, read, image_sizes=image_sizes, starts=starts, **none)
