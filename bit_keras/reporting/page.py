"""A self-contained HTML page (no network, script or other file), its tables and its numbers."""

import math
import os
import pathlib
import re
from collections.abc import Container, Iterable, Sequence
from html import escape

from ..files import replace_file
from .colors import color_style
from .texts import duration

DASH = "\N{EN DASH}"
SPACE = "\N{NO-BREAK SPACE}"
NUMBER = re.compile(rf"[+-]?\d|[-{DASH}]?$")  # how the text of a number, or of none, begins
TEXT = ' class="text"'

Section = tuple[str, str]  # heading, HTML

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{lead}
{body}</main>
</body>
</html>
"""


def write_page(path: str | os.PathLike, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Writes sections below each other, atomically; those without HTML are left out."""
    body = "".join(f"<section><h2>{escape(h)}</h2>{s}</section>\n" for h, s in sections if s)
    style = color_style() + pathlib.Path(__file__).with_name("style.css").read_text("utf-8")
    page = PAGE.format(title=escape(title), style=style, lead=lead, body=body)
    replace_file(path, page.encode(errors="replace"))  # folder names need not be Unicode


def table(
    kind: str, header: Sequence[str], rows: Iterable[Sequence[str]], text: Container[int] = ()
) -> str:
    """Returns a table in a box that scrolls where the page is too narrow.

    Args:
        kind: CSS classes.
        header: HTML inside the header's cells.
        rows: Cells as HTML, `<td>` included.
        text: Columns that are aligned on the left.
    """
    head = "".join(f"<th{TEXT * (i in text)}>{name}</th>" for i, name in enumerate(header))
    head = head and f"<thead><tr>{head}</tr></thead>\n"
    body = "".join(f"<tr>{''.join(cells)}</tr>\n" for cells in rows)
    return f'<div class="scroll"><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'


def plain_table(header: Sequence, rows: Iterable[Sequence], kind: str = "") -> str:
    """Returns a table of plain text; a row starts with its name, numbers are on the right."""
    rows = [[escape(str(cell)) for cell in row] for row in rows]
    text = {i for row in rows for i, cell in enumerate(row) if i and not NUMBER.match(cell)}
    lines = []
    for first, *rest in rows:
        cells = (f"<td{TEXT * (i in text)}>{cell}</td>" for i, cell in enumerate(rest, 1))
        lines.append([f"<th>{first}</th>", *cells])
    return table(kind, [escape(str(name)) for name in header], lines, text)


def is_share(name: str) -> bool:
    """Whether the metric of this name is a share in [0, 1], which is shown in %."""
    bare = name.removeprefix("test_").removeprefix("validation_").removeprefix("mask_")
    known = FIGURES.get(bare)
    return bool(known and known[1] is percent) or name.endswith(("accuracy", "precision", "recall"))


def title_of(name: str) -> str:
    """Returns a metric's name as text: test_top5_accuracy -> Test top-5 accuracy."""
    text = name.replace("_", " ").replace("top5", "top-5").replace("per class", "per-class")
    text = re.sub(r"\ba[pr](?=\d*\b)", lambda found: found[0].upper(), text)
    return FIGURES[name][0] if name in FIGURES else text[:1].upper() + text[1:]


def percent(share: float | None, decimals: int = 1) -> str:
    """Returns a share in [0, 1] in %; a dash for None and NaN."""
    return DASH if share is None or math.isnan(share) else f"{100 * share:.{decimals}f}{SPACE}%"


def number(value: float) -> str:
    """Returns a number with four digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


# Metrics that a report shows first: title and format. A task with a new metric adds a line.
FIGURES = {
    "accuracy": ("Accuracy", percent),
    "top5_accuracy": ("Top-5 accuracy", percent),
    "mean_per_class_accuracy": ("Mean per-class accuracy", percent),
    "mean_average_precision": ("Mean average precision", percent),
    "ap": ("AP", percent),
    "ap50": ("AP at IoU 0.5", percent),
    "ap75": ("AP at IoU 0.75", percent),
    "ap_small": ("AP, small boxes", percent),
    "ap_medium": ("AP, medium boxes", percent),
    "ap_large": ("AP, large boxes", percent),
    "ar": ("Average recall", percent),
    "mask_ap": ("Mask AP", percent),
    "mask_ap50": ("Mask AP at IoU 0.5", percent),
    "mask_ap75": ("Mask AP at IoU 0.75", percent),
    "vtab_mean": ("VTAB, mean of all tasks", percent),
    "calibration_error": ("Calibration error (ECE)", percent),
    "loss": ("Loss", number),
    "validation_accuracy": ("Accuracy, validation images", percent),
    "validation_mean_average_precision": ("Mean average precision, validation images", percent),
    "validation_ap": ("AP, validation images", percent),
    "validation_mask_ap": ("Mask AP, validation images", percent),
    "kept_step": ("Step kept", "{:,}".format),
    "num_test": ("Test images", "{:,}".format),
    "num_test_boxes": ("Test boxes", "{:,}".format),
    "steps": ("Steps", "{:,}".format),
    "seconds": ("Time", duration),
}
