"""The report of a detector's run: `report.html`, `per_class.csv` and `detections.json`."""

import pathlib
from collections.abc import Collection
from html import escape
from typing import Any

import numpy as np
import tensorflow as tf

from ..metrics.detection import RECALLS
from ..metrics.detection_errors import KINDS
from ..reporting import write_report
from ..reporting.boxes import box_key, draw_boxes
from ..reporting.charts import Line, precision_recall
from ..reporting.classes import class_table, write_per_class
from ..reporting.left_out import write_skipped
from ..reporting.page import Section, percent, table
from ..reporting.pictures import drawing, picture_grid
from ..reporting.texts import printable
from ..training import RunFolder
from .answers import Evaluation
from .coco_files import write_coco_detections

CURVES = 24  # of the worst classes
PICTURES = 12
SIDE = 540  # pixels of the longer side of a picture
KEYS = 32
COLUMNS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
    "ar": "AR",
}


def write_run_report(
    run: RunFolder, evaluation: Evaluation | None, *, skipped: Collection[str] = (), **page: Any
) -> None:
    """Writes a run's `report.html` and, if it was tested, `per_class.csv` and `detections.json`.

    Args:
        run: Its folder.
        evaluation: Of the test images.
        skipped: As in `write_skipped`.
        **page: `title`, `settings`, `metrics` and `command`, as in `write_report`.
    """
    sections = write_skipped(run.path, skipped)
    if evaluation:
        sections += report_sections(evaluation)
        write_per_class(run.path, evaluation.per_class)
        path = run.path / "detections.json"
        write_coco_detections(path, evaluation.images, evaluation.detections)
    write_report(run.path / "report.html", history=run.history(), sections=sections, **page)


def report_sections(evaluation: Evaluation) -> list[Section]:
    """Returns errors by kind, the classes, their curves, and the worst images with their boxes.

    If there are masks they come first, beside the boxes; and all that follows is judged by them.
    """
    measure = "mask_ap" if evaluation.mask_scores else "ap"
    return [
        ("Boxes and masks", _score_table(evaluation)),
        ("Errors", _error_table(evaluation)),
        ("Classes, worst first", class_table(evaluation.per_class, measure)),
        ("Precision and recall", _curves(evaluation)),
        ("Worst images", _worst_images(evaluation)),
    ]


def _score_table(evaluation):
    if not evaluation.mask_scores:
        return ""
    of_each = {"Boxes": evaluation.scores.metrics, "Masks": evaluation.mask_scores.metrics}
    rows = [
        [f"<th>{name}</th>", *(f"<td>{percent(metrics.get(key))}</td>" for key in COLUMNS)]
        for name, metrics in of_each.items()
    ]
    note = (
        "<p>A detection is judged by the overlap of its box, or of its mask. Errors, classes, "
        "curves and worst images below are by masks.</p>"
    )
    return note + table("", ["", *COLUMNS.values()], rows)


def _error_table(evaluation):
    errors, number = evaluation.errors, evaluation.metrics["num_test_boxes"]
    kind = evaluation.judged.kind
    words = {"one": {"boxes": "box", "masks": "mask"}[kind], "many": kind}
    right = int(np.sum(errors.kept & (evaluation.judged.found >= 0)))
    rows = [
        [
            f"<th>{kind.capitalize()}</th>",
            f"<td>{errors.counts[kind]:,}</td>",
            f"<td>{_points(evaluation.gains[kind])}</td>",
            f'<td class="text">{meaning.format(**words)}</td>',
        ]
        for kind, meaning in KINDS.items()
    ]
    how = "as given" if evaluation.threshold is not None else "where F1 on these images is highest"
    note = (
        f"<p>{right:,} of {number:,} {kind} are found, and {int(errors.kept.sum()) - right:,} "
        f"detections are wrong: at IoU 0.5, of detections with scores of {errors.threshold:.2f} or "
        f"more, {how}. The gain is how much AP at IoU 0.5, which is of all detections, would rise "
        "if all errors of a kind were repaired (TIDE, Bolya et al. 2020).</p>"
    )
    return note + table("", ["Kind", "Errors", "Gain", "What it is"], rows, {3})


def _points(gain):
    return f"{100 * gain:+.1f}" if round(100 * gain, 1) else "0.0"


