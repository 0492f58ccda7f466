"""The report of a run, read back with an HTML parser that knows nothing of how it was written."""

import base64
import csv
import html.parser
import io
import json
import math
import os
import platform
import re

import numpy as np
import pytest
import scipy.sparse
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


def few_shot_rows(seed, method="fine-tuning", shots=(1, 5, 10, 25, "full"), seeds=3):
    """Results of runs on 1, 5, ... images a class, and on all 137."""
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
        "Calibration",
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
    assert page.texts("h1") == page.texts("title")[:1] == [nasty]
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
    charts = [svg["aria-label"] for svg in page.charts()]
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
    assert len(page.charts()) == 1


def test_misfits_are_named_and_the_old_report_stays(tmp_path):
    report(tmp_path, title="the old one")
    labels, probabilities = outcome(5, 20)
    with pytest.raises(ValueError, match=r"\[20, 4\], got labels \[20\] and .* \[20, 5\]"):
        report(tmp_path, labels=labels, probabilities=probabilities, class_names="abcd")
    assert Page(tmp_path / "report.html").texts("h1") == ["the old one"]


def places(element):
    return [tuple(map(float, point.split(","))) for point in element["points"].split()]


def test_few_shot_plot_and_table(tmp_path):
    rows = few_shot_rows(0) + few_shot_rows(1, "probe", seeds=2)
    page = report(tmp_path, history=(), few_shot=rows)
    values = {}
    for row in rows:
        values.setdefault((str(row["shots"]), row["method"]), []).append(row["accuracy"])
    expected = [
        [shots, method, *(f"{100 * f(own):.1f} %" for f in (np.median, min, max)), str(len(own))]
        for shots in ("1", "5", "10", "25", "full")
        for method in ("fine-tuning", "probe")
        for own in [values[shots, method]]
    ]
    assert page.body_rows("Accuracy by examples a class") == expected
    (chart,) = page.charts()
    assert chart["aria-label"] == "Accuracy by examples a class"
    assert [t for t in ("1", "5", "10", "25", "full") if t in page.texts("text")][-1] == "full"
    lines, bands = page.all("polyline"), page.all("polygon")
    assert len(lines) == len(bands) == 2
    x, y = np.transpose(places(lines[0]))
    per_pixel = np.diff(x) / np.diff(np.log([1, 5, 10, 25, 137.5]))
    np.testing.assert_allclose(per_pixel, per_pixel[0], atol=0.2)
    medians = [np.median(values[row[0], "fine-tuning"]) for row in expected[::2]]
    slope, origin = np.polyfit(medians, y, 1)
    np.testing.assert_allclose(y, slope * np.array(medians) + origin, atol=0.1)
    ends = [values[row[0], "fine-tuning"] for row in expected[::2]]
    edge = [min(own) for own in ends] + [max(own) for own in ends][::-1]
    band_x, band_y = np.transpose(places(bands[0]))
    np.testing.assert_allclose(band_x, [*x, *x[::-1]])
    np.testing.assert_allclose(band_y, slope * np.array(edge) + origin, atol=0.1)


def test_few_shot_lines_of_several_series(tmp_path):
    few_shot = {
        "a": few_shot_rows(0, shots=["full"]),
        "b": few_shot_rows(1, shots=[25, "full"]),
        "none": [],
        "c": few_shot_rows(2, "probe", shots=[3]),
    }
    page = report(tmp_path, history=(), few_shot=few_shot)
    rows = page.body_rows("Accuracy by examples a class")
    assert [row[:2] for row in rows] == [
        ["3", "c, probe"],
        ["25", "b, fine-tuning"],
        ["full", "a, fine-tuning"],
        ["full", "b, fine-tuning"],
    ]
    assert len({line["class"] for line in page.all("polyline")}) == 3


def test_few_shot_picture(tmp_path):
    file = tmp_path / "few_shot.png"
    rows = few_shot_rows(0) + few_shot_rows(1, "probe")
    reporting.few_shot_picture(file, {"$_{a run": rows})
    with Image.open(file) as image:
        assert image.size == (1400, 900)
        colors = {color for count, color in image.convert("RGB").getcolors(1 << 20)}
    assert {(0x00, 0x62, 0xA0)} < colors
    before = file.read_bytes()
    with pytest.raises(ValueError, match="one result or more, got none"):
        reporting.few_shot_picture(file, [])
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["few_shot.png"]


