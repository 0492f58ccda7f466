"""The memory of a training that is promised to fit a small machine: measured, not estimated."""

import os
import subprocess
import sys

import pytest

# Builds, takes one real step, and saves; then prints the process's own peak, in KiB.
PROGRAM = """
import re, sys
import numpy as np
import bit_keras
from bit_keras import data
from bit_keras.recipes import DetectionRecipe

images, _ = data.scenes(1, num_test=1, size=512)
recipe = DetectionRecipe(epochs=1, decay_epochs=(), batch=1, warmup_steps=0, size=512)
options = {"recipe": recipe, "workdir": sys.argv[1], "batch_split": 1, "export": False}
options |= {"model_type": sys.argv[2], "init": "random"}
result = bit_keras.fine_tune_detector("R50x1", images, **options)
assert result.metrics["steps"] == 1
assert result.model.spec.units == (3, 4, 6, 3) and result.model.spec.width == 1
assert result.model.spec.test_size == 512 and result.model.count_params() > 36e6
assert all(np.isfinite(weights).all() for weights in result.model.get_weights())
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "most"), [("retinanet", 8), ("mask_rcnn", 10)])
def test_a_detector_on_r50x1_is_trained_at_512_pixels_within_some_gib(tmp_path, model_type, most):
    command = [sys.executable, "-c", PROGRAM, tmp_path / "run", model_type]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    peak = 1024 * int(done.stdout.split()[-1])
    print(f"{model_type}: {peak / 2**30:.2f} GiB")
    assert 1 * 2**30 < peak < most * 2**30  # weights, momentum and gradients alone are 0.4 GiB
    assert (tmp_path / "run/checkpoints/ckpt-1.index").is_file()
