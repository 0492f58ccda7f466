"""Masks drawn over images, in the report of a run, and in the answers to files."""

import base64
import io
import json
import types

import numpy as np
import PIL.Image
import pytest
from detections import (
    detections_of,
    ellipse,
    rectangle,
    scenes,
    truth_of,
    with_masks,
)
from PIL import ImageColor
from pycocotools import mask as mask_tools
from reports import Page, report, run_folder

import bit_keras
from bit_keras.detection import prediction
from bit_keras.detection.answers import Evaluation
from bit_keras.detection.report import report_sections
from bit_keras.metrics.coco_json import as_segmentation
from bit_keras.reporting import write_comparison
from bit_keras.reporting.boxes import box_color, draw_boxes

BOX = (100, 100, 200, 200)
LEFT_HALF = rectangle(100, 100, 150, 200)


def mixed(gray, k):
    """What half of a class's color makes of a gray."""
    return (gray + np.array(ImageColor.getrgb(box_color(k)))) // 2


def page_of(path, truth, detections, **changes):
    path.mkdir()
    evaluation = Evaluation(truth, detections, **changes)
    metrics = evaluation.metrics
    return evaluation, report(path, sections=report_sections(evaluation), metrics=metrics)


def pictures(page):
    sources = [image["src"].split("base64,")[1] for image in page.all("img")]
    return [np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data)))) for data in sources]


def test_a_mask_has_its_color_where_it_is_and_nowhere_else():
    image = np.full((320, 480, 3), 128, np.uint8)
    given = image, np.array([BOX]), [2], [""]
    plain, drawn = draw_boxes(*given), draw_boxes(*given, masks=[LEFT_HALF])
    assert (drawn[105:195, 105:145] == mixed(128, 2)).all()
    outline = drawn[105:195, 149]
    assert (outline == ImageColor.getrgb(box_color(2))).all()
    np.testing.assert_array_equal(drawn[:, 150:], plain[:, 150:])
    np.testing.assert_array_equal(drawn[:, :95], plain[:, :95])
    np.testing.assert_array_equal(draw_boxes(*given, masks=[None]), plain)
    np.testing.assert_array_equal(draw_boxes(*given, masks=[rectangle(0, 0, 0, 0)]), plain)
    assert (image == 128).all()


@pytest.mark.parametrize("side", [17, 96, 480, 700, 1920])
def test_masks_are_scaled_with_their_images(side):
    image = np.full((320, 480, 3), 128, np.uint8)
    box = np.array([[77.0, 41, 271, 203]])
    mask = ellipse(box[0])
    drawn = draw_boxes(image, box, [0], [""], side=side, masks=[mask])
    plain = draw_boxes(image, box, [0], [""], side=side)
    changed = np.any(drawn != plain, axis=2)
    lines = np.any(plain != 128, axis=2)
    size = drawn.shape[1::-1]
    expected = PIL.Image.fromarray(255 * mask_tools.decode(mask)).resize(size)
    expected = (np.asarray(expected) >= 128) & ~lines
    assert np.mean(changed != expected) < 0.005
    assert changed.any() == expected.any()


@pytest.mark.parametrize("box", [(0, 0, 480, 320), (400, 300, 480, 320), (7, 7, 8, 8)])
def test_masks_at_the_edge_and_of_one_pixel_are_drawn(box):
    image = np.zeros((320, 480, 3), np.uint8)
    drawn = draw_boxes(image, np.zeros((1, 4)), [1], [""], masks=[rectangle(*box)])
    left, top, right, bottom = box
    painted = np.any(drawn[5:, 5:], axis=2)  # beside the lines of the box
    expected = np.zeros((320, 480), bool)
    expected[top:bottom, left:right] = True
    np.testing.assert_array_equal(painted, expected[5:, 5:])


def test_the_first_mask_lies_on_top():
    image = np.zeros((320, 480, 3), np.uint8)
    drawn = draw_boxes(image, np.array([BOX, BOX]), [1, 0], ["", ""], masks=[LEFT_HALF] * 2)
    np.testing.assert_array_equal(drawn[150, 120], mixed(mixed(0, 0), 1))


def test_the_report_has_scores_of_masks_and_is_judged_by_them(tmp_path):
    evaluation, page = page_of(tmp_path / "a", *with_masks(*scenes(0), moved=4))
    metrics = evaluation.metrics
    shown = dict(zip(page.texts("dt"), page.texts("dd"), strict=True))
    assert shown["Mask AP"] == f"{100 * metrics['mask_ap']:.1f} %"
    rows = page.body_rows("Boxes and masks")
    for row, name in zip(rows, ("Boxes", "Masks"), strict=True):
        prefix = "mask_" * (name == "Masks")
        keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar")
        assert row == [name, *(f"{100 * metrics[prefix + key]:.1f} %" for key in keys)]
    assert "worst images below are by masks" in "".join(page.texts("p"))
    assert f"of {metrics['num_test_boxes']} masks are found" in "".join(page.texts("p"))
    rows = page.body_rows("Errors")
    assert [int(row[1]) for row in rows] == list(evaluation.errors.counts.values())
    assert "of a mask that a surer detection finds" in [row[3] for row in rows]
    averages = [float(row[4].removesuffix(" %")) for row in page.body_rows("Classes, worst first")]
    assert averages == sorted(averages)
    best = max(row["mask_ap"] for row in evaluation.per_class)
    assert averages[-1] == pytest.approx(100 * best, abs=0.051)


