"""Several runs side by side, read from their folders."""

import contextlib
import csv
import io
import json
import math
import numbers
import os
import pathlib
import statistics
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from ..training.reading_runs import flattened_settings
from .charts import curves, scalars
from .colors import key
from .few_shot import few_shot_section
from .page import DASH, FIGURES, is_share, number, percent, table, title_of, write_page

CLASS_ROWS = 100
LIST_ITEMS = 5
MINUS = "\N{MINUS SIGN}"
GROUPS = ("natural", "specialized", "structured")  # VTAB's, in its order


class Run(NamedTuple):
    """What a run's folder holds; `metrics` is None while it is unfinished."""

    settings: dict
    metrics: dict | None
    history: dict[str, dict[int, float]]
    few_shot: list[dict]
    tasks: dict[tuple[str, str], float]
    classes: tuple[str, dict[tuple[str, int], float]]


def write_comparison(path: str | os.PathLike, runs: Sequence[str | os.PathLike]) -> None:
    """Writes one self-contained HTML page of 2 or more runs side by side, whole or not at all.

    It shows their metrics, the settings in which they differ, their histories, few-shot and VTAB
    results and, of those with the same classes, the classes in which they differ most.

    Args:
        path: The file to write, which is replaced if it exists.
        runs: Run folders: `config.json`, and what there is of `metrics.json`, `metrics.jsonl`,
            `results.jsonl` and `per_class.csv`.

    Raises:
        ValueError: If there are fewer than two folders, one is no run's, a file is damaged, or the
            page cannot be written.
    """
    paths = list(dict.fromkeys(pathlib.Path(os.path.abspath(run)) for run in runs))
    if len(paths) < 2:
        raise ValueError(f"a comparison needs two run folders or more, got {len(paths)}; add one.")
    runs = dict(zip(short_names(paths), map(read_run, paths), strict=True))
    few_shot = {name: run.few_shot for name, run in runs.items()}
    sections = [
        ("Metrics", metrics_table(runs)),
        ("Settings that differ", settings_table(runs)),
        ("Accuracy by examples a class", few_shot_section(few_shot)),
        ("Tasks", task_table(runs)),
        ("Training", histories(runs)),
        *class_tables(runs),
    ]
    write_page(path, f"{len(runs)} runs side by side", "", sections)


def short_names(paths):
    """Each folder's own name, with as many parents as tell it from the others."""
    names = []
    for path in paths:
        depth = 1
        while sum(other.parts[-depth:] == path.parts[-depth:] for other in paths) > 1:
            depth += 1
        names.append(str(pathlib.Path(*path.parts[-depth:])))
    return names


def read_run(folder):
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no run's folder: it has no config.json; leave it out.")

    def read(name, parse):
        file = folder / name
        try:
            return parse(file.read_text(encoding="utf-8") if file.exists() else "")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{file} is damaged ({error!r}); restore it, or leave that run out."
            ) from error

    return Run(
        read("config.json", lambda text: flattened_settings(json.loads(text))),
        read("metrics.json", lambda text: flattened_settings(json.loads(text)) if text else None),
        read("metrics.jsonl", lambda text: scalars(rows(text))),
        read("results.jsonl", lambda text: [few_shot_row(r) for r in rows(text) if "shots" in r]),
        read("results.jsonl", lambda text: tasks(r for r in rows(text) if "task" in r)),
        read("per_class.csv", classes),
    )


def rows(text):
    """The objects of a file with one a line, but for one that was being written at a crash."""
    *lines, last = text.split("\n")
    found = [json.loads(line) for line in lines]
    with contextlib.suppress(json.JSONDecodeError):
        found.append(json.loads(last))
    return found


def few_shot_row(row):
    return {
        "method": str(row["method"]),
        "shots": "full" if row["shots"] == "full" else int(row["shots"]),
        "examples_per_class": float(row["examples_per_class"]),
        "accuracy": float(row["accuracy"]),
    }


def tasks(rows):
    """{(group, task): accuracy}, the median where a task was done several times."""
    found = {}
    for row in rows:
        found.setdefault((str(row["group"]), str(row["task"])), []).append(float(row["accuracy"]))
    return {task: statistics.median(values) for task, values in found.items()}


def classes(text):
    """The measure in a `per_class.csv`, and {(class, its number among its namesakes): value}."""
    found, measure, namesakes = {}, "recall", Counter()
    for row in csv.DictReader(io.StringIO(text, newline="")):
        measure = "average_precision" if "average_precision" in row else "recall"
        name = row["class"]
        found[name, namesakes[name]] = float(row[measure] or "nan")
        namesakes[name] += 1
    return measure, found


