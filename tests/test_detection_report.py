"""The sections of a detector's report, the drawn boxes, and the files beside the page."""

import base64
import csv
import io
import json

import numpy as np
import pytest
from detections import detections_of, scenes, truth_of
from PIL import Image, ImageColor
from pycocotools.coco import COCO
from reports import Page, report, run_folder

from bit_keras.detection.answers import Evaluation, sentence
from bit_keras.detection.coco_files import write_coco_boxes, write_coco_detections
from bit_keras.detection.report import report_sections, write_run_report
from bit_keras.metrics.coco_json import detections_as_coco, true_boxes_as_coco
from bit_keras.metrics.detection_errors import KINDS
from bit_keras.reporting import write_comparison
from bit_keras.reporting.boxes import BOX_COLORS, box_color, draw_boxes
from bit_keras.reporting.page import title_of
from bit_keras.training import RunFolder

NASTY = """<b>&"'>"""
BOX = (100, 100, 200, 200)


def page_of(path, truth, detections, **changes):
    evaluation = Evaluation(truth, detections, **changes)
    metrics = evaluation.metrics
    return evaluation, report(path, sections=report_sections(evaluation), metrics=metrics)


def pictures(page):
    sources = [image["src"].split("base64,")[1] for image in page.all("img")]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in sources]


def test_figures_errors_classes_and_curves(tmp_path):
    names = [f"{NASTY}{k}" for k in range(5)]
    evaluation, page = page_of(tmp_path, *scenes(0, class_names=names))
    scores = evaluation.metrics
    assert page.texts("dt")[:2] == ["AP", "AP at IoU 0.5"]
    assert page.texts("dd")[:2] == [f"{100 * scores[name]:.1f} %" for name in ("ap", "ap50")]
    assert page.texts("dt")[-2:] == ["Test images", "Test boxes"]
    assert page.texts("dd")[-2] == "30"
    rows = page.body_rows("Errors")
    assert [row[0].lower() for row in rows] == list(KINDS)
    assert [int(row[1]) for row in rows] == list(evaluation.errors.counts.values())
    rows = page.body_rows("Classes, worst first")
    assert sorted(row[0] for row in rows) == names
    averages = [float(row[2].removesuffix(" %")) for row in rows]
    assert averages == sorted(averages)
    by_name = {row["class"]: row for row in evaluation.per_class}
    assert averages == [pytest.approx(100 * by_name[row[0]]["ap"], abs=0.051) for row in rows]
    charts = [svg["aria-label"] for svg in page.charts()][3:]  # after those of the training
    assert charts == ["All classes by recall", *(f"{row[0]} by recall" for row in rows)]
    assert not {"script", "link", "b>"} & {element["tag"] for element in page.elements}


def test_the_worst_images_come_first(tmp_path):
    truth, detections = scenes(2)
    evaluation, page = page_of(tmp_path, truth, detections)
    errors = evaluation.errors
    wrong = [i for i in range(30) if errors.mistakes[i]]
    expected = sorted(wrong, key=lambda i: (errors.f1[i], -errors.mistakes[i]))[:12]
    alts = [image["alt"] for image in page.all("img")]
    assert alts[::2] == [f"test image {i}, its boxes" for i in expected]
    assert alts[1::2] == [f"test image {i}, detections" for i in expected]
    captions = [text for text in page.texts("figcaption") if text.startswith("F1")]
    assert [text.split(",")[0] for text in captions] == [f"F1 {errors.f1[i]:.2f}" for i in expected]
    assert {picture.shape for picture in pictures(page)} == {(360, 540, 3)}


def test_truth_is_drawn_beside_the_detections(tmp_path):
    truth = truth_of([[(0, BOX)]], size=(360, 540))
    _, page = page_of(
        tmp_path, truth, detections_of([[(2, BOX, 0.9), (1, BOX, 0.2)]]), threshold=0.5
    )
    found = [picture[150, 100].astype(int) for picture in pictures(page)]
    for pixel, k in zip(found, (0, 2), strict=True):
        assert np.abs(pixel - ImageColor.getrgb(box_color(k))).max() < 30  # JPEG blurs
    captions = [text for text in page.texts("figcaption") if text.startswith("F1")]
    assert captions == ["F1 0.00, 1 wrong, 1 not found"]
    assert "scores of 0.50 or more, as given" in "".join(page.texts("p"))


def test_a_flawless_detector_and_one_that_finds_nothing(tmp_path):
    truth = truth_of([[(0, BOX)], []], "ab")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, page = page_of(tmp_path / "a", truth, detections_of([[(0, BOX, 0.9)], []]))
    assert not page.all("img")
    assert page.body_rows("Classes, worst first")[-1] == ["b", "0", *["\N{EN DASH}"] * 2]
    _, page = page_of(tmp_path / "b", truth, detections_of([[], []]))
    assert page.body_rows("Errors")[-1][:3] == ["Missed", "1", "0.0"]
    assert len(page.all("img")) == 2


