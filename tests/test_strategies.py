"""One run, however it is shared out or cut off: real processes, really killed."""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from bit_keras.training import StrategyError, make_strategy

PROGRAM = pathlib.Path(__file__).with_name("training_program.py")
STEPS = 20


def start(workdir, strategy="single", source="arrays", **environment):
    command = [sys.executable, PROGRAM, workdir, strategy, source]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


def weights(workdir, worker=0):
    with np.load(f"{workdir}.{worker}.npz") as file:
        return [file[name] for name in file.files]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The weights of a run on one device that nothing happened to."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(workdir))
    return weights(workdir)


def largest_relative_difference(a, b):
    return max(
        np.max(np.abs(x - y)) / max(np.max(np.abs(x)), 1e-3) for x, y in zip(a, b, strict=True)
    )


def test_two_replicas_end_with_the_weights_of_one(undisturbed, tmp_path):
    finish(start(tmp_path / "run", "mirrored"))
    assert largest_relative_difference(undisturbed, weights(tmp_path / "run")) < 1e-4


def test_two_workers_end_with_the_weights_of_one(undisturbed, tmp_path):
    with socket.socket() as a, socket.socket() as b:
        for s in (a, b):
            s.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in (a, b)]
    workers = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        workers.append(start(tmp_path / "run", "multiworker", TF_CONFIG=config, WORKER=str(index)))
    for worker in workers:
        finish(worker)
    for index in range(2):
        found = weights(tmp_path / "run", index)
        assert largest_relative_difference(undisturbed, found) < 1e-4
    assert json.loads((tmp_path / "run/metrics.json").read_text())["steps"] == STEPS


def last_step(workdir):
    file = workdir / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def wait_for_step(process, workdir, step):
    while last_step(workdir) < step and process.poll() is None:
        time.sleep(0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for label in "ab":
        (root / label).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 256, (40, 44, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(root / label / f"{i}.jpg")
    return root


@pytest.mark.parametrize(("kind", "kills"), [("arrays", 2), ("folder", 1)])
def test_a_killed_run_ends_bit_for_bit_like_an_undisturbed_one(
    undisturbed, folder, tmp_path, kind, kills
):
    expected, source = undisturbed, "arrays"
    if kind == "folder":
        source = str(folder)
        finish(start(tmp_path / "whole", source=source))
        expected = weights(tmp_path / "whole")
    workdir = tmp_path / "run"
    for kill_at in sorted(random.sample(range(1, STEPS - 2), kills)):
        process = start(workdir, source=source)
        wait_for_step(process, workdir, kill_at)
        process.kill()
        process.communicate()
    finish(start(workdir, source=source))
    for a, b in zip(expected, weights(workdir), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_terminated_run_saves_its_step_and_goes_on(undisturbed, tmp_path):
    workdir = tmp_path / "run"
    process = start(workdir)
    wait_for_step(process, workdir, 5)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert "Interrupted: stopped by a signal at step" in errors
    saved = {int(path.stem.split("-")[1]) for path in workdir.glob("checkpoints/ckpt-*.index")}
    assert max(saved) >= 5
    finish(start(workdir))
    for a, b in zip(undisturbed, weights(workdir), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("config", ["", "{", "{}", '{"cluster": {"worker": []}, "task": 1}'])
def test_a_tf_config_that_cannot_be_read_is_answered(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(StrategyError, match="TF_CONFIG must list the workers"):
        make_strategy("auto")


def test_an_unknown_strategy_lists_the_known():
    with pytest.raises(StrategyError, match="must be one of auto, single, mirrored"):
        make_strategy("horovod")
