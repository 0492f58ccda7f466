"""Boxes and masks drawn over images."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from .texts import font, shortened

# Bright, for dark text on them and for lines with a dark edge on photos. Found by search: for every
# kind of color vision any two differ by 0.11 or more in Oklab (0.2 for most eyes), and each has a
# contrast of 5.5 or more with black.
BOX_COLORS = (
    *("#55ddff", "#ee4488", "#bbee00", "#ffaa88"),
    *("#9966ff", "#aa8800", "#0099bb", "#ffffff"),
)
EDGE = "#000000"
DASH, GAP = 4, 3  # in widths of a line


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    labels: Sequence[str],
    *,
    dashed: np.ndarray | None = None,
    side: int | None = None,
    masks: Sequence[Mapping[str, Any] | None] | None = None,
) -> np.ndarray:
    """Returns an image with boxes, and masks half transparent, in the colors of their classes.

    Args:
        image: uint8 [H, W, 3].
        boxes: float [D, 4]: left, top, right, bottom in pixels of the image; the first lie on top.
        classes: int [D]; colors repeat after eight.
        labels: A text for each box, which is left out where it would cover that of another box.
        dashed: bool [D]: whose lines are dashed; none by default.
        side: The longer side of the picture in pixels; by default that of the image. Images that
            are much smaller are enlarged pixel by pixel.
        masks: For each box a COCO RLE of the image's size, or None for an object without a mask.

    Returns:
        uint8 [H, W, 3], or with `side` of that size.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    scale = side / max(picture.size) if side else 1
    if side:
        method = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
        size = [max(1, round(scale * length)) for length in picture.size]
        picture = picture.resize(size, method)
    width = max(2, round(max(picture.size) / 180))
    if masks is not None:
        pixels = np.array(picture)
        for mask, k in [*zip(masks, classes, strict=True)][::-1]:
            if mask is not None:
                _paint(pixels, mask, box_color(k), width // 2)
        picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    letters = font(max(12, round(max(picture.size) / 42)), bold=True)
    places = np.asarray(boxes, np.float64).reshape(-1, 4) * scale
    broken = np.zeros(len(places), bool) if dashed is None else dashed
    for place, k, parted in [*zip(places, classes, broken, strict=True)][::-1]:
        for line in _lines(place, picture.size, DASH * width if parted else 0, GAP * width):
            draw.line(line, EDGE, width + 2)
        for line in _lines(place, picture.size, DASH * width if parted else 0, GAP * width):
            draw.line(line, box_color(k), width)
    taken = []
    for place, k, label in zip(places, classes, labels, strict=True):
        _write(draw, picture.size, place, label, letters, box_color(k), taken)
    return np.asarray(picture)


def box_color(index: int) -> str:
    """Returns the color of a class, as CSS and Pillow have it."""
    return BOX_COLORS[index % len(BOX_COLORS)]


def box_key(name: str, index: int) -> str:
    """Returns a class's name beside its color, as HTML."""
    swatch = f'<i style="background:{box_color(index)}"></i>'
    return f'<span class="key">{swatch}{escape(name)}</span>'


def _paint(pixels, mask, color, edge):
    """Mixes a mask's color into a picture [H, W, 3], half and half, and draws its outline.

    `mask` is of the image's size, which may be another than the picture's; `edge` is the width of
    the outline in pixels.
    """
    from PIL import Image, ImageColor
    from pycocotools.mask import decode, toBbox
    from scipy.ndimage import minimum_filter

    left, top, wide, high = toBbox(mask)
    if not (wide and high):
        return
    size, limits = np.array(mask["size"][::-1]), np.array(pixels.shape[1::-1])
    scale = limits / size
    start = np.floor(scale * (left, top)).astype(int)
    end = np.minimum(np.ceil(scale * (left + wide, top + high)).astype(int), limits)
    # Only the part around the mask is scaled, which on large photos saves most of the time.
    first, last = start / scale, np.minimum(end / scale, size)
    corner, beyond = np.floor(first).astype(int), np.ceil(last).astype(int)
    part = decode(mask)[corner[1] : beyond[1], corner[0] : beyond[0]]
    share = Image.fromarray(255 * np.ascontiguousarray(part)).resize(
        tuple(end - start), Image.Resampling.BOX, (*(first - corner), *(last - corner))
    )
    inside = np.asarray(share) >= 128
    core = minimum_filter(inside, 2 * edge + 1, mode="constant", cval=False)
    here = pixels[start[1] : end[1], start[0] : end[0]]
    rgb = np.array(ImageColor.getrgb(color), np.uint16)
    here[core] = (here[core] + rgb) // 2
    here[inside & ~core] = rgb


def _lines(box, size, dash, gap):
    """The four sides of a box inside the picture, or the dashes along them."""
    left, top, right, bottom = np.clip(box, 0, [*size, *size] - np.float64(1)).tolist()
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    if not dash:
        return [[*corners, corners[0], corners[1]]]  # goes on, for a whole first corner
    pieces = []
    for (x, y), (to_x, to_y) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = max(abs(to_x - x) + abs(to_y - y), 1)
        # A dash ends each side, so that corners are seen.
        number = max(1, round((length + gap) / (dash + gap)))
        step = (length + gap) / number
        for k in range(number):
            a, b = k * step / length, min(1, ((k + 1) * step - gap) / length)
            pieces.append([(x + t * (to_x - x), y + t * (to_y - y)) for t in (a, b)])
    return pieces


def _write(draw, size, box, label, letters, color, taken):
    """Writes a label above its box, or below, or inside, where nothing is written yet."""
    label = shortened(label, letters, size[0] // 2)
    wide, high = letters.getlength(label) + 6, letters.size + 4
    x = min(max(box[0], 0), size[0] - wide)
    for y in (box[1] - high, box[3], box[1], box[3] - high):
        free = all(x >= c or a >= x + wide or y >= d or b >= y + high for a, b, c, d in taken)
        if label and free and 0 <= y <= size[1] - high:
            taken.append((x, y, x + wide, y + high))
            draw.rectangle((x, y, x + wide - 1, y + high - 1), color)
            draw.text((x + 3, y + high / 2), label, EDGE, letters, anchor="lm")
            return