def metrics_table(runs):
    metrics = [run.metrics or {} for run in runs.values()]
    lines = []
    if any(run.metrics is None for run in runs.values()):
        lines.append(["<th>State</th>", *map(state, runs.values())])
    in_task_table = {name for run in runs.values() for task in run.tasks for name in task}
    for name in dict.fromkeys(name for own in metrics for name in own if name not in in_task_table):
        values = [own.get(name) for own in metrics]
        lines.append([f"<th>{escape(title_of(name))}</th>", *compared(name, values)])
    return table("runs", header(runs, runs), lines) if lines else ""


def state(run):
    if run.metrics is not None:
        return "<td>finished</td>"
    last = max((step for values in run.history.values() for step in values), default=None)
    return f"<td>unfinished{'' if last is None else f', at step {last:,}'}</td>"


def header(runs, shown):
    colors = {name: color for color, name in enumerate(runs)}
    return ["", *(key(name, colors[name]) for name in shown)]


def compared(name, values):
    """A cell a run: the best is marked, and the others say how far from it they are."""
    lower = name.endswith(("loss", "error"))
    known = [v for v in values if isinstance(v, numbers.Real) and math.isfinite(v)]
    best = (min if lower else max)(known, default=None) if lower or is_share(name) else None
    texts = [DASH if value is None else shown(name, value) for value in values]
    judged = best is not None and len({shown(name, value) for value in known}) > 1
    cells = []
    for value, text in zip(values, texts, strict=True):
        if not judged or value not in known:
            cells.append(f"<td>{escape(text)}</td>")
        elif text == shown(name, best):
            cells.append(f'<td class="best">{text}</td>')
        else:
            far = value - best
            far = f"{100 * far:+.2f}" if is_share(name) else f"{far:+.3g}"
            cells.append(f"<td>{text} <small>{far.replace('-', MINUS)}</small></td>")
    return cells


def shown(name, value):
    if not isinstance(value, numbers.Real):
        return str(value)
    return percent(value, 2) if is_share(name) else FIGURES.get(name, ("", number))[1](value)


def settings_table(runs):
    settings = [run.settings for run in runs.values()]
    lines = []
    for name in dict.fromkeys(name for own in settings for name in own):
        values = [short(own[name]) if name in own else DASH for own in settings]
        if any(own.get(name, runs) != settings[0].get(name, runs) for own in settings):
            lines.append([f"<th>{escape(name)}</th>", *(f"<td>{escape(v)}</td>" for v in values)])
    if not lines:
        return "<p>None: the runs have the same settings.</p>"
    return table("runs", header(runs, runs), lines)


def short(value):
    if not isinstance(value, list):
        return str(value)
    rest = f" … ({len(value):,} in all)" if len(value) > LIST_ITEMS else ""
    return ", ".join(map(str, value[:LIST_ITEMS])) + rest


def task_table(runs):
    groups = {}  # {group: tasks}
    for task in dict.fromkeys(task for run in runs.values() for task in run.tasks):
        groups.setdefault(task[0], []).append(task)

    def line(name, members, kind="mean"):
        means = [
            statistics.fmean(map(run.tasks.get, members))
            if run.tasks.keys() >= set(members)
            else None
            for run in runs.values()
        ]
        return [f'<th class="{kind}">{escape(name)}</th>', *compared("accuracy", means)]

    every = [task for members in groups.values() for task in members]
    lines = [line(f"All {len(every)} tasks, mean", every)] if len(groups) > 1 else []
    for group in sorted(groups, key=lambda group: (*GROUPS, group).index(group)):
        lines.append(line(f"{group.capitalize()}, mean of {len(groups[group])}", groups[group]))
        lines += [line(task[1], [task], "") for task in groups[group]]
    return table("runs", header(runs, runs), lines) if lines else ""


def histories(runs):
    charts = {"loss": [], "test_loss": [], "test_accuracy": []}  # these first, then any other
    for color, (name, run) in enumerate(runs.items()):
        for title, values in run.history.items():
            charts.setdefault(title, []).append((name, color, values))
    return curves(charts)


def class_tables(runs):
    """A section for each of the sets of classes that several runs have."""
    groups = {}
    for name, run in runs.items():
        measure, values = run.classes
        groups.setdefault((measure, frozenset(values)), []).append(name)
    sections = []
    for (measure, members), names in groups.items():
        if len(names) < 2 or not members:
            continue
        by_class = {
            c: [runs[name].classes[1][c] for name in names] for c in runs[names[0]].classes[1]
        }
        order = sorted(by_class, key=lambda c: -spread(by_class[c]))[:CLASS_ROWS]
        lines = [[f"<th>{escape(c[0])}</th>", *compared(measure, by_class[c])] for c in order]
        note = f"<p>The first {CLASS_ROWS} of {len(by_class):,}.</p>" * (len(by_class) > CLASS_ROWS)
        heading = f"{title_of(measure)} by class, largest differences first"
        sections.append((heading, note + table("runs", header(runs, names), lines)))
    return sections


def spread(values):
    known = [value for value in values if not math.isnan(value)] or [0]
    return max(known) - min(known)