@pytest.mark.parametrize("given", [False, True])
def test_calibration_dots_are_the_bins(tmp_path, given):
    labels, probabilities = outcome(4, 500)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    if given:  # while the probabilities shown are others
        probabilities = probabilities / 3
    page = report(
        tmp_path,
        labels=labels,
        probabilities=probabilities,
        confidence=confidence if given else None,
        class_names="abcd",
        read_image=gray,
    )
    surest = 100 * probabilities.max(1)[~right].max()
    assert page.texts("figcaption")[-24].endswith(f", {surest:.0f} %")
    assert any("has just one class" in text for text in page.texts("p")) == given
    expected = []
    for k in range(15):
        own = (confidence >= k / 15) & (confidence < (k + 1) / 15)
        if own.any():
            expected.append((confidence[own].mean(), right[own].mean(), own.sum()))
    dots = [circle for circle in page.all("circle") if "bin" in circle["class"]]
    assert [dot["text"] for dot in dots] == [
        f"{images} images, right {100 * share:.1f} %" for _, share, images in expected
    ]
    areas = [(float(dot["r"]) - 2) ** 2 for dot in dots]  # beyond the least
    drawn = np.transpose([[float(dot["cx"]), float(dot["cy"])] for dot in dots])
    for found, values, off in zip(
        [*drawn, areas], np.transpose(expected), (0.1, 0.1, 2), strict=True
    ):
        fit = np.polyval(np.polyfit(values, found, 1), values)
        np.testing.assert_allclose(found, fit, atol=off)


def test_answers_that_no_class_of_the_data_stands_for(tmp_path):
    labels, probabilities = outcome(5, 200)  # the model's classes: 0, 1, 2 are the data's
    labels %= 3
    predictions = np.where(probabilities.argmax(1) < 3, probabilities.argmax(1), -1)
    page = report(
        tmp_path,
        labels=labels,
        probabilities=probabilities,
        predictions=predictions,
        class_names="abc",
        read_image=gray,
    )
    found = [[int(cell or 0) for cell in row[1:]] for row in page.body_rows("Confusions")]
    expected = [
        [np.sum((labels == true) & (predictions == said)) for said in (0, 1, 2, -1)]
        for true in range(3)
    ]
    assert found == expected
    recalls = {row[0]: row[3] for row in page.body_rows("Classes, worst first")}
    assert recalls == {
        name: f"{100 * counts[k] / sum(counts):.1f} %"
        for k, (name, counts) in enumerate(zip("abc", expected, strict=True))
    }
    confidence = probabilities.max(1)
    first = max(np.flatnonzero(predictions != labels), key=confidence.__getitem__)
    said = [*"abc", "another class"][predictions[first]]
    assert page.texts("figcaption")[-24] == (
        f"true {'abc'[labels[first]]}, said {said}, {100 * confidence[first]:.0f} %"
    )


