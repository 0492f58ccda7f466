"""A run as one HTML page that needs nothing else: no network, no script, no other file."""

import base64
import importlib.metadata
import io
import math
import numbers
import os
import pathlib
import platform
import secrets
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from html import escape

import numpy as np

MATRIX_CLASSES = 40  # with more classes, a table of pairs is read more easily than the matrix
MISTAKES = 24
PAIRS = 25
CLASS_ROWS = 1000
THUMBNAIL = 128  # pixels, the longer side
CURVE_POINTS = 400


def write_report(
    path: str | os.PathLike,
    *,
    title: str,
    settings: dict,
    history: Sequence[dict],
    metrics: dict,
    labels: np.ndarray | None,
    probabilities: np.ndarray | None,
    class_names: Sequence[str],
    read_image: Callable[[int], np.ndarray] | None,
) -> None:
    """Writes `report.html`, whole or not at all; sections without data are left out.

    Args:
        path: The file to write, which is replaced if it exists.
        title: The page's title, such as "BiT-XS-R26x0.25 on digits".
        settings: The run's settings, nested as in `config.json`. `command`, a string or a list of
            arguments, is shown above the others.
        history: The lines of `metrics.jsonl`: `step` and scalars. `test_loss` is drawn into the
            same chart as `loss`, and so with every name.
        metrics: Any of `accuracy`, `top5_accuracy`, `mean_average_precision`, `loss`, `num_test`,
            `steps`, `seconds`.
        labels: True classes of the test images, int [N], or None.
        probabilities: What the model said of them, float32 [N, K], or None.
        class_names: K names, of any characters.
        read_image: Test image i as uint8 [H, W, 3], or None for a report without pictures.

    Raises:
        ValueError: If labels, probabilities and class names do not fit each other.
    """
    sections = {"Training": curves(history)}
    if labels is not None and probabilities is not None and len(labels):
        labels, probabilities = np.asarray(labels), np.asarray(probabilities)
        expected = (len(labels), len(class_names))
        if probabilities.shape != expected:
            raise ValueError(
                f"probabilities must have one row a label and one column a class name, "
                f"{list(expected)}, got {list(probabilities.shape)}."
            )
        names = [escape(str(name)) for name in class_names]
        predictions = probabilities.argmax(axis=1)
        confused = confusion_matrix if len(names) <= MATRIX_CLASSES else confused_pairs
        sections["Confusions"] = confused(labels, predictions, names)
        if read_image is not None:
            sections["Most confident mistakes"] = mistakes(
                labels, predictions, probabilities.max(axis=1), names, read_image
            )
        sections["Classes, worst first"] = per_class(labels, predictions, names)
    sections["Environment"] = environment()
    sections["Settings"] = settings_table(settings)

    body = "".join(f"<section><h2>{h}</h2>{s}</section>\n" for h, s in sections.items() if s)
    page = PAGE.format(title=escape(title), style=STYLE, figures=headline(metrics), body=body)
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8", errors="replace")  # odd folder names
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def headline(metrics):
    figures = []
    for name, key, form in (
        ("Accuracy", "accuracy", percent),
        ("Top-5 accuracy", "top5_accuracy", percent),
        ("Mean average precision", "mean_average_precision", percent),
        ("Loss", "loss", number),
        ("Test images", "num_test", "{:,}".format),
        ("Steps", "steps", "{:,}".format),
        ("Time", "seconds", duration),
    ):
        if key in metrics:
            note = ""
            if key == "accuracy":
                low, high = wilson_interval(metrics["accuracy"], metrics["num_test"])
                interval = f"{100 * low:.1f} to {percent(high)}"
                note = f'<dd class="note">95 % interval<br>{interval}</dd>'
            figures.append(f"<div><dt>{name}</dt><dd>{form(metrics[key])}</dd>{note}</div>")
    return f'<dl class="figures">{"".join(figures)}</dl>'


