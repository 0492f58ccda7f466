"""Reports in a real browser: on a phone and on a desk, by day and by night."""

import dataclasses
import shutil

import numpy as np
import pytest
import scipy.sparse
from detections import scenes
from reports import evaluated, few_shot_rows, outcome, run_folder
from selenium import webdriver

from bit_keras.classification.report import report_sections
from bit_keras.detection.answers import Evaluation
from bit_keras.detection.report import report_sections as detection_sections
from bit_keras.reporting import few_shot_section, write_comparison, write_report
from bit_keras.reporting.page import plain_table

NAMES = ["<b>ant</b>", 'the "bee" & the wasp', "🐈", "Donaudampfschifffahrtsgesellschaft", "eel"]
LONG = "a_name_that_is_longer_than_the_screen_of_a_phone_is_wide_and_has_no_spaces"
SWITCHES = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"),
    *("disable-background-networking", "disable-component-update", "hide-scrollbars"),
)

# What is on the page, as it was laid out. Text is [size, contrast, whose]; WCAG 2 has the formula.
LAID_OUT = """
const number = (text) => text.match(/[\\d.]+/g).map(Number);
const over = ([r, g, b, a = 1], under) => [r, g, b].map((x, i) => a * x + (1 - a) * under[i]);
const background = (element) => {
  if (!element) return [255, 255, 255];
  const own = number(getComputedStyle(element).backgroundColor);
  return own[3] === undefined ? own : over(own, background(element.parentElement));
};
const luminance = (color) => color
  .map((x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4))
  .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
const contrast = (...colors) => {
  const [a, b] = colors.map(luminance).sort((a, b) => b - a);
  return (a + 0.05) / (b + 0.05);
};
const described = (element) => `${element.tagName} ${element.className.baseVal ??
  element.className} ${element.textContent.slice(0, 40)}`;
const all = [...document.body.querySelectorAll("*")];
const boxes = (elements) => elements.map((element) => element.getBoundingClientRect());
return {
  scrollWidth: document.documentElement.scrollWidth,
  outside: all.filter((element) => {
    const { left, right } = element.getBoundingClientRect();
    return !element.closest(".scroll *") && (left < 0 || right > innerWidth + 0.5);
  }).map(described),
  text: all.filter((element) =>
    element.tagName !== "title" &&
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
  ).map((element) => {
    const style = getComputedStyle(element);
    const scale = element.tagName === "text" ? element.getScreenCTM().a : 1;
    const color = number(element.tagName === "text" ? style.fill : style.color);
    return [scale * parseFloat(style.fontSize), contrast(color.slice(0, 3), background(element)),
      described(element)];
  }),
  collisions: [...document.querySelectorAll("svg")].flatMap((svg) => {
    const found = boxes([...svg.querySelectorAll("text")]);
    const [whole] = boxes([svg]);
    return found.filter((a, i) => a.left < whole.left || a.right > whole.right ||
      a.bottom > whole.bottom || found.some((b, k) => k < i && a.left < b.right &&
      b.left < a.right && a.top < b.bottom && b.top < a.bottom));
  }),
  images: [...document.images].map((image) => image.complete && image.naturalWidth > 0),
  requests: performance.getEntriesByType("resource").map((entry) => entry.name)
    .filter((name) => !name.startsWith("data:")),
  scripts: document.scripts.length,
  charts: document.querySelectorAll("svg[role=img]").length,
  markup: document.querySelectorAll("th b, td b").length,
};
"""


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium is not installed"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for switch in SWITCHES:
        options.add_argument(f"--{switch}")
    service = webdriver.ChromeService(shutil.which("chromedriver") or "chromedriver")
    with webdriver.Chrome(options, service) as opened:
        yield opened


def history(seed):
    rng = np.random.default_rng(seed)
    rows = []
    for step in range(10, 501, 10):
        rows.append({"step": step, "loss": 40 / step + rng.random() / 5, "learning_rate": 0.003})
        if step % 100 == 0:
            rows.append({"step": step, "test_accuracy": 1 - 20 / step, "test_loss": 30 / step})
    return rows


METRICS = {
    "accuracy": 0.8132,
    "top5_accuracy": 1.0,
    "mean_per_class_accuracy": 0.79,
    "calibration_error": 0.0312,
    "loss": 0.61,
    "num_test": 300,
    "steps": 500,
    "seconds": 4321,
}


