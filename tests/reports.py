"""Reports for tests: an HTML parser that reads them back, and made-up results to show in them."""

import csv
import html.parser
import json
import os

import numpy as np
import tensorflow as tf

from bit_keras import reporting
from bit_keras.classification.answers import Evaluation
from bit_keras.data import LabeledImages

VOID = {"meta", "img", "br"}
HISTORY = [
    {"step": 50, "loss": 2.0, "learning_rate": 0.003},
    {"step": 100, "test_accuracy": 0.5, "test_loss": 1.5},
    {"step": 100, "loss": 1.0, "learning_rate": 0.003},
    {"step": 200, "test_accuracy": 0.75, "test_loss": 1.25},
]


class Page(html.parser.HTMLParser):
    """Elements with their attributes and the text inside them, in the order they close."""

    def __init__(self, path):
        super().__init__()
        self.size = path.stat().st_size
        self.elements, self._open = [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        (self.elements if tag in VOID else self._open).append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        element = self._open.pop()
        assert element["tag"] == tag
        self.elements.append(element)

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data.replace("\N{NO-BREAK SPACE}", " ")

    def charts(self):
        return [svg for svg in self.all("svg") if svg.get("role") == "img"]

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]

    def texts(self, tag):
        return [element["text"] for element in self.all(tag)]

    def body_rows(self, heading):
        """The cells of the table rows below a heading."""
        rows, row, current = [], [], ""
        for element in self.elements:
            if element["tag"] == "h2":
                current = element["text"]
            if current != heading:
                continue
            if element["tag"] in ("td", "th"):
                row.append(element["text"])
            elif element["tag"] == "tr":
                rows, row = [*rows, row], []
            elif element["tag"] == "thead":
                rows = []
        return rows


def outcome(num_classes, count, seed=0):
    """Labels and probabilities of a model that is often, but not always, right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=count)
    logits = rng.standard_normal((count, num_classes))
    logits[np.arange(count), labels] += 2.0
    probabilities = np.exp(logits)
    return labels, (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32)


def gray(i):
    """A test image whose color tells its number."""
    return np.full((8, 8, 3), i % 251, np.uint8)


def images_of(labels, class_names, read=gray):
    """Labeled images that `read` makes; for eager use only."""
    return LabeledImages("some", labels, class_names, (8, 8), lambda i: tf.constant(read(int(i))))


def evaluated(labels, probabilities, class_names, read=gray, **changes):
    """An evaluation of a model with these probabilities, of images that `read` makes."""
    images = images_of(labels, class_names, read)
    odds = (1 - probabilities) if images.multi_label else 1
    return Evaluation(images, np.log(probabilities / odds).astype(np.float32), **changes)


def few_shot_rows(seed, method="fine-tuning", shots=(1, 5, 10, 25, "full"), seeds=3):
    """Results of runs on 1, 5, ... images per class, and on all 137."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in shots:
        each = 137.5 if number == "full" else number
        for k in range(seeds):
            accuracy = 1 - 0.6 / each**0.4 - 0.1 * rng.random()
            row = {"method": method, "shots": number, "seed": k, "examples_per_class": each}
            rows.append({**row, "accuracy": accuracy})
    return rows


def run_folder(path, *, config, metrics=None, history=(), results=(), per_class=None):
    """A folder as a run leaves it."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    if metrics is not None:
        (path / "metrics.json").write_text(json.dumps(metrics))
    for name, rows in (("metrics.jsonl", history), ("results.jsonl", results)):
        if rows:
            (path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if per_class:
        with open(path / "per_class.csv", "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["class", "images", "correct", "recall", "precision"])
            rows.writerows([name, 10, 5, value, 0.5] for name, value in per_class.items())
    return path


def report(path, **changes):
    arguments = {
        "title": "a model",
        "settings": {"seed": 0},
        "history": HISTORY,
        "metrics": {"steps": 200, "seconds": 4520.4},
    }
    reporting.write_report(path / "report.html", **arguments | changes)
    assert os.listdir(path) == ["report.html"]
    return Page(path / "report.html")