def wilson_interval(accuracy: float, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion (Wilson, 1927)."""
    z = 1.959964
    centre = accuracy + z**2 / (2 * count)
    margin = z * math.sqrt(accuracy * (1 - accuracy) / count + (z / (2 * count)) ** 2)
    scale = 1 + z**2 / count
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


def curves(history):
    # {"loss": {"training": {step: value}, "test": {step: value}}}; the empty ones set the order.
    charts = {"loss": {}, "learning_rate": {}, "accuracy": {}}
    for row in history:
        for key, value in row.items():
            if key != "step" and isinstance(value, numbers.Real) and math.isfinite(value):
                name = key.removeprefix("test_")
                lines = charts.setdefault(name, {})
                line = lines.setdefault("training" if name == key else "test", {})
                line[row["step"]] = value
    drawn = [
        chart(name, lines)
        for name, lines in charts.items()
        if any(len(line) > 1 for line in lines.values())
    ]
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else ""


def chart(name, lines):
    """Inline SVG, drawn small, so that on a phone its letters keep their size."""
    from matplotlib.ticker import MaxNLocator

    left, right, top, bottom = 52, 348, 10, 170
    scale, unit = (100, "\N{NO-BREAK SPACE}%") if "accuracy" in name else (1, "")
    lines = {kind: {s: scale * v for s, v in line.items()} for kind, line in lines.items()}
    locator = MaxNLocator(4, steps=[1, 2, 5, 10])
    values = [value for line in lines.values() for value in line.values()]
    y_ticks = locator.tick_values(*locator.nonsingular(min(values), max(values)))
    last = max(step for line in lines.values() for step in line)
    x_ticks = [tick for tick in locator.tick_values(0, last) if tick <= last]

    def x(step):
        return left + (right - left) * step / last

    def y(value):
        return bottom + (top - bottom) * (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])

    shapes = [
        f'<path d="M{left} {y(tick):.1f}H{right}"/>'
        f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" class="y">{number(tick)}{unit}</text>'
        for tick in y_ticks
    ]
    shapes += [f'<text x="{x(t):.1f}" y="{bottom + 18}">{number(t)}</text>' for t in x_ticks]
    shapes.append(f'<text x="{left - 12}" y="{bottom + 18}" class="y">step</text>')
    legend = []
    for kind, line in lines.items():
        colour = {"training": "blue", "test": "orange"}[kind]
        points = sorted(line.items(), reverse=True)  # so that thinning keeps the last
        legend.append(f'<span class="{colour}">{kind} {number(points[0][1])}{unit}</span>')
        points = points[:: math.ceil(len(points) / CURVE_POINTS)]
        places = [f"{x(step):.1f},{y(value):.1f}" for step, value in points]
        shapes.append(f'<polyline class="{colour}" points="{" ".join(places)}"/>')
        if len(points) <= 20:
            circles = (place.split(",") for place in places)
            shapes += [f'<circle class="{colour}" cx="{a}" cy="{b}" r="3"/>' for a, b in circles]
    name = escape(name.replace("_", " ").replace("top5", "top-5").capitalize())
    return (
        f"<figure><figcaption><b>{name}</b>{''.join(legend)}</figcaption>"
        f'<svg viewBox="0 0 360 196" role="img" aria-label="{name} by step">'
        f"{''.join(shapes)}</svg></figure>"
    )


def confusion_matrix(labels, predictions, names):
    from sklearn import metrics

    counts = metrics.confusion_matrix(labels, predictions, labels=range(len(names)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def cell(true, predicted):
        if not counts[true, predicted]:
            return "<td></td>"
        share = shares[true, predicted]
        kind = "right" if true == predicted else "wrong"
        return (
            f'<td class="{kind}{" full" if share > 0.75 else ""}" style="--share:{share:.2f}" '
            f'title="true {names[true]}, said {names[predicted]}">{counts[true, predicted]}</td>'
        )

    rows = [
        [f"<th>{name}</th>", *(cell(true, k) for k in range(len(names)))]
        for true, name in enumerate(names)
    ]
    kind = "matrix tall" if max(map(len, names)) > 4 else "matrix"
    return (
        "<p>A row is a true class, a column what the model said. "
        '<span class="blue">Right</span> and <span class="orange">wrong</span>, the stronger the '
        "larger the share of the row.</p>"
        + table(kind, ["", *(f"<span>{name}</span>" for name in names)], rows)
    )


def confused_pairs(labels, predictions, names):
    wrong = labels != predictions
    pairs = Counter(zip(labels[wrong].tolist(), predictions[wrong].tolist(), strict=True))
    images = np.bincount(labels)
    rows = [
        [
            f"<th>{names[true]} → {names[predicted]}</th>",
            f"<td>{count:,}</td>",
            f"<td>{percent(count / images[true])}</td>",
        ]
        for (true, predicted), count in pairs.most_common(PAIRS)
    ]
    return table("", ["Most frequent: true → said", "Images", "Of the class"], rows) if rows else ""


def mistakes(labels, predictions, confidence, names, read_image):
    wrong = np.flatnonzero(labels != predictions)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    figures = []
    for i in worst.tolist():
        true, predicted = names[labels[i]], names[predictions[i]]
        figures.append(
            f"<figure>{thumbnail(read_image(i), f'test image {i}, true class {true}')}"
            f"<figcaption>true <b>{true}</b>, said <b>{predicted}</b>, "
            f"{percent(confidence[i], 0)}</figcaption></figure>"
        )
    if not figures:
        return ""
    count = f"The model is wrong on {len(wrong):,} of {len(labels):,} test images"
    shown = f"; its {len(worst)} most confident mistakes are shown" * (len(worst) < len(wrong))
    return f'<p>{count}{shown}.</p><div class="pictures">{"".join(figures)}</div>'


def thumbnail(image, alt):
    from PIL import Image

    pixels = max(image.shape[:2]) <= THUMBNAIL // 2  # so few that one wants to see each
    picture = Image.fromarray(image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    kind, stream = "png" if pixels else "jpeg", io.BytesIO()
    picture.save(stream, kind, optimize=True)
    data = base64.b64encode(stream.getvalue()).decode()
    style = ' class="pixels"' if pixels else ""
    return f'<img{style} alt="{alt}" src="data:image/{kind};base64,{data}">'


def per_class(labels, predictions, names):
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, _, images = precision_recall_fscore_support(
        labels, predictions, labels=range(len(names)), zero_division=np.nan
    )
    right = np.bincount(labels[labels == predictions], minlength=len(names))
    order = np.lexsort((-images, recall))  # classes without images, whose recall is NaN, go last
    rows = [
        [
            f"<th>{names[k]}</th>",
            f"<td>{images[k]:,}</td>",
            f"<td>{right[k]:,}</td>",
            f'<td class="bar" style="--share:{recall[k]:.3f}">{percent(recall[k])}</td>',
            f"<td>{percent(precision[k])}</td>",
        ]
        for k in order[:CLASS_ROWS]
    ]
    shown = f"<p>The worst {CLASS_ROWS:,} of {len(names):,}.</p>" * (len(names) > CLASS_ROWS)
    return shown + table("", ["Class", "Images", "Correct", "Recall", "Precision"], rows)


def environment():
    found = {"Date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"}
    for package in ("bit_keras", "tensorflow", "keras"):
        # Builds by other names (tensorflow-cpu) and a source tree that is not installed have none.
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    found["Python"] = platform.python_version()
    found["System"] = f"{platform.system()} {platform.release()}"
    found["Processor"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs"
    return names_and_values(found.items())


def settings_table(settings):
    settings = dict(settings)
    command = settings.pop("command", "")
    if not isinstance(command, str):
        command = shlex.join(command)
    shown = f"<pre>{escape(command)}</pre>" if command else ""
    return shown + (names_and_values(flattened(settings)) if settings else "")


def flattened(settings, prefix=""):
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield prefix + name, ", ".join(map(str, value))
        else:
            yield prefix + name, value


def names_and_values(pairs):
    rows = [[f"<th>{escape(str(n))}</th>", f"<td>{escape(str(v))}</td>"] for n, v in pairs]
    return table("values", [], rows)


def table(kind: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in a box of its own, which scrolls where the page is too narrow."""
    head = "".join(f"<th>{name}</th>" for name in header)
    head = head and f"<thead><tr>{head}</tr></thead>\n"
    body = "".join(f"<tr>{''.join(cells)}</tr>\n" for cells in rows)
    return f'<div class="scroll"><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'


def percent(share, decimals=1):
    if math.isnan(share):
        return "\N{EN DASH}"
    return f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


def number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


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
{figures}
{body}</main>
</body>
</html>
"""

# Blue and orange are told apart by every kind of colour vision (after Okabe and Ito).
STYLE = """\
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #5a6470; --rule: #e2e6ea;
  --card: #f5f7f9; --blue: 0 98 160; --orange: 200 82 0 }
@media (prefers-color-scheme: dark) { :root { --paper: #13161a; --ink: #e6e9ec; --soft: #9aa5b1;
  --rule: #2b3138; --card: #1b2026; --blue: 86 180 233; --orange: 240 160 30 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif }
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: clamp(1.5rem, 5vw, 2.2rem); line-height: 1.2; margin: .5rem 0 1.5rem;
  letter-spacing: -.02em; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; letter-spacing: -.01em }
p { margin: 0 0 .75rem; color: var(--soft) }
figure { margin: 0 }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 0 }
.figures div, .charts figure { background: var(--card); border-radius: .6rem; padding: .8rem 1rem }
dt, .note { color: var(--soft); font-size: .85rem }
dd { margin: 0; font-size: 1.75rem; font-weight: 600; line-height: 1.25; letter-spacing: -.02em }
dd.note { font-weight: 400; letter-spacing: 0 }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr));
  gap: .75rem }
