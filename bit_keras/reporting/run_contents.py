"""What a run's folder holds, read for a comparison."""

import csv
import io
import json
import pathlib
import statistics
from collections import Counter
from typing import NamedTuple

from ..training.reading_runs import flattened_settings, parse_lines
from .charts import scalars

RENAMED_GROUPS = {"specialised": "specialized"}  # as older results.jsonl spell it


class RunContents(NamedTuple):
    """The files of one run; empty for those that it lacks.

    Attributes:
        settings: `config.json`, flattened.
        metrics: `metrics.json`, flattened; None while the run is unfinished.
        history: {name: {step: value}} of `metrics.jsonl`.
        few_shot: Rows of a few-shot curve in `results.jsonl`.
        tasks: {(group, task): accuracy} of a suite in `results.jsonl`, the median of several.
        classes: The measure in `per_class.csv`, and {(class, its number among the classes of that
            name): value}.
    """

    settings: dict
    metrics: dict | None
    history: dict[str, dict[int, float]]
    few_shot: list[dict]
    tasks: dict[tuple[str, str], float]
    classes: tuple[str, dict[tuple[str, int], float]]


def read_contents(folder: pathlib.Path) -> RunContents:
    """Reads a run's folder; ValueError if it has no `config.json`, or a file is damaged."""
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

    return RunContents(
        settings=read("config.json", lambda text: flattened_settings(json.loads(text))),
        metrics=read(
            "metrics.json", lambda text: flattened_settings(json.loads(text)) if text else None
        ),
        history=read("metrics.jsonl", lambda text: scalars(parse_lines(text, scalars=True))),
        few_shot=read("results.jsonl", _few_shot),
        tasks=read("results.jsonl", _tasks),
        classes=read("per_class.csv", _class_values),
    )


def _few_shot(text):
    return [
        {
            "method": str(row["method"]),
            "shots": "full" if row["shots"] == "full" else int(row["shots"]),
            "examples_per_class": float(row["examples_per_class"]),
            "accuracy": float(row["accuracy"]),
        }
        for row in parse_lines(text)
        if "shots" in row
    ]


def _tasks(text):
    found = {}
    for row in parse_lines(text):
        if "task" in row:
            group = RENAMED_GROUPS.get(row["group"], str(row["group"]))
            found.setdefault((group, str(row["task"])), []).append(float(row["accuracy"]))
    return {task: statistics.median(values) for task, values in found.items()}


def _class_values(text):
    found, measure, namesakes = {}, "recall", Counter()
    for row in csv.DictReader(io.StringIO(text, newline="")):
        measure = next((name for name in ("ap", "average_precision") if name in row), "recall")
        name = row["class"]
        found[name, namesakes[name]] = float(row[measure] or "nan")
        namesakes[name] += 1
    return measure, found
