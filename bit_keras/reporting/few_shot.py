"""Accuracy by the number of training images per class, as in figure 1 of the BiT paper."""

import io
import math
import os
import statistics
from collections.abc import Sequence

from ..files import replace_file
from .charts import Line, chart
from .colors import COLORS, DASHES
from .page import SPACE, Section, percent, plain_table

Curves = Sequence[dict] | dict[str, Sequence[dict]]

HEADING = "Accuracy by examples a class"


def few_shot_section(curves: Curves) -> Section:
    """Returns what `few_shot_picture` draws, with a table; without HTML if there are no rows."""
    lines, ticks = _few_shot_lines(curves)
    if not lines:
        return HEADING, ""
    margin = 0.04 * (max(ticks) - min(ticks)) or 1
    x_range = (min(ticks) - margin, max(ticks) + margin)
    drawn = [line._replace(points=[point[:4] for point in line.points]) for line in lines]
    plot = chart("Accuracy", "examples a class", drawn, x_range, ticks, f"{SPACE}%")
    rows = [
        (text, line.name, *(percent(share / 100) for share in shares), seeds)
        for x, text in sorted(ticks.items())
        for line in lines
        for at, *shares, seeds in line.points
        if at == x
    ]
    header = ("Examples a class", "Method", "Median", "Min", "Max", "Seeds")
    return HEADING, (
        "<p>Lines are medians over seeds, bands reach from the worst to the best.</p>"
        f'<div class="charts wide">{plot}{plain_table(header, rows)}</div>'
    )


def _few_shot_lines(curves):
    """Lines with points (x, median, low, high, seeds) in %, and {x: shots}; x is logarithmic."""
    series = curves if isinstance(curves, dict) else {"": curves}
    rows = [row for rows in series.values() for row in rows]
    numbers = [row["shots"] for row in rows if row["shots"] != "full"]
    place = {shots: math.log(shots) for shots in numbers}
    if full := [row["examples_per_class"] for row in rows if row["shots"] == "full"]:
        # The full set stands apart on the right, even where it is hardly larger than the others.
        place["full"] = math.log(max(*full, 2 * max(numbers, default=0)))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    stride = 1 if len(series) == 1 else len(COLORS) * -(-len(series) // len(COLORS))
    lines = []
    for m, method in enumerate(methods):
        for s, (name, own) in enumerate(series.items()):
            found = {}
            for row in own:
                if row["method"] == method:
                    found.setdefault(place[row["shots"]], []).append(100 * row["accuracy"])
            points = [
                (x, statistics.median(values), min(values), max(values), len(values))
                for x, values in sorted(found.items())
            ]
            if points:  # a color for each series, and dashes for its other methods
                label = f"{name}, {method}" if name else method
                lines.append(Line(label, m * stride + s, points))
    return lines, {x: str(shots) for shots, x in place.items()}


def few_shot_picture(path: str | os.PathLike, curves: Curves) -> None:
    """Writes accuracies by examples per class as a PNG, 1,400 pixels wide, atomically.

    Args:
        path: The file to write.
        curves: Rows with `method`, `shots` (a number or "full"), `examples_per_class` and
            `accuracy` in [0, 1], one per seed; or {series: rows}. ValueError if there are none.
    """
    from matplotlib.figure import Figure  # not pyplot, which needs a display

    lines, ticks = _few_shot_lines(curves)
    if not lines:
        raise ValueError("curves must hold one result or more, got none.")
    figure = Figure(figsize=(7, 4.5), dpi=200, layout="constrained")
    axes = figure.subplots()
    for line in lines:
        color = COLORS[line.color % len(COLORS)][0]
        x, median, low, high, _ = zip(*line.points, strict=True)
        dashes = DASHES[line.color // len(COLORS) % len(DASHES)]
        axes.plot(x, median, "o", ls=(0, dashes), color=color, label=line.name)
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set(xlabel="Examples a class", ylabel="Accuracy in %")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    for text in axes.legend(frameon=False).get_texts():
        text.set_parse_math(False)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    replace_file(path, png.getvalue())
