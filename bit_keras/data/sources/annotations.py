"""Boxed images from image files and what annotation files say of them, of any format."""

import dataclasses
import math
import os
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...choices import BAD_BOXES
from ..boxed_images import BoxedImages, box_areas, clipped_boxes
from ..labeled_images import DataError, one_line
from ..masks import can_encode
from .checking import check_images
from .image_files import file_reader, identity
from .segments import Segment, segment_code, size_faults

_TURNED = 5  # EXIF orientations from here on exchange height and width
_ROUNDING = 1  # pixels that a box may reach beyond its image without a message


@dataclasses.dataclass
class Annotations:
    """What annotation files say of one set of images, which is checked by `boxed_sets`.

    Attributes:
        name: Of the set.
        class_names, category_ids: As in `BoxedImages`.
        relative: Whether boxes are given as fractions of the image's width and height.
        files, image_ids: One per image.
        stated: Per image, its (height, width) and what says so, or None if nothing does.
        boxes, classes, crowd, areas: As in `BoxedImages`, unchecked; areas may be NaN, which stands
            for the box's.
        image_of: The number of each box's image.
        segments: Per box what it says of its object's pixels, as `read_segment` returns it.
        places: Per box, where it was read, such as "annotation 7 of train.json".
        faults: {number of a box: what is wrong with it}, as far as it was found already.
    """

    name: str
    class_names: Sequence[str]
    category_ids: Sequence[int] | None = None
    relative: bool = False
    files: list[str] = dataclasses.field(default_factory=list)
    image_ids: list[int | str] = dataclasses.field(default_factory=list)
    stated: list[tuple[tuple[float, float], str] | None] = dataclasses.field(default_factory=list)
    boxes: list[Sequence[float]] = dataclasses.field(default_factory=list)
    classes: list[int] = dataclasses.field(default_factory=list)
    crowd: list[bool] = dataclasses.field(default_factory=list)
    areas: list[float] = dataclasses.field(default_factory=list)
    image_of: list[int] = dataclasses.field(default_factory=list)
    segments: list[Segment | None] = dataclasses.field(default_factory=list)
    places: list[str] = dataclasses.field(default_factory=list)
    faults: dict[int, str] = dataclasses.field(default_factory=dict)

    def add_image(
        self,
        file: str,
        image_id: int | str,
        stated: tuple[tuple[float, float], str] | None = None,
    ) -> int:
        """Adds an image and returns its number."""
        self.files.append(file)
        self.image_ids.append(image_id)
        self.stated.append(stated)
        return len(self.files) - 1

    def add_box(
        self,
        image: int,
        box: Sequence[float],
        label: int | None,
        place: str,
        *,
        crowd: bool = False,
        area: float = math.nan,
        segment: Segment | None = None,
        fault: str = "",
    ) -> None:
        """Adds a box of an image; a wrong one with what is wrong with it, if that is known."""
        if fault:
            self.faults[len(self.boxes)] = fault
        self.boxes.append(box)
        self.classes.append(0 if label is None else label)
        self.crowd.append(crowd)
        self.areas.append(area)
        self.image_of.append(image)
        self.segments.append(segment)
        self.places.append(place)


def numbers(values: Iterable[object]) -> list[float]:
    """Returns values as floats; NaN for what is no number."""
    found = []
    for value in values:
        try:
            found.append(float(value))
        except (TypeError, ValueError, OverflowError):
            found.append(math.nan)
    return found


