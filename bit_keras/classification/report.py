"""The report of a classifier's run."""

import csv

import tensorflow as tf

from ..metrics.classification import confidence
from ..reporting import write_report
from ..training import RunFolder


def document(
    run: RunFolder,
    evaluation,
    *,
    title: str,
    settings: dict,
    metrics: dict,
    command: str | None,
) -> None:
    """Writes a run's `report.html` and, if it was tested, `per_class.csv`.

    Args:
        title, settings, metrics: As `write_report` takes them.
        command: The command line to show, if there was one.
    """
    tested = {}
    if evaluation:
        images, rows = evaluation.images, evaluation.per_class
        table = run.path / "per_class.csv"
        with open(table, "w", newline="", encoding="utf-8", errors="replace") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        tested = {
            "labels": images.labels,
            "class_names": images.class_names,
            "read_image": lambda i: images.read(tf.constant(i, tf.int64)).numpy(),
        }
        if images.multi_label:
            tested["probabilities"] = evaluation.probabilities
            tested["average_precisions"] = evaluation.average_precisions
        else:  # of the answers alone, as those of all classes may be many
            tested["predictions"] = evaluation.predictions
            shown = confidence(evaluation.logits)
            if evaluation.sigmoid:
                tested["confidence"] = shown
                shown = tf.sigmoid(evaluation.logits.max(axis=1)).numpy()
            tested["probabilities"] = shown[:, None]
    write_report(
        run.path / "report.html",
        title=title,
        settings={"command": command, **settings} if command else settings,
        history=run.history(),
        metrics=metrics,
        **tested,
    )