def test_true_masks_are_drawn_beside_those_found(tmp_path):
    size = (360, 540)
    whole, half = rectangle(*BOX, size=size), rectangle(100, 100, 140, 200, size=size)
    truth = truth_of([[(0, BOX)]], size=size, masks=np.array([whole, None], object)[:1])
    other = (300, 50, 400, 150)
    detections = detections_of([[(1, other, 0.6), (0, BOX, 0.9)]])  # drawn by falling scores
    detections[0]["masks"] = [rectangle(*other, size=size), half]
    _, page = page_of(tmp_path / "a", truth, detections, threshold=0.5)
    first, second = (picture.astype(int) for picture in pictures(page))
    for picture, place, expected in (
        (first, (150, 120), mixed(0, 0)),
        (first, (150, 180), mixed(0, 0)),
        (second, (150, 120), mixed(0, 0)),
        (second, (150, 180), 0),
        (second, (100, 350), mixed(0, 1)),
    ):
        assert np.abs(picture[place] - expected).max() < 12  # JPEG blurs
    assert "First the true boxes and masks" in "".join(page.texts("p"))


def test_the_report_of_a_detector_of_boxes_is_as_without_masks(tmp_path):
    truth, detections = scenes(0)
    masked, _ = with_masks(truth, detections)
    masked.areas = truth.areas
    pages = [
        page_of(tmp_path / name, images, detections)[1]
        for name, images in (("a", truth), ("b", masked))
    ]
    first, second = (
        [one for one in page.elements if one["tag"] in ("h2", "p", "img", "dt", "dd", "th", "td")]
        for page in pages
    )
    environment = next(i for i, one in enumerate(first) if one["text"] == "Environment")
    assert first[:environment] == second[:environment]
    text = (tmp_path / "a" / "report.html").read_text()
    body = text[text.index("<main>") :].lower()
    assert not any(word in body for word in ("mask", "{one}", "{many}"))


def test_runs_are_compared_by_masks(tmp_path):
    runs = []
    for name, shift in (("a", 0.0), ("b", 0.125)):
        metrics = {"ap": 0.5, "mask_ap": 0.25 + shift, "mask_ap_small": 0.5 + shift}
        history = [{"step": step, "test_mask_ap": shift + step / 10} for step in (1, 2)]
        runs.append(run_folder(tmp_path / name, config={}, metrics=metrics, history=history))
    write_comparison(tmp_path / "both.html", runs)
    page = Page(tmp_path / "both.html")
    minus = "\N{MINUS SIGN}"
    assert page.body_rows("Metrics")[1:] == [
        ["Mask AP", f"25.00 % {minus}12.50", "37.50 %"],
        ["Mask AP small", f"50.00 % {minus}12.50", "62.50 %"],
    ]
    assert [svg["aria-label"] for svg in page.charts()] == ["Test mask AP by step"]


SIZES = {"a.png": (60, 90), "b.png": (80, 50)}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in SIZES.items():
        PIL.Image.new("RGB", size[::-1], (40, 40, 40)).save(folder / name)
    return folder


def found_on(photos):
    """What a detector of masks finds: on the first photo an ant, on the second one nothing."""
    box, mask = [20, 10, 80, 50], rectangle(20, 10, 50, 50, size=SIZES["a.png"])
    ant = {"class": "ant", "score": 0.75, "box": box, "segmentation": as_segmentation(mask)}
    objects = ([ant], [])
    return [
        {"image": str(photos / name), "objects": own}
        for name, own in zip(SIZES, objects, strict=True)
    ]


def test_answers_to_files_have_their_masks(photos, monkeypatch):
    (expected, nothing) = found_on(photos)
    (ant,) = expected["objects"]
    first = {
        "boxes": np.float32([ant["box"], [0, 0, 9, 9]]),
        "scores": np.float32([0.75, 0.25]),
        "classes": np.int32([1, 0]),
        "masks": [
            {**ant["segmentation"], "counts": ant["segmentation"]["counts"].encode()},
            rectangle(0, 0, 5, 5, size=SIZES["a.png"]),
        ],
    }
    second = {**{name: first[name][:0] for name in ("boxes", "scores", "classes")}, "masks": []}
    spec = types.SimpleNamespace(names=lambda: ("bee", "ant"))
    monkeypatch.setattr(prediction, "open_detector", lambda _: types.SimpleNamespace(spec=spec))
    monkeypatch.setattr(prediction, "all_detections", lambda *_, **options: [first, second])
    found = bit_keras.detect_objects("model", photos, threshold=0.5)
    assert json.loads(json.dumps(found)) == [expected, nothing]
    mask = mask_tools.decode(found[0]["objects"][0]["segmentation"])
    np.testing.assert_array_equal(mask, mask_tools.decode(first["masks"][0]))
    assert len(bit_keras.detect_objects("model", photos, threshold=0)[0]["objects"]) == 2


def test_pictures_of_answers_show_the_masks_and_csv_leaves_them_out(photos, tmp_path):
    found = found_on(photos)
    prediction.write_pictures(tmp_path / "drawn", found)
    drawn = np.asarray(PIL.Image.open(tmp_path / "drawn" / "1-a.jpg"), int)
    assert np.abs(drawn[42, 35] - mixed(40, 0)).max() < 12  # JPEG blurs
    assert np.abs(drawn[42, 65] - 40).max() < 12
    assert "segmentation" not in prediction.as_csv(found)
    assert len(prediction.as_csv(found).splitlines()[1].split(",")) == 7