def read_text(file: pathlib.Path) -> str:
    """Returns the text of a file; raises DataError if it is not in UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not a text in UTF-8 ({error}); repair it") from None


def boxed_sets(
    parts: Mapping[str, Annotations],
    folder: pathlib.Path,
    bad_images: str,
    bad_boxes: str,
) -> dict[str, BoxedImages]:
    """Checks all images and boxes of one or more parts of a set.

    Boxes and segments are taken to be in the upright image, as it is displayed. Where its size is
    stated and is not the upright one but that of the pixels as they are stored (an EXIF orientation
    exchanges width and height), they are turned with the image. Without pycocotools, segments are
    checked and left out.

    Args:
        parts: Annotations by the name of the part, such as "train" and "test".
        folder: The folder that contains the files: a copy of it has the same fingerprints.
        bad_images: As in `check_images`.
        bad_boxes: "error", or "skip" to leave out boxes that cannot be used.

    Returns:
        Boxed images by the name of the part.

    Raises:
        DataError: If an image comes twice, cannot be read (unless these are left out), or has
            another size than stated; if boxes or segments cannot be used (unless they are left
            out), of which all are counted and the first is named; or if a part has no boxes.
    """
    if bad_boxes not in BAD_BOXES:
        raise DataError(f'bad_boxes must be "error" or "skip", got {bad_boxes!r}')
    _check_different_files(parts)
    facts = check_images([f for part in parts.values() for f in part.files], folder, bad_images)
    stops = np.cumsum([len(part.files) for part in parts.values()])
    facts = dict(zip(parts, np.split(facts, stops[:-1]), strict=True))
    _check_stated_sizes(parts, facts)
    boxes = {name: _in_pixels(part, facts[name]) for name, part in parts.items()}
    faults = {}
    for name, part in parts.items():
        image_of = np.array(part.image_of, np.int64)
        sizes, known = facts[name][image_of, :2], facts[name][image_of, 0] > 0
        clipped, found = clipped_boxes(boxes[name], sizes)
        found |= size_faults(part.segments, _annotated_sizes(part, facts[name])[image_of])
        faults[name] = {i: f for i, f in (found | part.faults).items() if known[i]}
        _say_clipped(part, boxes[name], sizes, known & ~np.isin(np.arange(len(known)), [*found]))
        boxes[name] = clipped
    _judge(parts, faults, bad_boxes)
    return {
        name: _boxed(part, facts[name], boxes[name], faults[name], folder)
        for name, part in parts.items()
    }


def train_and_test(
    sets: Mapping[str, BoxedImages], test_fraction: float = 0.2, seed: int = 0
) -> tuple[BoxedImages, BoxedImages]:
    """Returns (train, test) of "all", which is split, or of "train", "test" and "validation"."""
    if "all" in sets:
        return sets["all"].split(test_fraction, seed)
    return dataclasses.replace(sets["train"], validation=sets.get("validation")), sets["test"]


def _check_different_files(parts):
    seen = {}
    for name, part in parts.items():
        for file in part.files:
            path = os.path.normpath(file)
            if path in seen:
                where = f"twice in {name}" if seen[path] == name else f"in {seen[path]} and {name}"
                raise DataError(f"{file} is {where} of {part.name}; every image must come once")
            seen[path] = name


def _check_stated_sizes(parts, facts):
    """Refuses images which are not those that were annotated."""
    wrong, count = [], 0
    for name, part in parts.items():
        count += len(part.files)
        for file, stated, (height, width, orientation) in zip(
            part.files, part.stated, facts[name].tolist(), strict=True
        ):
            if stated is None or not height or stated[0] == (height, width):
                continue
            if orientation < _TURNED or stated[0] != (width, height):
                wrong.append((file, *stated, (height, width)))
    if wrong:
        file, stated, who, actual = wrong[0]
        raise DataError(
            f"{len(wrong):,} of {count:,} images are not of the size that was annotated, the first "
            f"being {file}, which has {actual[1]}x{actual[0]} pixels where {who} says "
            f"{stated[1]:g}x{stated[0]:g}; give the images that were annotated, or correct sizes"
        )


def _in_pixels(part, facts):
    """float64 [M, 4], in pixels of the upright images."""
    boxes = np.array(part.boxes, np.float64).reshape(-1, 4)
    image_of = np.array(part.image_of, np.int64)
    if part.relative:
        boxes *= np.tile(facts[image_of, 1::-1], 2)
    for i in np.flatnonzero(_is_turned(part, facts)):
        rows = image_of == i
        boxes[rows] = _turned_upright(boxes[rows], *facts[i])
    return boxes


def _is_turned(part, facts):
    """bool [N]: whether what was annotated is not the upright image but the pixels as stored."""
    turned = [
        stated is not None and stated[0] != (height, width)
        for stated, (height, width) in zip(part.stated, facts[:, :2].tolist(), strict=True)
    ]
    return np.array(turned, bool) & (facts[:, 0] > 0)


def _annotated_sizes(part, facts):
    """int [N, 2]: (height, width) of the pictures that were annotated."""
    return np.where(_is_turned(part, facts)[:, np.newaxis], facts[:, 1::-1], facts[:, :2])


def _turned_upright(boxes, height, width, orientation):
    """Turns boxes as `turn_upright` turns an image that is upright height x width."""
    left, top, right, bottom = boxes[:, [1, 0, 3, 2]].T  # orientations 5 to 8 transpose
    if orientation in (7, 8):
        top, bottom = height - bottom, height - top
    if orientation in (6, 7):
        left, right = width - right, width - left
    return np.stack([left, top, right, bottom], 1)


def _say_clipped(part, boxes, sizes, good):
    limits = np.tile(sizes[:, ::-1], 2)
    beyond = np.flatnonzero(good & np.any((boxes < -_ROUNDING) | (boxes > limits + _ROUNDING), 1))
    if beyond.size:
        _say(
            f"{part.name}: {beyond.size:,} of {len(boxes):,} boxes reach beyond their images and "
            f"are cut off there, the first being {part.places[beyond[0]]}."
        )


def _judge(parts, faults, bad_boxes):
    """Refuses boxes that cannot be used, or tells that they are left out."""
    number = sum(map(len, faults.values()))
    if not number:
        return
    count = sum(len(part.boxes) for part in parts.values())
    name, row = next((name, min(found)) for name, found in faults.items() if found)
    text = (
        f"{number:,} of {count:,} boxes cannot be used, the first being "
        f"{parts[name].places[row]}, which {faults[name][row]}"
    )
    if bad_boxes == "error":
        raise DataError(
            f"{text}; correct them, or leave them out by bad_boxes=skip (--bad_boxes=skip)"
        )
    _say(f"Left out: {text}.")


def _say(text):
    print(one_line(text), file=sys.stderr, flush=True)


def _boxed(part, facts, boxes, faults, folder):
    image_of = np.array(part.image_of, np.int64)
    good = facts[:, 0] > 0
    kept = good[image_of]
    kept[[*faults]] = False
    kept = np.flatnonzero(kept)
    kept = kept[np.argsort(image_of[kept], kind="stable")]
    counts = np.bincount(image_of[kept], minlength=len(good))[good]
    boxes, crowd = boxes[kept], np.array(part.crowd, bool)[kept]
    if not good.any():
        raise DataError(f"none of the {len(good):,} images of {part.name} can be read; give others")
    if crowd.all():
        raise DataError(
            f"no image of {part.name} has a box of a single object; annotate some, or see whether "
            "the annotations lie where they are expected"
        )
    areas, masks = np.array(part.areas)[kept], _masks(part, facts, kept)
    files, facts = np.array(part.files, object)[good], facts[good]
    fingerprint, num_bytes = identity(files, folder)
    return BoxedImages(
        part.name,
        part.class_names,
        file_reader(files, facts),
        image_sizes=facts[:, :2],
        boxes=boxes,
        classes=np.array(part.classes, np.int64)[kept],
        starts=np.concatenate([[0], np.cumsum(counts)]),
        crowd=crowd,
        areas=np.where(np.isnan(areas), box_areas(boxes), areas),
        image_ids=[part.image_ids[i] for i in np.flatnonzero(good)],
        category_ids=part.category_ids,
        files=files,
        masks=masks,
        fingerprint=fingerprint,
        num_bytes=num_bytes,
        skipped=tuple(np.array(part.files, object)[~good].tolist()),
    )


def _masks(part, facts, kept):
    """The masks of the boxes that are kept, as `BoxedImages.masks`."""
    masks = np.full(len(kept), None)
    if can_encode():
        sizes = _annotated_sizes(part, facts)
        orientations = np.where(_is_turned(part, facts), facts[:, 2], 1)
        for i, row in enumerate(kept):
            if segment := part.segments[row]:
                image = part.image_of[row]
                masks[i] = segment_code(segment, sizes[image], orientations[image])
    return masks
