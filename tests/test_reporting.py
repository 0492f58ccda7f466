"""The report of a run, read back with an HTML parser that knows nothing of how it was written."""

import base64
import html.parser
import io
import math
import os
import re

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from PIL import Image

from bit_keras import reporting

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
    """A test image whose colour tells its number."""
    return np.full((8, 8, 3), i % 251, np.uint8)


def report(path, **changes):
    arguments = {
        "title": "a model",
        "settings": {"seed": 0},
        "history": HISTORY,
        "metrics": {"steps": 200, "seconds": 4520.4},
        "labels": None,
        "probabilities": None,
        "class_names": [],
        "read_image": None,
    }
    reporting.write_report(path / "report.html", **arguments | changes)
    assert os.listdir(path) == ["report.html"]
    return Page(path / "report.html")


def test_one_file_without_script_or_network(tmp_path):
    labels, probabilities = outcome(5, 100)
    page = report(
        tmp_path,
        labels=labels,
        probabilities=probabilities,
        class_names="abcde",
        read_image=gray,
    )
    assert not {"script", "link", "iframe", "object"} & {e["tag"] for e in page.elements}
    for element in page.elements:
        assert "href" not in element
        assert element.get("src", "data:image/").startswith("data:image/")
        assert not [name for name in element if name.startswith("on")]
        assert not re.search(r"url\(|@import", element.get("style", ""))
    assert not re.search(r"url\(|@import", "".join(page.texts("style")))
    assert any(e.get("name") == "viewport" for e in page.all("meta"))
    assert page.texts("h2") == [
        "Training",
        "Confusions",
        "Most confident mistakes",
        "Classes, worst first",
        "Environment",
        "Settings",
    ]


@pytest.mark.parametrize("copies", [1, 20], ids=["matrix", "pairs"])
def test_names_are_text_and_never_markup(tmp_path, copies):
    nasty = """<b>&"'>"""
    names = [f"{nasty}{k}" for k in range(3 * copies)]
    labels, probabilities = outcome(len(names), 200)
    page = report(
        tmp_path,
        title=nasty,
        settings={"command": ["bit-finetune", nasty], nasty: {"in": [nasty, 1]}},
        history=[{"step": step, nasty: step} for step in (1, 2)],
        labels=labels,
        probabilities=probabilities,
        class_names=names,
        read_image=gray,
    )
    assert page.texts("h1") == page.texts("title") == [nasty]
    assert all(nasty in row[0] for row in page.body_rows("Confusions"))
    assert {row[0] for row in page.body_rows("Classes, worst first")} == set(names)
    assert {nasty + str(labels[i]) for i in range(200)} >= {
        image["alt"].split("true class ")[1] for image in page.all("img")
    }
    assert [f"{nasty}.in", f"{nasty}, 1"] in page.body_rows("Settings")
    assert page.texts("pre")[0].startswith("bit-finetune ")


