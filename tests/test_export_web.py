"""The page in a real browser, against the model in TensorFlow."""

import contextlib
import functools
import http.server
import shutil
import threading

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest
import sklearn.datasets
import tensorflow as tf
from conftest import named_weights
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import bit_keras
from bit_keras.data.sources.image_files import from_files
from bit_keras.exporting import ExportError

LABELS = ["ant", "bee & wasp", "<b>cat</b>", "dög", "eel"]
SIZE = 64
SWITCHES = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"),
    *("disable-background-networking", "disable-component-update"),
)


@pytest.fixture(scope="module")
def model():
    return named_weights(bit_keras.ResNetV2((1, 1), 0.25, 5, name="small"))


@contextlib.contextmanager
def browsed(site):
    """A browser that has loaded the page in `site/some/where` and then lost its server."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium is not installed"
    for switch in SWITCHES:
        options.add_argument(f"--{switch}")
    service = webdriver.ChromeService(shutil.which("chromedriver") or "chromedriver")
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        webdriver.Chrome(options, service) as browser,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.get(f"http://127.0.0.1:{server.server_port}/some/where/")
        wait(browser, lambda: status(browser) != "Loading the model …")
        server.shutdown()
        server.server_close()
        assert status(browser) == "Ready for a picture."
        yield browser


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    bit_keras.export(model, site / "some/where", format="web", labels=LABELS, size=SIZE)
    with browsed(site) as browser:
        yield browser


def wait(browser, condition):
    WebDriverWait(browser, 60, poll_frequency=0.05).until(lambda _: condition())


def status(browser):
    return browser.find_element(By.ID, "status").text


def rows(browser):
    return browser.find_elements(By.CSS_SELECTOR, "#classes li")


def classified(browser, path):
    """Chooses a file and returns {label: probability}."""
    browser.find_element(By.ID, "file").send_keys(str(path))
    preview = browser.find_element(By.ID, "preview")
    wait(browser, lambda: preview.get_attribute("alt") == path.name and rows(browser))
    return {
        row.find_element(By.CLASS_NAME, "label").text: float(row.get_attribute("data-probability"))
        for row in rows(browser)
    }


def native(model, path):
    images = from_files([path], [0], ["any"], name="any", folder=path.parent)
    [(pixels, _)] = bit_keras.data.test_batches(images, batch=1, size=SIZE)
    return tf.nn.softmax(model(pixels))[0].numpy()


@pytest.mark.parametrize(
    ("name", "size", "orientation", "mode"),
    [
        ("photo.jpg", (301, 177), 6, "RGB"),
        ("photo.png", (301, 177), 5, "RGB"),
        ("photo.webp", (64, 64), 1, "RGB"),
        ("gray.jpg", (640, 427), 3, "L"),
        ("palette.png", (65, 300), 1, "P"),
        ("tiny.png", (3, 1), 1, "RGB"),
    ],
)
def test_the_page_answers_as_the_model(model, page, name, size, orientation, mode, tmp_path):
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = orientation
    photo = PIL.Image.fromarray(sklearn.datasets.load_sample_image("flower.jpg"))
    photo.resize(size).convert(mode).save(tmp_path / name, exif=exif)
    # TensorFlow decodes JPEG by a faster DCT than browsers and Pillow, up to 4 levels of 255 off.
    with PIL.Image.open(tmp_path / name) as decoded:
        decoded.save(tmp_path / "decoded.png", exif=exif)
    answer = classified(page, tmp_path / name)
    for file, allowed in ((name, 1e-3), ("decoded.png", 1e-6)):
        expected = native(model, tmp_path / file)
        assert list(answer) == [LABELS[n] for n in np.argsort(-expected)]
        difference = np.abs([answer[label] for label in LABELS] - expected).max()
        assert difference <= allowed, file
    best = rows(page)[0].find_element(By.CLASS_NAME, "percent").text
    assert best == f"{100 * max(answer.values()):.1f} %"


def test_a_page_of_independent_classes_shows_the_middle_over_white(tmp_path):
    model = named_weights(bit_keras.ResNetV2((1,), 0.25, 5))
    facts = {"class_names": tuple(LABELS), "loss": "sigmoid", "test_size": 48, "test_resize": 61}
    model.spec = model.spec.replace(**facts)
    bit_keras.export(model, tmp_path / "some/where", format="web")
    photo = PIL.Image.fromarray(sklearn.datasets.load_sample_image("flower.jpg")).convert("RGBA")
    photo = photo.resize((151, 90))
    photo.putalpha(PIL.Image.linear_gradient("L").resize(photo.size))
    photo.save(tmp_path / "photo.png")
    [expected] = bit_keras.predict_images(model, tmp_path / "photo.png")
    expected = {answer["class"]: answer["probability"] for answer in expected["predictions"]}
    with browsed(tmp_path) as browser:
        answer = classified(browser, tmp_path / "photo.png")
    assert list(answer) == list(expected)
    # Browsers keep colors multiplied by opacity, which loses some of what is nearly transparent.
    assert answer == pytest.approx(expected, abs=0.01)
    assert abs(sum(answer.values()) - 1) > 0.05


def drop(browser, name, content):
    browser.execute_script(
        """
        const transfer = new DataTransfer();
        transfer.items.add(new File([arguments[1]], arguments[0]));
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", options));
        """,
        name,
        content,
    )


def test_what_is_no_picture_is_refused(model, page, tmp_path):
    drop(page, "notes.txt", "no picture at all")
    wait(page, lambda: "notes.txt" in status(page))
    assert "is no picture" in status(page)
    assert not rows(page)
    assert not page.find_element(By.ID, "preview").is_displayed()
    PIL.Image.new("RGB", (50, 40), "teal").save(tmp_path / "teal.png")
    answer = classified(page, tmp_path / "teal.png")
    assert abs(max(answer.values()) - native(model, tmp_path / "teal.png").max()) < 1e-3


def test_a_model_without_classes_is_refused(tmp_path):
    features = bit_keras.ResNetV2((1,), 0.25, 0)
    with pytest.raises(ExportError, match="has no head; fine-tune it first"):
        bit_keras.export(features, tmp_path / "page", format="web")
    assert list(tmp_path.iterdir()) == []


def test_a_registry_out_of_reach_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setenv("BIT_KERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
    with pytest.raises(ExportError, match=r"http://127.0.0.1:9/onnxruntime-web/-/.*refused"):
        bit_keras.export(model, tmp_path / "page", format="web", size=SIZE)
    assert not (tmp_path / "page").exists()
