"""The sections of a classifier's report, against scikit-learn and hand counts."""

import base64
import io
import re

import numpy as np
import pytest
import scipy.sparse
import sklearn.metrics
from PIL import Image
from reports import Page, evaluated, outcome, report

from bit_keras.classification.report import report_sections


def classified(path, *answers, metrics=None, **changes):
    """The page of `evaluated(*answers)`."""
    evaluation = evaluated(*answers, **changes)
    return report(path, sections=report_sections(evaluation), metrics=metrics or {})


def test_one_file_without_script_or_network(tmp_path):
    labels, probabilities = outcome(5, 100)
    page = classified(tmp_path, labels, probabilities, "abcde")
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
        settings={nasty: {"in": [nasty, 1]}},
        command=f"bit-finetune {nasty}",
        history=[{"step": step, nasty: step} for step in (1, 2)],
        sections=report_sections(evaluated(labels, probabilities, names)),
    )
    assert page.texts("h1") == page.texts("title")[:1] == [nasty]
    assert all(nasty in row[0] for row in page.body_rows("Confusions"))
    assert {row[0] for row in page.body_rows("Classes, worst first")} == set(names)
    assert {nasty + str(labels[i]) for i in range(200)} >= {
        image["alt"].split("true class ")[1] for image in page.all("img")
    }
    assert [f"{nasty}.in", f"{nasty}, 1"] in page.body_rows("Settings")
    assert page.texts("pre") == [f"bit-finetune {nasty}"]


def test_confusion_matrix_counts(tmp_path):
    labels, probabilities = outcome(7, 300)
    labels[labels == 3] = 2  # one class without images
    page = classified(tmp_path, labels, probabilities, "abcdefg")
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
    page = classified(tmp_path, labels, probabilities, "abcdefg")
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
    page = classified(tmp_path, labels, probabilities, [f"class {k}" for k in range(10)])
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
    page = classified(tmp_path, labels, probabilities, range(10), noise.__getitem__)
    for image in page.all("img"):
        data = base64.b64decode(image["src"].split("base64,")[1])
        assert Image.open(io.BytesIO(data)).size == (85, 128)
    assert len(page.all("img")) == 24
    assert page.size < 1e6


@pytest.mark.parametrize("several", [False, True])
def test_mistakes_are_explained_where_the_model_can(tmp_path, several):
    names = ["a", "b", "<i>", "d"]
    labels, probabilities = outcome(4, 100)
    if several:
        labels = scipy.sparse.csr_array(np.eye(4, dtype=bool)[labels])
    asked = []

    def explain(images, columns):
        asked.extend(zip(images, columns, strict=True))
        return [np.full((30, 60, 3), 2 * i, np.uint8) for i in images]

    page = classified(tmp_path, labels, probabilities, names, explain=explain)
    captions = [text for text in page.texts("figcaption") if text.startswith("true")]
    assert len(asked) == len(captions) > 5
    truth = labels.toarray() if several else np.eye(4, dtype=bool)[labels]
    for i, column in asked:
        assert not truth[i, column]
        assert column == np.where(truth[i], 0, probabilities[i]).argmax()
    found = [image["alt"] for image in page.all("img")]
    assert found[1::2] == [f"heat map of {names[k]} on test image {i}" for i, k in asked]
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(e["src"].split("base64,")[1]))))
        for e in page.all("img")
    ]
    for (i, _), shown, heat in zip(asked, pictures[::2], pictures[1::2], strict=True):
        assert shown.shape == (8, 8, 3)
        assert heat.shape == (30, 60, 3)
        assert (shown == i).all()
        assert (heat == 2 * i).all()
    assert any("heat map" in text for text in page.texts("p"))


def test_a_flawless_model_has_no_mistakes_section(tmp_path):
    page = classified(tmp_path, np.arange(3), np.eye(3) + 1e-6, "abc")
    assert "Most confident mistakes" not in page.texts("h2")
    assert not page.all("img")


