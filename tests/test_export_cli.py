"""bit-export, typed for real."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime

from bit_keras.checkpoints import save_npz


def typed(*arguments, cwd):
    command = [sys.executable, "-m", "bit_keras.cli.export", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_model_becomes_onnx_and_says_how_right_it_is(tiny, images, tmp_path):
    save_npz(tmp_path / "tiny.npz", {v.path: v.numpy() for v in tiny.variables})
    arguments = ("--model=tiny.npz", "--format=onnx", "--output=m.onnx", "--size=64")
    done = typed(*arguments, "--images=digits", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("m.onnx: float32 onnx export proven: answers are within")
    assert len(done.stdout.splitlines()) == 1
    assert json.loads((tmp_path / "m.onnx.proof.json").read_text())["images"] == 100
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    [logits] = session.run(None, {"images": images})
    np.testing.assert_allclose(logits, tiny(images), atol=1e-4)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    done = typed("--model=tiny.npz", "--output=m", "--labels=labels.txt", cwd=tmp_path)
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: labels must name the 5 classes")
    assert not (tmp_path / "m").exists()