def test_a_folder_name_that_is_not_unicode_does_not_lose_the_report(tmp_path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    page = report(tmp_path, settings={"path": name})
    assert ["path", "caf?"] in page.body_rows("Settings")


def test_confusion_matrix_counts(tmp_path):
    labels, probabilities = outcome(7, 300)
    labels[labels == 3] = 2  # one class without images
    page = report(tmp_path, labels=labels, probabilities=probabilities, class_names="abcdefg")
    rows = page.body_rows("Confusions")
    assert [row[0] for row in rows] == list("abcdefg")
    found = [[int(cell or 0) for cell in row[1:]] for row in rows]
    expected = sklearn.metrics.confusion_matrix(
        labels, probabilities.argmax(1), labels=np.arange(7)
    )
    np.testing.assert_array_equal(found, expected)


def test_per_class_table(tmp_path):
    labels, probabilities = outcome(7, 300)
    labels[labels == 3] = 2
    page = report(tmp_path, labels=labels, probabilities=probabilities, class_names="abcdefg")
    said = probabilities.argmax(1)
    rows = page.body_rows("Classes, worst first")
    assert sorted(row[0] for row in rows) == list("abcdefg")
    assert rows[-1][:4] == ["d", "0", "0", "\N{EN DASH}"]
    recalls = [float(row[3].removesuffix(" %")) for row in rows[:-1]]
    assert recalls == sorted(recalls)
    for name, images, correct, recall, precision in rows[:-1]:
        k = "abcdefg".index(name)
        hits = np.sum((labels == k) & (said == k))
        assert int(images) == np.sum(labels == k)
        assert int(correct) == hits
        assert recall == f"{100 * hits / np.sum(labels == k):.1f} %"
        assert precision == f"{100 * hits / np.sum(said == k):.1f} %"


def test_the_most_confident_mistakes_are_shown(tmp_path):
    labels, probabilities = outcome(10, 250)
    page = report(
        tmp_path,
        labels=labels,
        probabilities=probabilities,
        class_names=[f"class {k}" for k in range(10)],
        read_image=gray,
    )
    wrong = [i for i in range(250) if probabilities[i].argmax() != labels[i]]
    expected = sorted(wrong, key=lambda i: -probabilities[i].max())[:24]
    assert len(wrong) > 24
    shown = []
    for image in page.all("img"):
        data = base64.b64decode(image["src"].split("base64,")[1])
        shown.append(int(np.asarray(Image.open(io.BytesIO(data)))[0, 0, 0]))
    assert shown == expected
    captions = [text for text in page.texts("figcaption") if text.startswith("true")]
    assert captions == [
        f"true class {labels[i]}, said class {probabilities[i].argmax()}, "
        f"{100 * probabilities[i].max():.0f} %"
        for i in expected
    ]


def test_photos_become_small_pictures(tmp_path):
    labels, probabilities = outcome(10, 100)
    rng = np.random.default_rng(0)
    noise = rng.integers(256, size=(100, 300, 200, 3), dtype=np.uint8)  # what compresses worst
    page = report(
        tmp_path,
        labels=labels,
        probabilities=probabilities,
        class_names=range(10),
        read_image=noise.__getitem__,
    )
    for image in page.all("img"):
        data = base64.b64decode(image["src"].split("base64,")[1])
        assert Image.open(io.BytesIO(data)).size == (85, 128)
    assert len(page.all("img")) == 24
    assert page.size < 1e6


def test_a_flawless_model_has_no_mistakes_section(tmp_path):
    page = report(
        tmp_path,
        labels=np.arange(3),
        probabilities=np.eye(3, dtype=np.float32),
        class_names="abc",
        read_image=gray,
    )
    assert "Most confident mistakes" not in page.texts("h2")
    assert not page.all("img")


def test_without_test_images(tmp_path):
    page = report(tmp_path)
    assert page.texts("h2") == ["Training", "Environment", "Settings"]
    assert page.texts("dt") == ["Steps", "Time"]
    assert page.texts("dd") == ["200", "1 h 15 min"]


def test_many_classes_get_pairs_for_a_matrix(tmp_path):
    labels, probabilities = outcome(200, 2000)
    names = [f"class {k}" for k in range(200)]
    page = report(tmp_path, labels=labels, probabilities=probabilities, class_names=names)
    counts = sklearn.metrics.confusion_matrix(labels, probabilities.argmax(1))
    np.fill_diagonal(counts, 0)
    rows = page.body_rows("Confusions")
    assert [int(row[1]) for row in rows] == sorted(counts.ravel(), reverse=True)[: len(rows)]
    for pair, count, share in rows:
        true, said = (int(name.removeprefix("class ")) for name in pair.split(" → "))
        assert counts[true, said] == int(count)
        assert share == f"{100 * int(count) / np.sum(labels == true):.1f} %"
    assert len(page.body_rows("Classes, worst first")) == 200


@pytest.mark.parametrize("hits", [0, 1, 90, 100])
def test_headline_has_the_wilson_interval(tmp_path, hits):
    metrics = {"accuracy": hits / 100, "top5_accuracy": 0.99, "loss": 0.25, "num_test": 100}
    page = report(tmp_path, metrics=metrics)
    interval = scipy.stats.binomtest(hits, 100).proportion_ci(0.95, method="wilson")
    assert page.texts("dt") == ["Accuracy", "Top-5 accuracy", "Loss", "Test images"]
    assert page.texts("dd") == [
        f"{hits}.0 %",
        f"95 % interval{100 * interval.low:.1f} to {100 * interval.high:.1f} %",
        "99.0 %",
        "0.25",
        "100",
    ]


def test_curves_pass_through_their_numbers(tmp_path):
    page = report(tmp_path)
    charts = [svg["aria-label"] for svg in page.all("svg")]
    assert charts == ["Loss by step", "Learning rate by step", "Accuracy by step"]
    assert page.texts("figcaption") == [
        "Losstraining 1test 1.25",
        "Learning ratetraining 0.003",
        "Accuracytest 75 %",
    ]
    lines = [
        [tuple(map(float, point.split(","))) for point in line["points"].split()]
        for line in page.all("polyline")
    ]
    (loss, test_loss, rate, _) = (sorted(line) for line in lines)
    assert loss[0][0] < loss[1][0] == test_loss[0][0] < test_loss[1][0]  # steps 50, 100, 100, 200
    assert loss[0][1] < test_loss[0][1] < test_loss[1][1] < loss[1][1]  # down is less in SVG
    assert rate[0][1] == rate[1][1]
    # One scale for both lines: 2.0 to 1.0 is twice as far as 1.5 to 1.0.
    assert loss[1][1] - loss[0][1] == pytest.approx(2 * (loss[1][1] - test_loss[0][1]), abs=0.2)


def test_odd_histories(tmp_path):
    assert report(tmp_path, history=[]).texts("h2")[0] == "Environment"
    assert report(tmp_path, history=HISTORY[:1]).texts("h2")[0] == "Environment"  # no line yet
    history = [{"step": k, "loss": 0.0 if k % 2 else math.nan, "note": "x"} for k in range(9000)]
    page = report(tmp_path, history=history)
    (line,) = page.all("polyline")
    assert "nan" not in line["points"]
    assert len(line["points"].split()) <= 400
    assert len(page.all("svg")) == 1


def test_misfits_are_named_and_the_old_report_stays(tmp_path):
    report(tmp_path, title="the old one")
    labels, probabilities = outcome(5, 20)
    with pytest.raises(ValueError, match=r"\[20, 4\], got \[20, 5\]"):
        report(tmp_path, labels=labels, probabilities=probabilities, class_names="abcd")
    assert Page(tmp_path / "report.html").texts("h1") == ["the old one"]