def test_many_classes_get_pairs_for_a_matrix(tmp_path):
    labels, probabilities = outcome(200, 2000)
    names = [f"class {k}" for k in range(200)]
    page = classified(tmp_path, labels, probabilities, names)
    counts = sklearn.metrics.confusion_matrix(labels, probabilities.argmax(1))
    np.fill_diagonal(counts, 0)
    rows = page.body_rows("Confusions")
    assert [int(row[1]) for row in rows] == sorted(counts.ravel(), reverse=True)[: len(rows)]
    for pair, count, share in rows:
        true, said = (int(name.removeprefix("class ")) for name in pair.split(" → "))
        assert counts[true, said] == int(count)
        assert share == f"{100 * int(count) / np.sum(labels == true):.1f} %"
    assert len(page.body_rows("Classes, worst first")) == 200


def test_misfits_are_named_and_the_old_report_stays(tmp_path):
    report(tmp_path, title="the old one")
    labels, probabilities = outcome(5, 20)
    with pytest.raises(ValueError, match=r"\[20, 4\], one row .*, got \[20, 5\]"):
        classified(tmp_path, labels % 4, probabilities, "abcd")
    with pytest.raises(ValueError, match=r"\[20, 6\], one row .*, got \[20, 5\]"):
        classified(tmp_path, labels % 4, probabilities, "abcd", accepted=np.ones((4, 6), bool))
    assert Page(tmp_path / "report.html").texts("h1") == ["the old one"]


@pytest.mark.parametrize("sigmoid", [False, True])
def test_calibration_dots_are_the_bins(tmp_path, sigmoid):
    labels, probabilities = outcome(4, 500)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    page = classified(tmp_path, labels, probabilities, "abcd", sigmoid=sigmoid)
    if sigmoid:  # the probabilities shown are others
        probabilities = probabilities / (1 + probabilities)
    surest = 100 * probabilities.max(1)[~right].max()
    assert page.texts("figcaption")[-24].endswith(f", {surest:.0f} %")
    assert any("has just one class" in text for text in page.texts("p")) == sigmoid
    expected = []
    for k in range(15):
        own = (confidence > k / 15) & (confidence <= (k + 1) / 15)
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


def test_the_chart_and_the_calibration_error_have_the_same_bins(tmp_path):
    steps = np.arange(16, 29)  # in half bins: edges, where the answers are right, and centers
    confidence = steps / 30
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    found = evaluated(steps % 2, probabilities, "ab")
    page = report(tmp_path, sections=report_sections(found))
    dots = [circle for circle in page.all("circle") if "bin" in circle["class"]]
    (ideal,) = [path["d"] for path in page.all("path") if path.get("class") == "ideal"]
    images, right = np.array([re.findall(r"[\d.]+", dot["text"]) for dot in dots], float).T
    left, end = (float(x) for x in re.findall(r"[ML]([\d.]+)", ideal))  # of the axis
    confidence = (np.array([float(dot["cx"]) for dot in dots]) - left) / (end - left)
    error = (images * np.abs(confidence - right / 100)).sum() / images.sum()
    assert found.metrics["calibration_error"] == pytest.approx(error, abs=1e-3)


def test_answers_that_no_class_of_the_data_stands_for(tmp_path):
    labels, probabilities = outcome(5, 200)  # the model's classes: 0, 1, 2 are the data's
    labels %= 3
    predictions = np.where(probabilities.argmax(1) < 3, probabilities.argmax(1), -1)
    page = classified(tmp_path, labels, probabilities, "abc", accepted=np.eye(3, 5, dtype=bool))
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
    probabilities = np.clip(0.4 * truth + 0.7 * rng.random((200, 4)), 0.001, 0.999)
    page = classified(
        tmp_path,
        scipy.sparse.csr_array(truth),
        probabilities,
        "abcd",
        metrics={"mean_average_precision": 0.75, "loss": 1.0, "num_test": 200},
    )
    precisions = sklearn.metrics.average_precision_score(
        truth[:, :3], probabilities[:, :3], average=None
    )
    assert page.texts("dt") == ["Mean average precision", "Loss", "Test images"]
    assert {"Confusions", "Calibration"}.isdisjoint(page.texts("h2"))
    rows = page.body_rows("Classes, worst first")
    assert rows[-1][:3] == ["d", "0", "\N{EN DASH}"]
    assert [row[:3:2] for row in rows[:-1]] == [
        ["abc"[k], f"{100 * precisions[k]:.1f} %"] for k in np.argsort(precisions)
    ]
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
