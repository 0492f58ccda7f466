"""A contact sheet: images with their likeliest classes in one PNG."""

import io
import math
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..files import replace_file
from ..reporting.texts import font, shortened
from .given_images import as_labeled_images
from .prediction import DASH

if TYPE_CHECKING:
    from PIL import ImageFont

MAX_IMAGES = 100  # more would not be readable
COLUMNS = 10
SIDE, GAP, CAPTION = 176, 24, 52  # pixels
PAPER, INK, SOFT, CARD, BLUE = "#ffffff", "#1b1f24", "#5a6470", "#f0f2f5", "#0062a0"


def write_contact_sheet(path: str | os.PathLike, predictions: Sequence[dict]) -> None:
    """Draws each image with its likeliest class and that one's probability, whole or not at all.

    Args:
        path: The PNG to write, which is replaced if it exists.
        predictions: As `predict_images` returns them; the first 100 are drawn.

    Raises:
        ValueError: If an image cannot be read any more, or the file not be written.
    """
    from PIL import Image, ImageDraw, ImageOps

    predictions = [one for one in predictions if "error" not in one]
    shown = predictions[:MAX_IMAGES]
    images = as_labeled_images([one["image"] for one in shown])
    columns = min(len(shown), COLUMNS, math.ceil(math.sqrt(1.5 * len(shown))))
    rows = math.ceil(len(shown) / columns)
    omitted = len(predictions) - len(shown)
    width = GAP + columns * (SIDE + GAP)
    height = GAP + rows * (SIDE + CAPTION + GAP) + (GAP if omitted else 0)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    bold, plain = fonts()
    for i, one in enumerate(shown):
        left = GAP + i % columns * (SIDE + GAP)
        top = GAP + i // columns * (SIDE + CAPTION + GAP)
        picture = Image.fromarray(images.read(np.int64(i)).numpy())
        few = max(picture.size) <= SIDE // 2  # small images are enlarged without smoothing
        method = Image.Resampling.NEAREST if few else Image.Resampling.LANCZOS
        picture = ImageOps.contain(picture, (SIDE, SIDE), method)
        draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), CARD)
        x, y = left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2
        sheet.paste(picture, (x, y))
        best = one["predictions"][0] if one["predictions"] else {"class": DASH, "probability": 0}
        bar = top + SIDE + 4
        draw.rectangle((left, bar, left + SIDE - 1, bar + 3), CARD)
        if filled := round(best["probability"] * SIDE):
            draw.rectangle((left, bar, left + filled - 1, bar + 3), BLUE)
        draw.text((left, bar + 10), shortened(best["class"], bold, SIDE), INK, bold)
        share = f"{best['probability']:.1%} · " if one["predictions"] else ""
        detail = share + pathlib.Path(one["image"]).name
        draw.text((left, bar + 30), shortened(detail, plain, SIDE), SOFT, plain)
    if omitted:
        note = f"The first {len(shown)} of {len(predictions):,} images"
        draw.text((GAP, height - GAP - 8), note, SOFT, plain)
    png = io.BytesIO()
    sheet.save(png, "png", optimize=True)
    replace_file(path, png.getvalue())


def fonts() -> tuple["ImageFont.FreeTypeFont", "ImageFont.FreeTypeFont"]:
    """Returns the fonts of names, which is bold, and of details."""
    return font(14, bold=True), font(12)
