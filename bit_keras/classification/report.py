"""The report of a classifier's run: `report.html` and `per_class.csv`."""

import pathlib
from collections.abc import Collection
from html import escape
from typing import Any

import numpy as np
import tensorflow as tf

from ..metrics.classification import calibration_bins, confidence, confused_pairs
from ..reporting import write_report
from ..reporting.charts import reliability_diagram
from ..reporting.classes import class_table, write_per_class
from ..reporting.left_out import write_skipped
from ..reporting.page import Section, percent, table
from ..reporting.pictures import picture_grid, thumbnail
from ..training import RunFolder
from .advice import advice
from .answers import Evaluation

MATRIX_CLASSES = 40  # with more classes, a table of pairs is easier to read than the matrix
MISTAKES = 24
PAIRS = 25
HEAT_NOTE = (
    " Beside each picture is the same in gray under a heat map: the brighter a place, the more it "
    "speaks for the class that the model said."
)


def write_run_report(
    run: RunFolder, evaluation: Evaluation | None, *, skipped: Collection[str] = (), **page: Any
) -> None:
    """Writes a run's `report.html` and, if it was tested, `per_class.csv`.

    Args:
        run: Its folder.
        evaluation: Of the test images.
        skipped: As in `write_skipped`.
        **page: `title`, `settings`, `metrics` and `command`, as in `write_report`.
    """
    said = advice(page["settings"], run.history())
    sections = [("What to try", f"<p>{escape(said)}</p>")] if said else []
    sections += write_skipped(run.path, skipped)
    if evaluation:
        sections += report_sections(evaluation)
        write_per_class(run.path, evaluation.per_class)
    write_report(run.path / "report.html", history=run.history(), sections=sections, **page)


def report_sections(evaluation: Evaluation) -> list[Section]:
    """Returns confusions, calibration, the most confident mistakes and a table of the classes."""
    several = evaluation.images.multi_label
    names = [escape(str(name)) for name in evaluation.images.class_names]
    return (_several_label_sections if several else _one_label_sections)(evaluation, names)


def _one_label_sections(evaluation, names):
    labels, predictions = evaluation.images.labels, evaluation.predictions
    predicted = [*names, "another class"]  # which -1 finds
    right, sure = labels == predictions, confidence(evaluation.logits)
    said = evaluation.logits.argmax(axis=1)
    shown, note = sure, ""
    if evaluation.sigmoid:
        shown = tf.sigmoid(evaluation.logits.max(axis=1)).numpy()
        note = "<p>Confidence is the probability given that an image has just one class.</p>"
    confusions = _confusion_table if len(names) <= MATRIX_CLASSES else _pair_table
    count = f"The model is wrong on {np.sum(~right):,} of {len(labels):,} test images"

    def caption(i):
        return names[labels[i]], predicted[predictions[i]]

    return [
        ("Confusions", confusions(evaluation, predicted)),
        ("Calibration", note + reliability_diagram(*calibration_bins(sure, right))),
        ("Most confident mistakes", _mistakes(evaluation, count, ~right, shown, said, caption)),
        ("Classes, worst first", class_table(evaluation.per_class, "recall")),
    ]


def _several_label_sections(evaluation, names):
    truth = evaluation.images.labels.toarray()
    false = np.where(truth, 0, evaluation.probabilities)
    sure, said = false.max(axis=1), false.argmax(axis=1)
    at = dict.fromkeys(("recall", "precision"), " at 0.5")
    wrong = sure > 0.5
    count = f"{np.sum(wrong):,} of {len(truth):,} test images lack a class that the model says"

    def caption(i):
        true = ", ".join(names[k] for k in np.flatnonzero(truth[i])) or "none"
        return true, names[said[i]]

    return [
        ("Most confident mistakes", _mistakes(evaluation, count, wrong, sure, said, caption)),
        ("Classes, worst first", class_table(evaluation.per_class, "average_precision", at)),
    ]


def _confusion_table(evaluation, names):
    """The matrix of classes by predicted classes; `names` ends with that of no class."""
    counts = evaluation.confusion_matrix
    classes = range(len(counts))
    columns = [*classes, *([-1] if counts[:, -1].any() else [])]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def cell(true, predicted):
        if not counts[true, predicted]:
            return "<td></td>"
        kind = "right" if true == predicted else "wrong"
        return (
            f'<td class="{kind}" style="--share:{shares[true, predicted]:.2f}" '
            f'title="true {names[true]}, said {names[predicted]}">{counts[true, predicted]}</td>'
        )

    rows = [[f"<th>{names[true]}</th>", *(cell(true, k) for k in columns)] for true in classes]
    header = ["", *(f"<span>{names[k]}</span>" for k in columns)]
    kind = "matrix tall" if max(len(names[k]) for k in columns) > 4 else "matrix"
    return (
        "<p>A row is a true class, a column what the model said. "
        '<span class="blue">Right</span> and <span class="orange">wrong</span>, the stronger the '
        f"larger the share of the row.</p>{table(kind, header, rows)}"
    )


def _pair_table(evaluation, names):
    """The most frequent confusions, where the whole matrix would be too large."""
    images = evaluation.images.labels, evaluation.predictions
    rows = [
        [
            f"<th>{names[true]} → {names[predicted]}</th>",
            f"<td>{count:,}</td>",
            f"<td>{percent(count / evaluation.per_class[true]['images'])}</td>",
        ]
        for (true, predicted), count in confused_pairs(*images, PAIRS)
    ]
    return table("", ["Most frequent: true → said", "Images", "Of the class"], rows) if rows else ""


def _mistakes(evaluation, count, wrong, sure, said, caption):
    """Pictures of the most confident mistakes, and of what the model saw, if that is known.

    The class it `said` is a column of the logits; `caption` returns (true class, predicted class).
    """
    mistakes = np.flatnonzero(wrong)
    if not mistakes.size:
        return ""
    worst = mistakes[np.argsort(-sure[mistakes], kind="stable")][:MISTAKES].tolist()
    heated = evaluation.explain(worst, said[worst]) if evaluation.explain else None
    pictures = []
    for n, i in enumerate(worst):
        true, predicted = caption(i)
        image = evaluation.images.read(tf.constant(i, tf.int64)).numpy()
        shown = thumbnail(image, f"test image {i}, true class {true}")
        if heated:
            shown += thumbnail(heated[n], f"heat map of {predicted} on test image {i}")
        text = f"true <b>{true}</b>, said <b>{predicted}</b>, {percent(sure[i], 0)}"
        if evaluation.images.files is not None:
            path = pathlib.Path(evaluation.images.files[i])
            short = escape("/".join(path.parts[-2:]))
            text += f'<br><span title="{escape(str(path))}">{short}</span>'
        pictures.append((shown, text))
    shown = f"; its {len(worst)} most confident mistakes are shown" * (len(worst) < len(mistakes))
    note, kind = (HEAT_NOTE, "pictures pairs") if heated else ("", "pictures")
    return f"<p>{count}{shown}.{note}</p>{picture_grid(pictures, kind)}"
