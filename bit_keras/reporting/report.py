"""The page of one run."""

import importlib.metadata
import os
import platform
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from html import escape

import tensorflow as tf

from ..training.reading_runs import flattened_settings
from .charts import curves, scalars
from .page import FIGURES, Section, percent, plain_table, write_page

_KINDS = {"test": 1, "validation": 2}  # what the names of scalars begin with, and its color


def write_report(
    path: str | os.PathLike,
    *,
    title: str,
    settings: dict,
    metrics: dict,
    history: Sequence[dict] = (),
    sections: Sequence[Section] = (),
    command: str | None = None,
) -> None:
    """Writes a run's report, atomically; ValueError if it cannot be written.

    Args:
        path: The file to write.
        title: Such as "BiT-XS-R26x0.25 on digits".
        settings: Nested as in `config.json`.
        metrics: Those in `page.FIGURES` are shown, in its order.
        history: The lines of `metrics.jsonl`: `step` and scalars. `test_loss` is drawn into the
            same chart as `loss`, and so with every name.
        sections: What the run's task shows; those without HTML are left out.
        command: The command line to show above the settings.
    """
    shown = f"<pre>{escape(command)}</pre>" if command else ""
    own = [
        ("Environment", plain_table((), _environment().items(), "values")),
        ("Settings", shown + _settings_table(settings)),
    ]
    write_page(path, title, _figures(metrics), [("Training", _training(history)), *sections, *own])


def _figures(metrics):
    from scipy.stats import binomtest  # half a second, which no other part of a command needs

    figures = []
    for key, (name, form) in FIGURES.items():
        if key in metrics:
            note = ""
            if key == "accuracy" and "num_test" in metrics:
                count = metrics["num_test"]
                right = binomtest(round(metrics["accuracy"] * count), count)
                low, high = right.proportion_ci(method="wilson")
                interval = f"{100 * low:.1f} to {percent(high)}"
                note = f'<dd class="note">95 % interval<br>{interval}</dd>'
            figures.append(f"<div><dt>{name}</dt><dd>{form(metrics[key])}</dd>{note}</div>")
    return f'<dl class="figures">{"".join(figures)}</dl>' if figures else ""


def _training(history):
    charts = {"loss": [], "learning_rate": [], "accuracy": []}  # these first, then any other
    for name, values in scalars(history).items():
        kind, _, bare = name.partition("_")
        if kind not in _KINDS:
            kind, bare = "training", name
        charts.setdefault(bare, []).append((kind, _KINDS.get(kind, 0), values))
    return curves(charts)


def _environment():
    found = {"Date": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}"}
    for package in ("bit_keras", "tensorflow", "keras"):
        # Builds by other names (tensorflow-cpu) and a source tree that is not installed have none.
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    found["Python"] = platform.python_version()
    found["System"] = f"{platform.system()} {platform.release()}"
    found["Processor"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs"
    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    gpus = Counter(gpu.get("device_name", "of unknown name") for gpu in details)
    if gpus:
        found["GPUs"] = ", ".join(f"{count} of {name}" for name, count in gpus.items())
    return found


def _settings_table(settings):
    rows = [
        (name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else value)
        for name, value in flattened_settings(settings).items()
    ]
    return plain_table((), rows, "values") if rows else ""
