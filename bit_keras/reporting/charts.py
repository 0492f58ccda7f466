"""Charts as inline SVG, drawn small so that their text stays readable on a phone."""

import math
import numbers
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from .colors import color_class, key
from .page import SPACE, is_share, number, percent, title_of

LEFT, RIGHT, TOP, BOTTOM = 56, 338, 12, 170
CURVE_POINTS = 400


class Line(NamedTuple):
    """A line of a chart; its points are (x, y), or (x, y, low, high) for a line in a band."""

    name: str
    color: int
    points: list[tuple[float, ...]]


def scalars(history: Sequence[dict]) -> dict[str, dict[int, float]]:
    """Returns {name: {step: value}} of the finite numbers in a run's history."""
    found = {}
    for row in history:
        for name, value in row.items():
            if name != "step" and isinstance(value, numbers.Real) and math.isfinite(value):
                found.setdefault(name, {})[row["step"]] = value
    return found


def curves(charts: dict[str, list[tuple[str, int, dict[int, float]]]]) -> str:
    """Draws a chart for each {title: [(name, color, {step: value})]} with a line of two points."""
    drawn = []
    for title, series in charts.items():
        if all(len(values) < 2 for *_, values in series):
            continue
        scale, unit = (100, f"{SPACE}%") if is_share(title) else (1, "")
        lines = []
        for name, color, values in series:
            points = [(step, scale * y) for step, y in sorted(values.items(), reverse=True)]
            label = f"{name} {number(points[0][1])}{unit}"
            thinned = points[:: math.ceil(len(points) / CURVE_POINTS)]  # keeps the last step
            lines.append(Line(label, color, thinned[::-1]))
        last = max(line.points[-1][0] for line in lines)
        ticks = {tick: number(tick) for tick in _nice_ticks([0, last]) if tick <= last}
        drawn.append(chart(title_of(title), "step", lines, (0, last), ticks, unit))
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else ""


def chart(
    title: str,
    x_name: str,
    lines: Sequence[Line],
    x_range: tuple[float, float],
    x_ticks: dict[float, str],
    unit: str,
) -> str:
    """Draws lines, with dots where they have few points; ticks are {place: text}."""
    y_ticks = _nice_ticks([y for line in lines for _, *ys in line.points for y in ys], unit)
    at, shapes = _grid(x_name, x_range, x_ticks, {y: f"{number(y)}{unit}" for y in y_ticks})
    for line in lines:
        kind = f'class="{color_class(line.color)}"'
        band = [p for p in line.points if len(p) == 4]
        if band:
            edge = [(x, low) for x, _, low, _ in band] + [(x, high) for x, *_, high in band[::-1]]
            points = _listed(at(x, y) for x, y in edge)
            shapes.append(f'<polygon {kind} points="{points}"/>')
        places = [at(x, y) for x, y, *_ in line.points]
        shapes.append(f'<polyline {kind} points="{_listed(places)}"/>')
        if len(places) <= 20:
            shapes += [f'<circle {kind} cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in places]
    return _figure(title, x_name, shapes, "".join(key(line.name, line.color) for line in lines))


def precision_recall(title: str, lines: Sequence[Line]) -> str:
    """Draws precision by recall, both in [0, 1] in the lines' points."""
    ticks = {tick: f"{tick}{SPACE}%" for tick in (0, 25, 50, 75, 100)}
    at, shapes = _grid("recall", (0, 100), ticks, ticks)
    for line in lines:
        places = _listed(at(100 * x, 100 * y) for x, y in line.points)
        shapes.append(f'<polyline class="{color_class(line.color)}" points="{places}"/>')
    return _figure(title, "recall", shapes, "".join(key(line.name, line.color) for line in lines))


def reliability_diagram(images: np.ndarray, confidence: np.ndarray, correct: np.ndarray) -> str:
    """Draws accuracy by confidence (DeGroot and Fienberg, 1983), as `calibration_bins` has them."""
    ticks = {tick: f"{tick}{SPACE}%" for tick in (0, 25, 50, 75, 100)}
    at, shapes = _grid("confidence", (0, 100), ticks, ticks)
    shapes.append(f'<path class="ideal" d="M{_listed([at(0, 0)])}L{_listed([at(100, 100)])}"/>')
    for i in np.flatnonzero(images):
        a, b = at(100 * confidence[i] / images[i], 100 * correct[i] / images[i])
        radius = 2 + 10 * math.sqrt(images[i] / images.max())
        note = f"<title>{images[i]:,} images, right {percent(correct[i] / images[i])}</title>"
        place = f'cx="{a:.1f}" cy="{b:.1f}" r="{radius:.1f}"'
        shapes.append(f'<circle class="c0 bin" {place}>{note}</circle>')
    return (
        f"<p>Each dot is one of {len(images)} bins of confidence, the larger the more images. "
        "Below the dashed line the model is overconfident.</p>"
        f'<div class="charts">{_figure("Accuracy", "confidence", shapes)}</div>'
    )


def _nice_ticks(values, unit=""):
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(4, steps=[1, 2, 5, 10])
    low, high = locator.nonsingular(min(values), max(values))
    return locator.tick_values(low, min(high, 100) if unit else high)


def _grid(x_name, x_range, x_ticks, y_ticks):
    """Returns a function from (x, y) to the place in the drawing, and the shapes of the axes."""
    x0, x1 = x_range
    y0, y1 = min(y_ticks), max(y_ticks)

    def at(x, y):
        across, up = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        return LEFT + (RIGHT - LEFT) * across, BOTTOM + (TOP - BOTTOM) * up

    shapes = []
    for tick, text in y_ticks.items():
        _, b = at(x0, tick)
        shapes.append(f'<path d="M{LEFT} {b:.1f}H{RIGHT}"/>')
        shapes.append(f'<text x="{LEFT - 6}" y="{b + 4:.1f}" class="y">{text}</text>')
    free = math.inf  # of other texts, from the right; the last tick always has its text
    for tick, text in sorted(x_ticks.items(), reverse=True):
        a, _ = at(tick, y0)
        if a < free:
            shapes.append(f'<text x="{a:.1f}" y="{BOTTOM + 23}">{text}</text>')
            free = a - 24
    shapes.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 41}">{x_name}</text>')
    return at, shapes


def _figure(title, x_name, shapes, keys=""):
    title = escape(title)
    return (
        f"<figure><figcaption><b>{title}</b>{keys}</figcaption>"
        f'<svg viewBox="0 0 360 218" role="img" aria-label="{title} by {x_name}">'
        f"{''.join(shapes)}</svg></figure>"
    )


def _listed(places):
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