def noise(i):
    return np.random.default_rng(i).integers(256, size=(150, 200, 3), dtype=np.uint8)


def write_reports(folder):
    given = {
        "settings": {"model": LONG, "class_names": NAMES * 20, "rule": {"steps": 500}},
        "command": f"bit-finetune --name={LONG}",
        "metrics": METRICS,
        "history": history(0),
    }
    labels, probabilities = outcome(6, 300)
    accepted = np.eye(5, 6, dtype=bool)  # the model's last class is none of the images'
    one_label = evaluated(labels % 5, probabilities, NAMES, noise, accepted=accepted)
    tasks = ["task", "accuracy", "remark"], [[LONG, "51.2 %", "later " * 40]]
    write_report(
        folder / "one label.html",
        title=f"BiT-XS-R26x0.25 on {LONG}",
        **given,
        sections=[
            few_shot_section(few_shot_rows(1) + few_shot_rows(2, method="probe")),
            ("Tasks <b>", plain_table(*tasks)),
            *report_sections(one_label),
        ],
    )
    truth = scipy.sparse.csr_array(np.random.default_rng(1).random((300, 5)) < 0.3)
    several = evaluated(truth, np.random.default_rng(2).random((300, 5)), NAMES, noise)
    explained = dataclasses.replace(one_label, explain=lambda images, _: [*map(noise, images)])
    write_report(
        folder / "explained.html",
        title="With heat maps",
        **given,
        sections=report_sections(explained),
    )
    write_report(
        folder / "several labels.html",
        title="Many classes an image",
        **given,
        sections=report_sections(several),
    )
    detected = Evaluation(*scenes(0, class_names=NAMES))
    write_report(
        folder / "detection.html",
        title="Boxes",
        **{**given, "metrics": detected.metrics},
        sections=detection_sections(detected),
    )
    write_report(folder / "bare.html", title="Nothing yet", settings={}, metrics={})


def compared_runs(folder):
    return [
        run_folder(
            folder / name,
            config={"model": model, "rule": {"lr": 0.003 * k}, "class_names": NAMES * 9},
            metrics={**METRICS, "accuracy": 0.8 + 0.01 * k, "loss": 0.6 - 0.1 * k} if k else None,
            history=history(k),
            results=few_shot_rows(k)
            + few_shot_rows(k + 5, method="probe")
            + [
                {"task": task, "group": group, "accuracy": 0.5 + 0.03 * k}
                for task, group in (("cifar100", "natural"), ("eurosat", "specialized"))
            ],
            per_class={name: 0.5 + 0.05 * k * i for i, name in enumerate(NAMES)},
        )
        for k, (name, model) in enumerate([("a<b>&", LONG), ("R50x1", "B"), (LONG, "C" * 90)])
    ]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """{what: (path, number of charts, of pictures)}"""
    folder = tmp_path_factory.mktemp("reports")
    write_reports(folder)
    write_comparison(folder / "comparison.html", compared_runs(folder))
    return {
        "one label": (folder / "one label.html", 5, 24),
        "several labels": (folder / "several labels.html", 3, 24),
        "explained": (folder / "explained.html", 4, 48),
        "detection": (folder / "detection.html", 9, 24),
        "bare": (folder / "bare.html", 0, 0),
        "comparison": (folder / "comparison.html", 5, 0),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize(
    "what", ["one label", "several labels", "explained", "detection", "bare", "comparison"]
)
def test_the_page_is_whole_and_readable(browser, pages, what, width, scheme):
    path, charts, pictures = pages[what]
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    theme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", theme)
    browser.get(path.as_uri())
    found = browser.execute_script(LAID_OUT)
    assert browser.get_log("browser") == []
    assert found["requests"] == []
    assert found["scripts"] == 0
    assert found["scrollWidth"] <= width
    assert found["outside"] == []
    assert found["images"] == [True] * pictures
    assert found["charts"] == charts
    assert found["collisions"] == []
    assert found["markup"] == 0
    assert len(found["text"]) > 10
    small = [text for text in found["text"] if text[0] < 11]
    assert small == []
    pale = [text for text in found["text"] if text[1] < 4.5]
    assert pale == []
