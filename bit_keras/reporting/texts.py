"""Texts on one line, for terminals and for pictures, and CSV."""

import csv
import io
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFont


def printable(text: str) -> str:
    """Returns a text as one line: file names may hold line breaks or invalid Unicode."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def duration(seconds: float) -> str:
    """Returns a time as a person says it: "22 s", "6 min 03 s", "1 h 05 min", "3 days 04 h"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} day{'s' * (days > 1)} {hours:02} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def font(size: int, *, bold: bool = False) -> "ImageFont.FreeTypeFont":
    """Returns the font of texts in pictures, its size in pixels."""
    import matplotlib
    from PIL import ImageFont

    # Matplotlib's, for Pillow's own has few letters beyond ASCII.
    path = pathlib.Path(matplotlib.get_data_path(), f"fonts/ttf/DejaVuSans{'-Bold' * bold}.ttf")
    return ImageFont.truetype(os.fspath(path), size)  # Pillow 10.0 takes no path


def shortened(text: str, font: "ImageFont.FreeTypeFont", width: int) -> str:
    """Returns as much of a text as fits into a width in pixels, as one line."""
    text = printable(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def csv_text(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Returns lines of CSV in which every text is quoted, and no number.

    Bytes of file names that are not UTF-8 are written as `\\udcff`, as in JSON.
    """
    text = io.StringIO()
    # Quoted, names may hold anything, a lone carriage return for instance.
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace").decode()
