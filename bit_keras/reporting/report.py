"""The page of one run."""

import importlib.metadata
import math
import os
import platform
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from html import escape

import numpy as np
import scipy.sparse
import tensorflow as tf

from ..training.reading_runs import flattened_settings
from .answers import one_label_sections, several_label_sections
from .charts import curves, scalars
from .few_shot import Curves, few_shot_section
from .page import FIGURES, percent, plain_table, write_page


def write_report(
    path: str | os.PathLike,
    *,
    title: str,
    settings: dict,
    metrics: dict,
    history: Sequence[dict] = (),
    few_shot: Curves = (),
    tables: dict[str, tuple[Sequence, Sequence[Sequence]]] | None = None,
    labels: np.ndarray | scipy.sparse.csr_array | None = None,
    probabilities: np.ndarray | None = None,
    predictions: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    average_precisions: Sequence[float | None] | None = None,
    class_names: Sequence[str] = (),
    read_image: Callable[[int], np.ndarray] | None = None,
) -> None:
    """Writes `report.html`, whole or not at all; sections without data are left out.

    Args:
        path: The file to write, which is replaced if it exists.
        title: The page's title, such as "BiT-XS-R26x0.25 on digits".
        settings: The run's settings, nested as in `config.json`. `command`, a string or a list of
            arguments, is shown above the others.
        metrics: Any of `accuracy`, `top5_accuracy`, `mean_per_class_accuracy`,
            `mean_average_precision`, `vtab_mean`, `calibration_error`, `loss`, `num_test`, `steps`,
            `seconds`; others are passed over.
        history: The lines of `metrics.jsonl`: `step` and scalars. `test_loss` is drawn into the
            same chart as `loss`, and so with every name.
        few_shot: What `few_shot_picture` draws, as a plot and a table.
        tables: {heading: (header, rows)} of plain text, shown after the charts.
        labels: True classes of the test images, int [N], or bool [N, K] where they have several.
        probabilities: What the model said of them, float [N, K]: each class's probability.
        predictions: int [N]: the data's class that the model's answer stands for, or -1 for none,
            where it is not the likeliest of the K. `probabilities` are then of any number of
            classes, and an image's highest is that of the answer.
        confidence: float [N], for one label an image where `probabilities` are sigmoids: the
            answer's probability given that the image has just one class, to draw the calibration
            of. By default it is the highest of `probabilities`.
        average_precisions: K for several labels an image, None for a class that no image has.
        class_names: K names, of any characters.
        read_image: Test image i as uint8 [H, W, 3], or None for a report without pictures.

    Raises:
        ValueError: If labels, probabilities, predictions and class names do not fit each other.
    """
    sections = [
        ("Accuracy by examples a class", few_shot_section(few_shot)),
        ("Training", training(history)),
        *((heading, plain_table(*content)) for heading, content in (tables or {}).items()),
    ]
    if labels is not None and probabilities is not None and labels.shape[0]:
        probabilities = np.asarray(probabilities)
        expected = (labels.shape[0], len(class_names))
        if predictions is not None:
            expected = (*np.shape(predictions), probabilities.shape[-1])
        if probabilities.shape != expected or labels.shape not in (expected, expected[:1]):
            raise ValueError(
                "labels, predictions and probabilities must have one row an image, and "
                f"probabilities one column a class name, {list(expected)}, got labels "
                f"{list(labels.shape)} and probabilities {list(probabilities.shape)}."
            )
        names = [escape(str(name)) for name in class_names]
        if labels.ndim == 2:
            averages = [None] * len(names) if average_precisions is None else average_precisions
            sections += several_label_sections(
                labels.toarray(), probabilities, averages, names, read_image
            )
        else:
            if predictions is None:
                predictions = probabilities.argmax(axis=1)
            shown = probabilities.max(axis=1)
            sections += one_label_sections(
                labels, predictions, shown, confidence, names, read_image
            )
    sections += [("Environment", plain_table((), environment().items(), "values"))]
    sections += [("Settings", settings_section(settings))]
    write_page(path, title, headline(metrics), sections)


def headline(metrics):
    figures = []
    for key, (name, form) in FIGURES.items():
        if key in metrics:
            note = ""
            if key == "accuracy" and "num_test" in metrics:
                low, high = wilson_interval(metrics["accuracy"], metrics["num_test"])
                interval = f"{100 * low:.1f} to {percent(high)}"
                note = f'<dd class="note">95 % interval<br>{interval}</dd>'
            figures.append(f"<div><dt>{name}</dt><dd>{form(metrics[key])}</dd>{note}</div>")
    return f'<dl class="figures">{"".join(figures)}</dl>' if figures else ""


def wilson_interval(accuracy: float, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion (Wilson, 1927)."""
    z = 1.959964
    center = accuracy + z**2 / (2 * count)
    margin = z * math.sqrt(accuracy * (1 - accuracy) / count + (z / (2 * count)) ** 2)
    scale = 1 + z**2 / count
    return max(0.0, (center - margin) / scale), min(1.0, (center + margin) / scale)


def training(history):
    charts = {"loss": [], "learning_rate": [], "accuracy": []}  # these first, then any other
    for name, values in scalars(history).items():
        kind = ("test", 1) if name.startswith("test_") else ("training", 0)
        charts.setdefault(name.removeprefix("test_"), []).append((*kind, values))
    return curves(charts)


def environment():
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


def settings_section(settings):
    settings = dict(settings)
    command = settings.pop("command", None) or ""
    if not isinstance(command, str):
        command = shlex.join(command)
    shown = f"<pre>{escape(command)}</pre>" if command else ""
    rows = [
        (name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else value)
        for name, value in flattened_settings(settings).items()
    ]
    return shown + (plain_table((), rows, "values") if rows else "")