def test_images_of_several_classes(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.random((200, 4)) < [0.2, 0.4, 0.6, 0]
    probabilities = np.clip(0.4 * truth + 0.7 * rng.random((200, 4)), 0, 1)
    precisions = [0.875, 0.5, 0.75, None]
    page = report(
        tmp_path,
        metrics={"mean_average_precision": 0.75, "loss": 1.0, "num_test": 200},
        labels=scipy.sparse.csr_array(truth),
        probabilities=probabilities,
        average_precisions=precisions,
        class_names="abcd",
        read_image=gray,
    )
    assert page.texts("dt") == ["Mean average precision", "Loss", "Test images"]
    assert {"Confusions", "Calibration"}.isdisjoint(page.texts("h2"))
    rows = page.body_rows("Classes, worst first")
    assert rows[-1][:3] == ["d", "0", "\N{EN DASH}"]
    assert [row[:3:2] for row in rows[:-1]] == [["b", "50.0 %"], ["c", "75.0 %"], ["a", "87.5 %"]]
    for name, images, _, recall, precision in rows[:-1]:
        true, sure = truth[:, "abcd".index(name)], probabilities[:, "abcd".index(name)]
        assert int(images) == true.sum()
        assert recall == f"{100 * (sure[true] > 0.5).mean():.1f} %"
        assert precision == f"{100 * true[sure > 0.5].mean():.1f} %"
    false = np.where(truth, 0, probabilities)
    first = int(false.max(1).argmax())
    true = ", ".join("abcd"[k] for k in np.flatnonzero(truth[first])) or "none"
    assert page.texts("figcaption")[-24] == (
        f"true {true}, said {'abcd'[false[first].argmax()]}, {100 * false[first].max():.0f} %"
    )


def test_new_figures_and_tables(tmp_path):
    page = report(
        tmp_path,
        history=(),
        metrics={"accuracy": 0.5, "calibration_error": 0.1234, "mean_per_class_accuracy": 0.25},
        tables={
            "Tasks & <more>": (("task", "<score>"), [("<b>", 0.5), ("other", "-")]),
            "No": ((), []),
        },
    )
    assert page.texts("dt") == ["Accuracy", "Mean per-class accuracy", "Calibration error (ECE)"]
    assert page.texts("dd") == ["50.0 %", "25.0 %", "12.3 %"]
    assert page.body_rows("Tasks & <more>") == [["<b>", "0.5"], ["other", "-"]]
    assert [
        "Processor",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
    ] in (page.body_rows("Environment"))


def comparison(path, *runs):
    reporting.write_comparison(path / "comparison.html", runs)
    return Page(path / "comparison.html")


def test_comparison_of_metrics_and_settings(tmp_path):
    page = comparison(
        tmp_path,
        run_folder(
            tmp_path / "one" / "run",
            config={"model": "A", "rule": {"steps": 5, "lr": 0.1}, "class_names": list("abcdefg")},
            metrics={"accuracy": 0.9, "loss": 0.5, "steps": 5, "remark": "<b>"},
        ),
        run_folder(
            tmp_path / "two" / "run",
            config={"model": "A", "rule": {"steps": 5, "lr": 0.3}, "class_names": list("ab")},
            metrics={"accuracy": 0.8765, "loss": 0.25, "steps": 9, "calibration_error": 0.1},
        ),
        run_folder(
            tmp_path / "<b>&'",
            config={"model": "A", "rule": {"steps": 5}, "class_names": list("ab")},
            history=[{"step": 1200, "loss": 1.0}],
        ),
    )
    header = [os.path.join("one", "run"), os.path.join("two", "run"), "<b>&'"]
    assert [text for text in page.texts("th") if text in header] == header * 2
    dash = "\N{EN DASH}"
    assert page.body_rows("Metrics") == [
        ["State", "finished", "finished", "unfinished, at step 1,200"],
        ["Accuracy", "90.00 %", "87.65 % \N{MINUS SIGN}2.35", dash],
        ["Loss", "0.5 +0.25", "0.25", dash],
        ["Steps", "5", "9", dash],
        ["Remark", "<b>", dash, dash],
        ["Calibration error (ECE)", dash, "10.00 %", dash],
    ]
    best = [cell["text"] for cell in page.all("td") if cell.get("class") == "best"]
    assert best == ["90.00 %", "0.25"]
    assert page.body_rows("Settings that differ") == [
        ["rule.lr", "0.1", "0.3", dash],
        ["class_names", "a, b, c, d, e … (7 in all)", "a, b", "a, b"],
    ]
    assert page.texts("h2") == ["Metrics", "Settings that differ"]


def test_comparison_of_curves_tasks_and_classes(tmp_path):
    group = {"cifar100": "natural", "dtd": "natural", "eurosat": "specialized"}
    accuracies = [{"cifar100": 0.5, "dtd": 0.7, "eurosat": 0.9}, {"cifar100": 0.6, "eurosat": 0.8}]
    recalls = [{"a": 0.5, "b": 0.5, "<c>": 1.0}, {"<c>": 0.9, "b": 0.5, "a": 0.9}, {"a": 0.1}]
    runs = [
        run_folder(
            tmp_path / f"run{k}",
            config={},
            metrics={"accuracy": 0.5, **tasks},
            history=[{"step": s, "loss": 1.0, "test_accuracy": k / s} for s in (1, 2)],
            results=[
                *few_shot_rows(k, shots=[1, 5]),
                *({"task": t, "group": group[t], "accuracy": a} for t, a in tasks.items()),
            ],
            per_class=recall,
        )
        for k, (tasks, recall) in enumerate(zip([*accuracies, {}], recalls, strict=True))
    ]
    with open(runs[0] / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "lo')  # the machine went down
    page = comparison(tmp_path, *runs)
    assert [chart["aria-label"] for chart in page.charts()] == [
        "Accuracy by examples a class",
        "Loss by step",
        "Test accuracy by step",
    ]
    assert [line["class"] for line in page.all("polyline")] == ["c0 d0", "c1 d0", "c2 d0"] * 3
    dash, minus = "\N{EN DASH}", "\N{MINUS SIGN}"
    assert page.body_rows("Metrics") == [["Accuracy", *["50.00 %"] * 3]]
    assert page.body_rows("Tasks") == [
        ["All 3 tasks, mean", "70.00 %", dash, dash],
        ["Natural, mean of 2", "60.00 %", dash, dash],
        ["cifar100", f"50.00 % {minus}10.00", "60.00 %", dash],
        ["dtd", "70.00 %", dash, dash],
        ["Specialized, mean of 1", "90.00 %", f"80.00 % {minus}10.00", dash],
        ["eurosat", "90.00 %", f"80.00 % {minus}10.00", dash],
    ]
    assert page.body_rows("Recall by class, largest differences first") == [
        ["a", f"50.00 % {minus}40.00", "90.00 %"],
        ["<c>", "100.00 %", f"90.00 % {minus}10.00"],
        ["b", "50.00 %", "50.00 %"],
    ]
    methods = [row[1] for row in page.body_rows("Accuracy by examples a class")]
    assert methods == [f"run{k}, fine-tuning" for k in range(3)] * 2


def test_comparison_of_many_classes_and_namesakes(tmp_path):
    runs = []
    for k in range(2):
        runs.append(run_folder(tmp_path / str(k), config={}, metrics={}))
        lines = [f"crane,{k * i / 200},,," for i in range(150)]
        text = "\n".join(["class,average_precision,images,recall,precision", *lines])
        (runs[k] / "per_class.csv").write_text(text)
    rows = comparison(tmp_path, *runs).body_rows(
        "Average precision by class, largest differences first"
    )
    assert len(rows) == 100
    assert [row[2] for row in rows] == [f"{i / 2:.2f} %" for i in range(149, 49, -1)]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", '{"a": '),
        ("config.json", "[]"),
        ("metrics.json", '{"a": '),
        ("metrics.jsonl", '{"st\n{"step": 1}\n'),
        ("metrics.jsonl", '{"loss": 1}\n'),
        ("results.jsonl", '{"shots": 5}\n'),
        ("results.jsonl", '{"task": 5}\n'),
        ("per_class.csv", "class,images\na,5\n"),
        ("per_class.csv", "class,recall\na,high\n"),
    ],
)
def test_damaged_runs_are_named(tmp_path, file, text):
    runs = [run_folder(tmp_path / name, config={}, metrics={}) for name in "ab"]
    comparison(tmp_path, *runs)
    before = (tmp_path / "comparison.html").read_bytes()
    (runs[1] / file).write_text(text)
    with pytest.raises(ValueError, match=rf"^.*b/{file} is damaged \(.*\); [^.]*\.$"):
        comparison(tmp_path, *runs)
    assert (tmp_path / "comparison.html").read_bytes() == before


