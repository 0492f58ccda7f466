"""The report of a run, read back with an HTML parser that does not know how it was written."""

import math
import os
import platform
import re

import numpy as np
import pytest
import scipy.stats
from PIL import Image
from reports import HISTORY, few_shot_rows, report

from bit_keras import reporting
from bit_keras.reporting.page import FIGURES, percent, plain_table


def test_a_folder_name_that_is_not_unicode_does_not_lose_the_report(tmp_path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    page = report(tmp_path, settings={"path": name})
    assert ["path", "caf?"] in page.body_rows("Settings")


def test_without_test_images(tmp_path):
    page = report(tmp_path)
    assert page.texts("h2") == ["Training", "Environment", "Settings"]
    assert page.texts("dt") == ["Steps", "Time"]
    assert page.texts("dd") == ["200", "1 h 15 min"]


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


def places(element):
    return [tuple(map(float, point.split(","))) for point in element["points"].split()]


def test_few_shot_plot_and_table(tmp_path):
    rows = few_shot_rows(0) + few_shot_rows(1, "probe", seeds=2)
    page = report(tmp_path, history=(), sections=[reporting.few_shot_section(rows)])
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
    page = report(tmp_path, history=(), sections=[reporting.few_shot_section(few_shot)])
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


def test_new_figures_and_tables(tmp_path):
    page = report(
        tmp_path,
        history=(),
        metrics={"accuracy": 0.5, "calibration_error": 0.1234, "mean_per_class_accuracy": 0.25},
        sections=[
            ("Tasks & <more>", plain_table(("task", "<score>"), [("<b>", 0.5), ("other", "-")])),
            ("No", ""),
        ],
    )
    assert page.texts("dt") == ["Accuracy", "Mean per-class accuracy", "Calibration error (ECE)"]
    assert page.texts("dd") == ["50.0 %", "25.0 %", "12.3 %"]
    assert page.texts("h2") == ["Tasks & <more>", "Environment", "Settings"]
    assert page.body_rows("Tasks & <more>") == [["<b>", "0.5"], ["other", "-"]]
    assert [
        "Processor",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
    ] in (page.body_rows("Environment"))


def test_a_task_adds_its_metric_by_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(FIGURES, "ap50", ("AP at 50 % overlap", percent))
    history = [{"step": step, "test_ap50": step / 200} for step in (100, 150)]
    page = report(tmp_path, history=history, metrics={"ap50": 0.75, "unknown": 1})
    assert page.texts("dt") == ["AP at 50 % overlap"]
    assert page.texts("dd") == ["75.0 %"]
    assert page.texts("figcaption") == ["AP at 50 % overlaptest 75 %"]


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
