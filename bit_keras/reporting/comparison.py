"""Several runs side by side, read from their folders."""

import math
import numbers
import os
import pathlib
import statistics
from collections.abc import Sequence
from html import escape

import numpy as np

from .charts import curves
from .colors import key
from .few_shot import few_shot_section
from .page import DASH, FIGURES, is_share, number, percent, table, title_of, write_page
from .run_contents import read_contents

CLASS_ROWS = 100
LIST_ITEMS = 5
MINUS = "\N{MINUS SIGN}"


def write_comparison(path: str | os.PathLike, runs: Sequence[str | os.PathLike]) -> None:
    """Writes one self-contained HTML page of two or more runs side by side.

    Args:
        path: The file to write, atomically; replaced if it exists.
        runs: Run folders: `config.json`, and what there is of `metrics.json`, `metrics.jsonl`,
            `results.jsonl` and `per_class.csv`.

    Raises:
        ValueError: If there are fewer than two folders, one is no run's, a file is damaged, or the
            page cannot be written.
    """
    paths = list(dict.fromkeys(pathlib.Path(os.path.abspath(run)) for run in runs))
    if len(paths) < 2:
        raise ValueError(f"a comparison needs two run folders or more, got {len(paths)}; add one.")
    runs = dict(zip(_short_names(paths), map(read_contents, paths), strict=True))
    sections = [
        ("Metrics", _metrics_table(runs)),
        ("Settings that differ", _differing_settings(runs)),
        few_shot_section({name: run.few_shot for name, run in runs.items()}),
        ("Tasks", _task_table(runs)),
        ("Training", _histories(runs)),
        *_class_sections(runs),
    ]
    write_page(path, f"{len(runs)} runs side by side", "", sections)


def _short_names(paths):
    """Each folder's own name, with as many parents as make it unique."""
    names = []
    for path in paths:
        depth = 1
        while sum(other.parts[-depth:] == path.parts[-depth:] for other in paths) > 1:
            depth += 1
        names.append(str(pathlib.Path(*path.parts[-depth:])))
    return names


def _runs_table(runs, lines, columns=None):
    """A table with one column per run (those in `columns`, or all), headed by its color."""
    colors = {name: color for color, name in enumerate(runs)}
    header = ["", *(key(name, colors[name]) for name in columns or runs)]
    return table("runs", header, lines) if lines else ""


def _metrics_table(runs):
    metrics = [run.metrics or {} for run in runs.values()]
    lines = []
    if any(run.metrics is None for run in runs.values()):
        lines.append(["<th>State</th>", *map(_state, runs.values())])
    in_task_table = {name for run in runs.values() for task in run.tasks for name in task}
    for name in dict.fromkeys(name for own in metrics for name in own if name not in in_task_table):
        cells = _compared(name, [own.get(name) for own in metrics])
        lines.append([f"<th>{escape(title_of(name))}</th>", *cells])
    return _runs_table(runs, lines)


def _state(run):
    if run.metrics is not None:
        return "<td>finished</td>"
    last = max((step for values in run.history.values() for step in values), default=None)
    return f"<td>unfinished{'' if last is None else f', at step {last:,}'}</td>"


def _compared(name, values):
    """One cell per run: the best is marked, the others show their distance from it."""
    lower = name.endswith(("loss", "error"))
    known = [v for v in values if isinstance(v, numbers.Real) and math.isfinite(v)]
    best = (min if lower else max)(known, default=None) if lower or is_share(name) else None
    texts = [DASH if value is None else _shown(name, value) for value in values]
    judged = best is not None and len({_shown(name, value) for value in known}) > 1
    cells = []
    for value, text in zip(values, texts, strict=True):
        if not judged or value not in known:
            cells.append(f"<td>{escape(text)}</td>")
        elif text == _shown(name, best):
            cells.append(f'<td class="best">{text}</td>')
        else:
            far = f"{100 * (value - best):+.2f}" if is_share(name) else f"{value - best:+.3g}"
            cells.append(f"<td>{text} <small>{far.replace('-', MINUS)}</small></td>")
    return cells


def _shown(name, value):
    if not isinstance(value, numbers.Real):
        return str(value)
    return percent(value, 2) if is_share(name) else FIGURES.get(name, ("", number))[1](value)


def _differing_settings(runs):
    settings = [run.settings for run in runs.values()]
    lines = []
    for name in dict.fromkeys(name for own in settings for name in own):
        values = [_setting(own[name]) if name in own else DASH for own in settings]
        if any(own.get(name, runs) != settings[0].get(name, runs) for own in settings):
            lines.append([f"<th>{escape(name)}</th>", *(f"<td>{escape(v)}</td>" for v in values)])
    return _runs_table(runs, lines) or "<p>None: the runs have the same settings.</p>"


def _setting(value):
    if not isinstance(value, list):
        return str(value)
    rest = f" … ({len(value):,} in all)" if len(value) > LIST_ITEMS else ""
    return ", ".join(map(str, value[:LIST_ITEMS])) + rest


def _task_table(runs):
    groups = {}  # {group: tasks}
    for task in dict.fromkeys(task for run in runs.values() for task in run.tasks):
        groups.setdefault(task[0], []).append(task)

    def line(name, members, kind="mean"):
        found = (list(map(run.tasks.get, members)) for run in runs.values())
        means = [None if None in own else statistics.fmean(own) for own in found]
        return [f'<th class="{kind}">{escape(name)}</th>', *_compared("accuracy", means)]

    every = [task for members in groups.values() for task in members]
    lines = [line(f"All {len(every)} tasks, mean", every)] if len(groups) > 1 else []
    for group in sorted(groups):
        lines.append(line(f"{group.capitalize()}, mean of {len(groups[group])}", groups[group]))
        lines += [line(task[1], [task], "") for task in groups[group]]
    return _runs_table(runs, lines)


def _histories(runs):
    charts = {"loss": [], "test_loss": [], "test_accuracy": []}  # these first, then any other
    for color, (name, run) in enumerate(runs.items()):
        for title, values in run.history.items():
            charts.setdefault(title, []).append((name, color, values))
    return curves(charts)


def _class_sections(runs):
    """One section for each set of classes that several runs have."""
    groups = {}
    for name, run in runs.items():
        measure, values = run.classes
        groups.setdefault((measure, frozenset(values)), []).append(name)
    sections = []
    for (measure, members), names in groups.items():
        if len(names) < 2 or not members:
            continue
        columns = [runs[name].classes[1] for name in names]
        by_class = {c: [column[c] for column in columns] for c in columns[0]}
        spread = {c: np.ptp([v for v in by_class[c] if not math.isnan(v)] or 0) for c in by_class}
        order = sorted(by_class, key=lambda c: -spread[c])[:CLASS_ROWS]
        lines = [[f"<th>{escape(c[0])}</th>", *_compared(measure, by_class[c])] for c in order]
        note = f"<p>The first {CLASS_ROWS} of {len(by_class):,}.</p>" * (len(by_class) > CLASS_ROWS)
        heading = f"{title_of(measure)} by class, largest differences first"
        sections.append((heading, note + _runs_table(runs, lines, names)))
    return sections