def test_what_cannot_be_compared(tmp_path):
    run = run_folder(tmp_path / "run", config={})
    with pytest.raises(ValueError, match="two run folders or more, got 1"):
        comparison(tmp_path, run, tmp_path / "." / "run")
    with pytest.raises(ValueError, match=r"nothing is no run's folder: it has no config\.json"):
        comparison(tmp_path, run, tmp_path / "nothing")
    assert os.listdir(tmp_path) == ["run"]


def linear(color):
    """sRGB in [0, 1] to linear light (IEC 61966-2-1)."""
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


# Color visions as linear RGB is seen with them (Machado et al. 2009, severity 1).
VISIONS = {
    "common": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("paper", ["light", "dark"])
def test_lines_are_told_apart_by_every_color_vision(tmp_path, vision, paper):
    (style,) = report(tmp_path).texts("style")
    triplets = re.findall(r"--c(\d): (\d+ \d+ \d+)", style)
    assert [name for name, _ in triplets] == [*"01234567"] * 2
    all_colors = np.array([text.split() for _, text in triplets], float) / 255
    light = linear(all_colors[:8] if paper == "light" else all_colors[8:])
    card = {"light": [0xF5, 0xF7, 0xF9], "dark": [0x1B, 0x20, 0x26]}[paper]
    luminance, ground = (
        x @ [0.2126, 0.7152, 0.0722] for x in (light, linear(np.array(card) / 255))
    )
    contrasts = (np.maximum(luminance, ground) + 0.05) / (np.minimum(luminance, ground) + 0.05)
    assert contrasts.min() >= 3
    # CIE 1976 L*a*b*, in which 2.3 is a just noticeable difference.
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    seen = np.clip(light @ np.transpose(VISIONS[vision]), 0, 1) @ np.transpose(to_xyz)
    roots = np.cbrt(seen / [0.9505, 1, 1.089])
    lab = np.stack(
        [116 * roots[:, 1], 500 * (roots[:, 0] - roots[:, 1]), 200 * (roots[:, 1] - roots[:, 2])]
    )
    apart = np.linalg.norm(lab[:, :, None] - lab[:, None], axis=0) + 1000 * np.eye(8)
    assert apart.min() > 10