def test_the_files_of_a_run(tmp_path):
    truth, detections = scenes(0)
    truth.image_ids = [f"{i}.jpg" for i in range(30)]
    evaluation = Evaluation(truth, detections)
    with RunFolder(tmp_path / "run", {"loss": "focal"}) as run:
        page = {"title": "t", "settings": {}, "metrics": evaluation.metrics, "command": None}
        write_run_report(run, evaluation, **page)
    assert "Worst images" in Page(tmp_path / "run" / "report.html").texts("h2")
    with open(tmp_path / "run" / "per_class.csv", newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert [float(row["ap50"]) for row in rows] == [row["ap50"] for row in evaluation.per_class]
    said = json.loads((tmp_path / "run" / "detections.json").read_text())
    assert said == detections_as_coco(truth, detections)


def test_coco_files_are_read_by_pycocotools(tmp_path):
    truth, detections = scenes(1)
    write_coco_boxes(tmp_path / "new" / "truth.json", truth)
    write_coco_detections(tmp_path / "answers.json", truth, detections)
    write_coco_detections(tmp_path / "none.json", truth, detections_of([[]] * 30))
    known = COCO(tmp_path / "new" / "truth.json")
    assert known.dataset == true_boxes_as_coco(truth)
    answers = known.loadRes(str(tmp_path / "answers.json")).dataset["annotations"]
    assert [one["score"] for one in answers] == [
        float(str(score)) for one in detections for score in one["scores"]
    ]
    assert json.loads((tmp_path / "none.json").read_text()) == []
    detections[3] = {**detections[3], "scores": np.full(len(detections[3]["scores"]), np.nan)}
    before = (tmp_path / "answers.json").read_bytes()
    with pytest.raises(ValueError, match="image 3 are not all finite"):
        write_coco_detections(tmp_path / "answers.json", truth, detections)
    assert (tmp_path / "answers.json").read_bytes() == before


def test_runs_are_compared_by_ap(tmp_path):
    runs = []
    for name, shift in (("a", 0.0), ("b", 0.125)):
        metrics = {"ap": 0.5 + shift, "ap50": 0.75, "num_test": 30}
        history = [{"step": step, "test_ap": shift + step / 10} for step in (1, 2)]
        config = {"loss": "focal", "class_names": ["x", "y"]}
        folder = run_folder(tmp_path / name, config=config, metrics=metrics, history=history)
        rows = f"class,boxes,ap,ap50\nx,5,{0.25 + shift},0.5\ny,0,,\n"
        (folder / "per_class.csv").write_text(rows)
        runs.append(folder)
    write_comparison(tmp_path / "both.html", runs)
    page = Page(tmp_path / "both.html")
    assert page.body_rows("Metrics")[0] == ["AP", "50.00 % \N{MINUS SIGN}12.50", "62.50 %"]
    rows = page.body_rows("AP by class, largest differences first")
    assert rows[0] == ["x", "25.00 % \N{MINUS SIGN}12.50", "37.50 %"]
    assert [svg["aria-label"] for svg in page.charts()] == ["Test AP by step"]
    assert title_of("test_ap50") == "Test AP50"


def test_the_scores_in_one_sentence():
    metrics = Evaluation(truth_of([[(0, BOX)]]), detections_of([[(0, BOX, 0.9)]])).metrics
    assert sentence(metrics) == "AP 100.00%, AP50 100.00%, AP75 100.00% on 1 test images"
    assert sentence({"steps": 5}) == "Not tested"


def test_boxes_are_drawn_where_they_are():
    image = np.full((300, 400, 3), 128, np.uint8)
    drawn = draw_boxes(image, np.array([[50, 60, 250, 160]]), [2], [""])
    color = ImageColor.getrgb(box_color(2))
    rows, columns = np.nonzero((drawn == color).all(axis=2))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == pytest.approx(
        (50, 60, 250, 160), abs=1.5
    )
    assert (drawn[70:150, 60:240] == 128).all()  # nothing inside
    assert (image == 128).all()
    dashed = draw_boxes(image, np.array([[50, 60, 250, 160]]), [2], [""], dashed=np.array([True]))
    count = np.sum((drawn == color).all(axis=2))
    assert 0.4 * count < np.sum((dashed == color).all(axis=2)) < 0.7 * count


def test_pictures_are_scaled_with_their_boxes():
    image = np.zeros((30, 40, 3), np.uint8)
    drawn = draw_boxes(image, np.array([[10.0, 5, 30, 25]]), [0], ["x"], side=400)
    assert drawn.shape == (300, 400, 3)
    _, columns = np.nonzero((drawn[120:180] == ImageColor.getrgb(box_color(0))).all(axis=2))
    assert (columns.min(), columns.max()) == pytest.approx((100, 300), abs=2)


@pytest.mark.parametrize("box", [(-50, -50, 500, 500), (390, 290, 900, 900), (7, 7, 7, 7)])
def test_odd_boxes_and_labels_are_drawn(box):
    image = np.zeros((300, 400, 3), np.uint8)
    label = "a name\nthat is much longer than the picture is wide, and then some more of it"
    drawn = draw_boxes(image, np.array([box]), [11], [label], dashed=np.array([True]))
    assert drawn.shape == image.shape
    assert drawn.any()
    assert draw_boxes(image, np.zeros((0, 4)), [], []).tolist() == image.tolist()


def test_labels_do_not_cover_each_other():
    image = np.zeros((300, 400, 3), np.uint8)
    boxes = np.tile([100.0, 100, 180, 180], (20, 1))
    once = draw_boxes(image, boxes[:4], [0] * 4, ["word"] * 4)
    often = draw_boxes(image, boxes, [0] * 20, ["word"] * 20)
    np.testing.assert_array_equal(once, often)  # four places around a box


def test_colors_carry_dark_text_and_differ():
    def luminance(color):
        rgb = np.array(ImageColor.getrgb(color)) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    assert all((luminance(color) + 0.05) / 0.05 > 5.5 for color in BOX_COLORS)
    assert len(set(BOX_COLORS)) == 8