.charts figcaption { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: .9rem }
svg { display: block; width: 100%; height: auto; margin-top: .5rem }
svg path { stroke: var(--rule) }
svg text { font-size: 11px; fill: var(--soft); text-anchor: middle }
svg text.y { text-anchor: end }
polyline { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round }
.blue { color: rgb(var(--blue)) }
.orange { color: rgb(var(--orange)) }
circle { fill: currentColor }
.scroll { overflow: auto; max-height: 85vh }
table { border-spacing: 0; font-variant-numeric: tabular-nums; font-size: .9rem }
th { text-align: left; font-weight: 500 }
td { text-align: right }
th, td { padding: .3rem .75rem; border-bottom: 1px solid var(--rule) }
thead th { position: sticky; top: 0; z-index: 1; background: var(--paper); color: var(--soft) }
thead th + th { text-align: right }
.bar { min-width: min(9rem, 22vw); background: linear-gradient(to right,
  rgb(var(--blue) / .18) calc(100% * var(--share)), transparent 0) }
.matrix tr > * { padding: .3rem .45rem; min-width: 2.4rem; text-align: center;
  border-right: 1px solid var(--rule) }
.matrix th:first-child { position: sticky; left: 0; z-index: 1 }
.matrix thead th:first-child { z-index: 2 }
.matrix tbody th { background: var(--paper); text-align: right;
  white-space: nowrap; max-width: min(14rem, 35vw); overflow: hidden; text-overflow: ellipsis }
.tall span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap;
  max-height: 10rem; overflow: hidden; text-overflow: ellipsis }
.right { background: rgb(var(--blue) / calc(.1 + .9 * var(--share))) }
.wrong { background: rgb(var(--orange) / calc(.2 + .8 * var(--share))) }
.full { color: var(--paper) }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(max(6.5rem, 11%), 1fr));
  gap: .75rem }
.pictures img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain;
  background: var(--card); border-radius: .4rem }
.pictures figcaption { font-size: .85rem; line-height: 1.35; margin-top: .35rem;
  overflow-wrap: anywhere }
.pixels { image-rendering: pixelated }
.values th { color: var(--soft); vertical-align: top }
.values td { text-align: left; overflow-wrap: anywhere }
pre { background: var(--card); border-radius: .6rem; padding: .8rem 1rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font: .85rem/1.5 ui-monospace, Menlo, Consolas, monospace }
@media (max-width: 30rem) { .matrix { font-size: .75rem }
  .matrix tr > * { padding: .25rem .1rem; min-width: 1.85rem } th, td { padding: .3rem .5rem } }
@media print { .scroll { max-height: none } }
"""
