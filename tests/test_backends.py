"""JAX and torch in place of TensorFlow: what works there is as here, and the rest is refused.

Each in a process of its own. BACKENDS_PYTHON is a Python with both and without TensorFlow, of
`make test-backends`; JAX is also tried beside TensorFlow, which must not be imported then.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import zlib

import keras
import numpy as np
import pytest
from backend_program import (
    POLICIES,
    SAVED,
    WRITTEN,
    answers,
    of_layers,
    of_training,
    small,
    weights_of,
)

import bit_keras
from bit_keras.checkpoints import open_safetensors
from bit_keras.models.resnet_v2 import pyramid
from bit_keras.training.backends import backend

TESTS = pathlib.Path(__file__).parent
COMMANDS = ("detect", "evaluate", "export", "finetune", "predict", "pretrain")
OTHER_PYTHON = os.environ.get("BACKENDS_PYTHON")
PYTHONS = [
    pytest.param(
        (sys.executable, "jax"),
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed"),
        ],
        id="jax",
    ),
    *(
        pytest.param(
            (OTHER_PYTHON, name),
            marks=[
                pytest.mark.backends,
                pytest.mark.skipif(not OTHER_PYTHON, reason="run make test-backends"),
            ],
            id=f"{name}-alone",
        )
        for name in ("jax", "torch")
    ),
]


def environment(**variables):
    """Without what tells Keras a backend, but for these."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KERAS")}
    return {**kept, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", **variables}


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    return {
        "images": rng.uniform(size=(8, 40, 40, 3)).astype("float32"),
        "labels": np.arange(8) % 5,
        "activations": rng.normal(5, 3, size=(2, 7, 6, 16)).astype("float32"),
    }


@pytest.fixture(scope="module", params=PYTHONS)
def there(request, given, tmp_path_factory):
    """(arrays, texts, folder) of the program on another backend."""
    python, name = request.param
    folder = tmp_path_factory.mktemp(name)
    np.savez(folder / "given.npz", **given)
    for form, file in SAVED.items():
        bit_keras.export(small(), folder / file, form)
    alone = [] if python == sys.executable else ["all"]
    command = [python, TESTS / "backend_program.py", folder, *alone]
    quick = "--xla_backend_optimization_level=0"  # JAX compiles longer than it computes here
    variables = environment(KERAS_BACKEND=name, JAX_PLATFORMS="cpu", XLA_FLAGS=quick)
    done = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    texts = json.loads((folder / "found.json").read_text())
    assert texts["backend"] == name
    return np.load(folder / "found.npz"), texts, folder


def test_golden_outputs(there):
    found, golden = there[0], np.load(TESTS / "golden" / "R50x1_64px.npz")
    if "golden_logits" not in found:
        pytest.skip("takes minutes: run make test-backends")
    np.testing.assert_allclose(found["golden_logits"], golden["logits"], atol=1e-4)
    np.testing.assert_allclose(found["golden_pooled"], golden["pooled"], atol=1e-4)
    for i in range(5):
        expected = golden[f"tap{i}_mean"]
        scale = max(1.0, np.abs(expected).max())  # as in test_resnet_v2.py
        np.testing.assert_allclose(found[f"tap{i}_mean"], expected, atol=1e-4 * scale)


def test_models_answer_as_on_tensorflow(there, given):
    found, images, model = there[0], given["images"], small()
    expected = answers(bit_keras.load("BiT-XS-R26x0.25"), images)
    np.testing.assert_allclose(found["embedded"], expected, atol=1e-4)
    for level, expected in pyramid(model, ("P2", "P4")).predict(images, verbose=0).items():
        np.testing.assert_allclose(found[f"map_{level}"], expected, atol=1e-4)
    np.testing.assert_array_equal(found["new_head"], np.zeros((8, 3)))


def test_layers_answer_as_on_tensorflow(there, given):
    for name, expected in of_layers(given["activations"]).items():
        # The largest answers of the convolution exceed 100, where 1e-4 is a few roundings.
        atol = max(1e-4, 3e-6 * np.abs(expected).max())
        np.testing.assert_allclose(there[0][name], expected, atol=atol, err_msg=name)


def test_fit_by_the_rules_schedule_learns_as_on_tensorflow(there, given):
    expected = of_training(given["images"], given["labels"])
    assert expected["losses"][1] < 0.9 * expected["losses"][0]
    np.testing.assert_allclose(there[0]["losses"], expected["losses"], rtol=1e-3)
    scale = np.abs(expected["trained"]).max()
    np.testing.assert_allclose(there[0]["trained"], expected["trained"], atol=1e-2 * scale)


def test_weights_are_read_and_written(there):
    found, texts, folder = there
    expected = weights_of(small())
    for form in SAVED:
        np.testing.assert_array_equal(found[f"read_{form}"], expected, err_msg=form)
    everything = "golden_logits" in found
    for file in WRITTEN.values() if everything else [WRITTEN["npz"]]:
        written = weights_of(bit_keras.load(folder / file))
        np.testing.assert_array_equal(written, expected, err_msg=file)
    assert texts["proof"]["passed"]
    assert texts["proof"]["scale"] > 0.1
    if not everything:
        return
    arrays = open_safetensors(folder / "out_timm" / "model.safetensors")
    name = "block1/unit01/a/standardized_conv2d/kernel"
    drawn = np.random.default_rng(zlib.crc32(name.encode()))
    kernel = drawn.standard_normal((1, 1, 64, 64), dtype="float32")
    np.testing.assert_array_equal(arrays[name], kernel)


def test_precisions_stay_close_to_float32(there, given):
    found, exact = there[0], answers(small(), given["images"])
    for policy in POLICIES:
        assert found[policy].dtype == "float32", policy
        close = {"float64": 1e-5}.get(policy, 0.05)
        np.testing.assert_allclose(
            found[policy], exact, atol=close * np.abs(exact).max(), err_msg=policy
        )
    large = np.linspace(3e4, 6e4, 512, dtype="float16").astype("float32").reshape(1, 8, 8, 8)
    theirs = keras.layers.GroupNormalization(4, epsilon=1e-5)(large)
    np.testing.assert_allclose(found["large_norm"].astype("float32"), theirs, atol=5e-3)


def test_what_needs_tensorflow_says_so(there):
    _, texts, _ = there
    assert len(texts["needs_tensorflow"]) > 15
    for name, text in texts["needs_tensorflow"].items():
        assert name in text
        assert f" needs TensorFlow, and Keras computes on {texts['backend']}; set KERAS_" in text
        assert len(text.splitlines()) == 1
    for text in texts["channels_first"].values():
        assert text.startswith("BiT takes images of [batch, height, width, channels], and Keras is")


def command(name, variables, *arguments):
    run = [sys.executable, "-m", f"bit_keras.cli.{name}", *arguments]
    return subprocess.run(run, env=environment(**variables), capture_output=True, text=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_refuse_other_backends_before_anything_else(name, tmp_path):
    required = {
        "detect": ["predict"],
        "export": ["--output=x"],
        "pretrain": ["--dataset=never"],
    }.get(name, [])
    done = command(name, {"KERAS_BACKEND": "jax"}, "--model=never", *required)
    assert done.returncode == 2
    assert done.stderr == (
        "error: this command needs TensorFlow, and Keras computes on jax; set "
        "KERAS_BACKEND=tensorflow before Keras is imported.\n"
    )


def test_commands_read_the_settings_of_keras(tmp_path):
    settings = {"backend": "torch", "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    done = command("predict", {"KERAS_HOME": str(tmp_path)}, "--model=never", "x.png")
    assert "and Keras computes on torch; " in done.stderr
    chosen = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "tensorflow"}
    done = command("export", chosen, "--model=BiT-XS-R26x0.25", f"--output={tmp_path / 'x'}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: BiT takes images of [batch, height, ")


def test_the_backend_is_that_of_the_keras_that_is_imported(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert backend() == keras.config.backend() == "tensorflow"
