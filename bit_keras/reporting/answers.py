"""What a model got right and wrong, class by class and image by image. Names are HTML here."""

import base64
import io
from collections import Counter

import numpy as np

from .charts import reliability
from .page import percent, table

MATRIX_CLASSES = 40  # with more classes, a table of pairs is read more easily than the matrix
MISTAKES = 24
PAIRS = 25
CLASS_ROWS = 1000
THUMBNAIL = 128  # pixels, the longer side


def one_label_sections(labels, predictions, probabilities, confidence, names, read_image):
    """Of images with one class each, int [N]; the prediction -1 is a class without a name.

    Probabilities, [N], are the prediction's, as is confidence, given that one class is there; None
    is the same.
    """
    said = [*names, "another class"]  # which -1 finds
    right = labels == predictions
    confused = confusion_matrix if len(names) <= MATRIX_CLASSES else confused_pairs
    count = f"The model is wrong on {np.sum(~right):,} of {len(labels):,} test images"

    def caption(i):
        return names[labels[i]], said[predictions[i]]

    note = ""
    if confidence is None:
        confidence = probabilities
    else:
        note = "<p>Confidence is the probability given that an image has just one class.</p>"
    shown = mistakes(count, ~right, probabilities, caption, read_image)
    return [
        ("Confusions", confused(labels, predictions, said)),
        ("Calibration", note + reliability(confidence, right)),
        ("Most confident mistakes", shown),
        ("Classes, worst first", recall_table(labels, predictions, names)),
    ]


def several_label_sections(labels, probabilities, averages, names, read_image):
    """Of images with any number of classes each, bool [N, K]."""
    false = np.where(labels, 0, probabilities)
    confidence, predictions = false.max(axis=1), false.argmax(axis=1)
    wrong = confidence > 0.5
    count = f"{np.sum(wrong):,} of {len(labels):,} test images lack a class that the model says"

    def caption(i):
        true = ", ".join(names[k] for k in np.flatnonzero(labels[i])) or "none"
        return true, names[predictions[i]]

    shown = mistakes(count, wrong, confidence, caption, read_image)
    return [
        ("Most confident mistakes", shown),
        ("Classes, worst first", precision_table(labels, probabilities, averages, names)),
    ]


def confusion_matrix(labels, predictions, said):
    from sklearn import metrics

    classes = len(said) - 1
    columns = [*range(classes), *([-1] if (predictions < 0).any() else [])]
    counts = metrics.confusion_matrix(labels, predictions, labels=[*range(classes), -1])[:classes]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def cell(true, predicted):
        if not counts[true, predicted]:
            return "<td></td>"
        share = shares[true, predicted]
        kind = "right" if true == predicted else "wrong"
        return (
            f'<td class="{kind}" style="--share:{share:.2f}" '
            f'title="true {said[true]}, said {said[predicted]}">{counts[true, predicted]}</td>'
        )

    rows = [
        [f"<th>{said[true]}</th>", *(cell(true, k) for k in columns)] for true in range(classes)
    ]
    header = ["", *(f"<span>{said[k]}</span>" for k in columns)]
    kind = "matrix tall" if max(len(said[k]) for k in columns) > 4 else "matrix"
    return (
        "<p>A row is a true class, a column what the model said. "
        '<span class="blue">Right</span> and <span class="orange">wrong</span>, the stronger the '
        f"larger the share of the row.</p>{table(kind, header, rows)}"
    )


def confused_pairs(labels, predictions, said):
    wrong = labels != predictions
    pairs = Counter(zip(labels[wrong].tolist(), predictions[wrong].tolist(), strict=True))
    images = np.bincount(labels)
    rows = [
        [
            f"<th>{said[true]} → {said[predicted]}</th>",
            f"<td>{count:,}</td>",
            f"<td>{percent(count / images[true])}</td>",
        ]
        for (true, predicted), count in pairs.most_common(PAIRS)
    ]
    return table("", ["Most frequent: true → said", "Images", "Of the class"], rows) if rows else ""


def mistakes(count, wrong, confidence, caption, read_image):
    """Pictures of the most confident; `caption` tells (the true class, what the model said)."""
    images = np.flatnonzero(wrong)
    if read_image is None or not len(images):
        return ""
    worst = images[np.argsort(-confidence[images], kind="stable")][:MISTAKES].tolist()
    figures = []
    for i in worst:
        true, said = caption(i)
        figures.append(
            f"<figure>{thumbnail(read_image(i), f'test image {i}, true class {true}')}"
            f"<figcaption>true <b>{true}</b>, said <b>{said}</b>, "
            f"{percent(confidence[i], 0)}</figcaption></figure>"
        )
    shown = f"; its {len(worst)} most confident mistakes are shown" * (len(worst) < len(images))
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


def recall_table(labels, predictions, names):
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, _, images = precision_recall_fscore_support(
        labels, predictions, labels=range(len(names)), zero_division=np.nan
    )
    right = np.bincount(labels[labels == predictions], minlength=len(names))
    columns = {"Images": images, "Correct": right, "Recall": recall, "Precision": precision}
    return class_table(names, columns, "Recall")


def precision_table(labels, probabilities, averages, names):
    said = probabilities > 0.5
    right, images, found = (answers.sum(axis=0) for answers in (labels & said, labels, said))
    with np.errstate(invalid="ignore"):
        recall, precision = right / images, right / found
    columns = {
        "Images": images,
        "Average precision": np.array(averages, float),  # None is NaN
        "Recall at 0.5": recall,
        "Precision at 0.5": precision,
    }
    return class_table(names, columns, "Average precision")


def class_table(names, columns, measure):
    """Columns of counts and shares, int and float [K], by one of them; NaN goes last."""

    def cell(header, value):
        if isinstance(value, np.integer):
            return f"<td>{value:,}</td>"
        bar = f' class="bar" style="--share:{np.nan_to_num(value):.3f}"' * (header == measure)
        return f"<td{bar}>{percent(value)}</td>"

    order = np.lexsort((-columns["Images"], columns[measure]))[:CLASS_ROWS]
    rows = [
        [f"<th>{names[k]}</th>", *(cell(header, values[k]) for header, values in columns.items())]
        for k in order
    ]
    shown = f"<p>The worst {CLASS_ROWS:,} of {len(names):,}.</p>" * (len(names) > CLASS_ROWS)
    return shown + table("", ["Class", *columns], rows)