def _curves(evaluation):
    scores = evaluation.judged
    known = [k for k, row in enumerate(scores.per_class) if row["boxes"]]
    known.sort(key=lambda k: scores.per_class[k]["ap"])

    def drawn(title, at_half, mean, ap50, ap):
        lines = [
            Line(f"IoU 0.5: {percent(ap50)}", 0, [*zip(RECALLS, at_half, strict=True)]),
            Line(f"mean of IoUs: {percent(ap)}", 1, [*zip(RECALLS, mean, strict=True)]),
        ]
        return precision_recall(title, lines)

    metrics, charts = scores.metrics, []
    if len(known) > 1:
        whole = scores.precision50[known].mean(axis=0), scores.precision[known].mean(axis=0)
        charts.append(drawn("All classes", *whole, metrics["ap50"], metrics["ap"]))
    for k in known[:CURVES]:
        row = scores.per_class[k]
        curves = scores.precision50[k], scores.precision[k]
        title = printable(str(evaluation.images.class_names[k]))
        charts.append(drawn(title, *curves, row["ap50"], row["ap"]))
    shown = f"The {CURVES} worst of {len(known):,} classes. " * (len(known) > CURVES)
    note = "Blue at IoU 0.5, orange the mean of IoUs 0.5, 0.55 ... 0.95, with the areas below them."
    return f'<p>{shown}{note}</p><div class="charts">{"".join(charts)}</div>'


def _worst_images(evaluation):
    """Ground truth beside detections of the images with the lowest F1."""
    errors, images = evaluation.errors, evaluation.images
    order = np.lexsort([-errors.mistakes, errors.f1])
    worst = order[errors.mistakes[order] > 0][:PICTURES].tolist()
    if not worst:
        return "<p>None: every box is found, and nothing else.</p>"
    ends = np.cumsum([len(one["scores"]) for one in evaluation.detections])
    pictures, classes = [], set()
    for i in worst:
        rows = slice(images.starts[i], images.starts[i + 1])
        said = slice(ends[i] - len(evaluation.detections[i]["scores"]), ends[i])
        pair, shown = _pair(evaluation, i, rows, said)
        classes.update(shown)
        pictures.append((pair, _caption(evaluation, i, said, rows)))
    masked = evaluation.mask_scores is not None
    kind, true = evaluation.judged.kind, "boxes and masks" if masked else "boxes"
    keys = "".join(
        box_key(printable(str(images.class_names[k])), k) for k in sorted(classes)[:KEYS]
    )
    note = (
        f"Of {np.sum(errors.mistakes > 0):,} images with errors those with the lowest F1 = 2 * "
        f"right / ({kind} + detections), then with most errors. First the true {true}, those "
        "not found dashed; then the detections with their scores in %, wrong ones dashed."
    )
    return f'<p>{note}</p><p class="keys">{keys}</p>{picture_grid(pictures, "pictures drawings")}'


def _pair(evaluation, i, rows, said):
    """Two drawings of image `i`, and the classes that are in them."""
    images, errors, one = evaluation.images, evaluation.errors, evaluation.detections[i]
    names = [printable(str(name)) for name in images.class_names]
    image = np.asarray(images.read(tf.constant(i, tf.int64)))
    true_classes = images.classes[rows].tolist()
    labels = [
        f"{names[k]} (crowd)" if crowd else names[k]
        for k, crowd in zip(true_classes, images.crowd[rows], strict=True)
    ]
    given = {"dashed": errors.unfound[rows], "side": SIDE}
    if evaluation.mask_scores:
        given["masks"] = images.masks[rows]
    truth = draw_boxes(image, images.boxes[rows], true_classes, labels, **given)
    kept = np.flatnonzero(one["scores"] >= errors.threshold)
    kept = kept[np.argsort(-one["scores"][kept], kind="stable")]
    classes = one["classes"][kept].tolist()
    percents = 100 * one["scores"][kept]
    labels = [f"{names[k]} {score:.0f}" for k, score in zip(classes, percents, strict=True)]
    given = {"dashed": errors.kinds[said][kept] >= 0, "side": SIDE}
    if "masks" in one:
        given["masks"] = [one["masks"][k] for k in kept]
    answer = draw_boxes(image, one["boxes"][kept], classes, labels, **given)
    pair = drawing(truth, f"test image {i}, its boxes")
    return pair + drawing(answer, f"test image {i}, detections"), {*true_classes, *classes}


def _caption(evaluation, i, said, rows):
    errors, images = evaluation.errors, evaluation.images
    wrong = int(np.sum(errors.kinds[said] >= 0))
    text = f"F1 <b>{errors.f1[i]:.2f}</b>, {wrong} wrong, {errors.unfound[rows].sum()} not found"
    if images.files is not None:
        path = pathlib.Path(images.files[i])
        short = escape("/".join(path.parts[-2:]))
        text += f'<br><span title="{escape(str(path))}">{short}</span>'
    return text
