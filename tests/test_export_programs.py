"""The programs of those who publish, run as they do, and what they write used as users would."""

import contextlib
import functools
import hashlib
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import threading
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import bit_keras
from bit_keras.checkpoints import save_npz
from bit_keras.models.resnet_v2 import with_head
from bit_keras.training import forward_flops

pytestmark = pytest.mark.slow
PROGRAMS = pathlib.Path(__file__).parents[1] / "export"


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """Holds tiny.npz and labels.txt."""
    folder = tmp_path_factory.mktemp("published")
    save_npz(folder / "tiny.npz", {v.path: v.numpy() for v in tiny.variables})
    (folder / "labels.txt").write_text("ant\nbee\ncat\ndog\nelk\n")
    return folder


def run(folder, program, *arguments, mistake=None):
    """Runs a program; returns what it printed, or if it is to fail, checks what it says."""
    command = [sys.executable, PROGRAMS / f"{program}.py", *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == (2 if mistake else 0), done.stderr
    if mistake:
        *_, last = done.stderr.splitlines()
        assert re.match(f"error: {mistake}", last), last
    return done.stdout


@contextlib.contextmanager
def serve(folder):
    """A web server of a folder, on this machine; gives its address, and what it was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture(scope="module")
def archives(folder):
    run(folder, "make_tfhub_modules", "--models=tiny.npz", "--output=hub")
    return folder / "hub" / "tiny"


def test_tf_hub_archives_are_what_the_hub_serves(
    tiny, images, folder, archives, monkeypatch, tmp_path
):
    import tensorflow_hub as hub
    import tf_keras

    written = sorted(path.name for path in archives.iterdir())
    assert written == [
        f"{kind}{suffix}"
        for kind in ("classification", "feature_vector")
        for suffix in (".md", ".tar.gz")
    ]
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    with serve(archives.parent) as (address, asked):
        module = hub.load(f"{address}/tiny/classification.tar.gz")
        layer = hub.KerasLayer(f"{address}/tiny/feature_vector.tar.gz", trainable=True)
    assert asked == [
        f"/tiny/{kind}.tar.gz?tf-hub-format=compressed"
        for kind in ("classification", "feature_vector")
    ]
    np.testing.assert_allclose(module(images), tiny(images), atol=1e-4)
    features = bit_keras.load(folder / "tiny.npz", num_classes=0)
    model = tf_keras.Sequential([tf_keras.Input((None, None, 3)), layer])
    np.testing.assert_allclose(model(images), features(images), atol=1e-4)
    assert len(model.trainable_variables) == len(features.trainable_variables)


def test_archives_are_reproducible_and_have_cards(tiny, folder, archives):
    path = archives / "feature_vector.tar.gz"
    first = path.read_bytes()
    arguments = ("--models=tiny.npz", "--output=hub", "--kind=feature_vector")
    run(folder, "make_tfhub_modules", *arguments, mistake=r".*tiny/feature_vector.* exists already")
    run(folder, "make_tfhub_modules", *arguments, "--overwrite")
    assert path.read_bytes() == first
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        facts = json.load(archive.extractfile("assets.extra/bit_keras.json"))
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert "saved_model.pb" in [member.name for member in members]
    assert "https://arxiv.org/abs/1912.11370" in facts["notice"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    card = path.with_name("feature_vector.md").read_text()
    assert hashlib.sha256(first).hexdigest() in card
    model = with_head(tiny, 0)
    flops = forward_flops(model, (224, 224, 3))
    assert f"{flops:,} FLOPs, or {flops // 2:,} multiply-adds" in card
    assert f"| {model.count_params():,} |" in card
    assert float(re.search(r"differ from the model's by at most (\S+),", card)[1]) < 1e-4
    for words in ("float32 RGB in [0, 1]", "| license |", "@inproceedings{"):
        assert words in card


def test_archives_of_unknown_models_are_refused_before_any_work(folder):
    arguments = ("--models=tiny.npz,BiT-M-R5Ox1", "--output=none")
    run(folder, "make_tfhub_modules", *arguments, mistake="there is no model named 'BiT-M-R5Ox1'")
    assert not (folder / "none").exists()


def test_a_served_model_answers_its_warm_up_requests(tiny, folder):
    from tensorflow_serving.apis import prediction_log_pb2

    animals = folder / "served" / "animals"
    (animals / "9").mkdir(parents=True)  # the version before
    arguments = ("--model=tiny.npz", "--labels=labels.txt", "--size=64", "--output=served")
    run(folder, "make_serving_model", *arguments, "--name=animals")
    assert sorted(path.name for path in animals.iterdir()) == ["10", "10.proof.json", "9"]
    module = animals / "10"
    facts = json.loads((module / "assets.extra" / "bit_keras.json").read_text())
    assert "https://arxiv.org/abs/1912.11370" in facts["notice"]
    signatures = tf.saved_model.load(str(module)).signatures
    records = tf.data.TFRecordDataset(str(module / "assets.extra" / "tf_serving_warmup_requests"))
    logits = {}
    for record in records.as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "animals"
        signature = request.model_spec.signature_name
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        if signature == "serving_default":
            expected = tiny(inputs["images"])
        outputs = signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        logits[signature] = outputs["logits"]
        if signature == "serve_encoded":
            names = {name.decode() for name in outputs["class_names"].numpy().flat}
            assert names == {"ant", "bee", "cat", "dog", "elk"}
    assert set(logits) == set(signatures) == {"serving_default", "serve_uint8", "serve_encoded"}
    np.testing.assert_allclose(logits["serving_default"], expected, atol=1e-4)
    # The same photo, rounded to whole pixels and squeezed into a JPEG.
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits["serve_uint8"], expected, atol=1e-3 * scale)
    np.testing.assert_allclose(logits["serve_encoded"], expected, atol=0.1 * scale)


def test_a_mobile_bundle_tells_what_it_takes(tiny, folder, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    arguments = ("--model=tiny.npz", "--labels=labels.txt", "--size=64", "--output=tiny.zip")
    run(folder, "make_mobile_bundle", *arguments)
    run(folder, "make_mobile_bundle", *arguments, mistake="tiny.zip exists already")
    with zipfile.ZipFile(folder / "tiny.zip") as bundle:
        bundle.extractall(tmp_path)
    assert (tmp_path / "labels.txt").read_bytes() == (folder / "labels.txt").read_bytes()
    told = json.loads((tmp_path / "metadata.json").read_text())
    content = (tmp_path / told["file"]["name"]).read_bytes()
    assert told["file"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(content) < 0.6 * 4 * tiny.count_params() + 100_000
    assert told["precision"] == "float16"
    assert told["proof"]["passed"] is True
    for words in ("[1, 64, 64, 3]", told["proof"]["notice"]):
        assert words in (tmp_path / "README.md").read_text()
    low, high = told["input"]["range"]
    image = np.random.default_rng(0).uniform(low, high, told["input"]["shape"]).astype("float32")
    expected = tiny(image).numpy()
    run_once = Interpreter(model_content=content).get_signature_runner()
    found = run_once(**{told["input"]["name"]: image})[told["output"]["name"]]
    assert found.shape == tuple(told["output"]["shape"])
    np.testing.assert_allclose(found, expected, atol=2e-2 * np.abs(expected).max())


def test_a_mobile_bundle_of_eight_bits_is_calibrated_on_images(folder):
    """On the embedded model's own kind of images, with a head that tells three digits apart."""
    train, _ = bit_keras.data.digits(10)
    model = bit_keras.load("BiT-XS-R26x0.25", num_classes=10)
    [(images, _)] = bit_keras.data.test_batches(train, batch=len(train), size=32)
    features = bit_keras.load("BiT-XS-R26x0.25")(images).numpy()
    means = np.stack([features[train.labels == label].mean(0) for label in range(10)], axis=1)
    model.get_layer("head").conv.set_weights([means[None, None], -(means**2).sum(0) / 2])
    save_npz(folder / "digits.npz", {v.path: v.numpy() for v in model.variables})
    arguments = ("--model=digits.npz", "--size=32", "--images=digits", "--output=digits.zip")
    run(folder, "make_mobile_bundle", *arguments)
    with zipfile.ZipFile(folder / "digits.zip") as bundle:
        told = json.loads(bundle.read("metadata.json"))
        assert bundle.read("labels.txt").decode().split() == [str(i) for i in range(10)]
        assert len(bundle.read("model.tflite")) < 0.35 * 4 * model.count_params()
    assert told["precision"] == "int8"
    assert told["proof"]["top1_agreement"] >= 0.98
