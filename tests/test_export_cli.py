"""bit-export, typed for real."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
from test_cli import SEVERAL, typed

from bit_keras.checkpoints import save_npz


@pytest.mark.slow
def test_a_model_becomes_onnx_and_says_how_right_it_is(tiny, images, tmp_path):
    save_npz(tmp_path / "tiny.npz", {v.path: v.numpy() for v in tiny.variables})
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    lines = (
        "--model=tiny.npz --format=onnx --output=m.onnx --size=64 --images=digits",
        "--model=tiny.npz --output=m --labels=labels.txt",
    )
    command = [sys.executable, "-c", SEVERAL, "bit_keras.cli.export", json.dumps(lines)]
    done = typed(command, tmp_path)
    assert done.returncode == 0, done.stderr
    line, answers = done.stdout.splitlines()
    (code, _), (mistaken, errors) = json.loads(answers)
    assert not code
    assert line.startswith("m.onnx: float32 onnx export proven: answers are within")
    assert json.loads((tmp_path / "m.onnx.proof.json").read_text())["images"] == 100
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    [logits] = session.run(None, {"images": images})
    np.testing.assert_allclose(logits, tiny(images), atol=1e-4)
    assert mistaken == 2
    *_, last = errors.splitlines()
    assert last.startswith("error: labels must name the 5 classes")
    assert not (tmp_path / "m").exists()
