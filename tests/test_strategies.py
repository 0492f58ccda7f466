"""One run, however it is shared out or cut off: real processes, really killed."""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from bit_keras.training import StrategyError, make_strategy
from bit_keras.training.strategies import meet_workers

PROGRAM = pathlib.Path(__file__).with_name("training_program.py")
STEPS = 20


def start(strategy, *runs, **environment):
    """The program; `runs` are (workdir, source, workdir, source, ...)."""
    command = [sys.executable, PROGRAM, strategy, *runs]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]


def weights(workdir, worker=0):
    with np.load(f"{workdir}.{worker}.npz") as file:
        return [file[name] for name in file.files]


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


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """{source: the weights of a run on one device that nothing happened to}."""
    root = tmp_path_factory.mktemp("undisturbed")
    files = {"arrays": root / "a", "remat": root / "r", folder: root / "f", "tfds": root / "t"}
    finish(start("single", *(word for name, file in files.items() for word in (file, name))))
    return {name: weights(file) for name, file in files.items()}


def largest_relative_difference(a, b):
    return max(
        np.max(np.abs(x - y)) / max(np.max(np.abs(x)), 1e-3) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.slow
def test_two_replicas_end_with_the_weights_of_one(undisturbed, tmp_path):
    runs = {source: tmp_path / source for source in ("arrays", "remat")}
    finish(start("mirrored", *(word for name, file in runs.items() for word in (file, name))))
    for run in runs.values():
        assert largest_relative_difference(undisturbed["arrays"], weights(run)) < 1e-4


@pytest.mark.slow
def test_rematerialized_units_change_no_weight(undisturbed):
    """Nor on two replicas, see above, and on two workers, whose last steps are so below."""
    for a, b in zip(undisturbed["arrays"], undisturbed["remat"], strict=True):
        np.testing.assert_array_equal(a, b)


def start_workers(workdir, second_workdir=None, source="arrays"):
    with socket.socket() as a, socket.socket() as b:
        for s in (a, b):
            s.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in (a, b)]
    workers = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        own = second_workdir if index and second_workdir else workdir
        workers.append(start("multiworker", own, source, TF_CONFIG=config, WORKER=str(index)))
    return workers


@pytest.mark.slow
def test_two_workers_end_with_the_weights_of_one_whatever_happens(undisturbed, tmp_path):
    workdir = tmp_path / "run"

    workers = start_workers(workdir)
    wait_for_step(workers[0], workdir, 4)
    workers[1].send_signal(signal.SIGTERM)  # to one, and both stop at the same step
    stops = [
        re.search(r"Interrupted: (stopped by a signal at step .*)", worker.communicate()[1])
        for worker in workers
    ]
    assert stops[0][1] == stops[1][1]
    step = re.search(r"at step (\d+)", stops[0][1])[1]

    for worker in start_workers(workdir, second_workdir=tmp_path / "of its own"):
        assert f"different steps ({step}, 0); give all of them" in worker.communicate()[1]

    workers = start_workers(workdir)
    wait_for_step(workers[0], workdir, 12)
    workers[1].kill()
    workers[1].communicate()
    assert re.search("worker was lost .* start all of them again", workers[0].communicate()[1])

    for worker in start_workers(workdir, source="remat"):
        finish(worker)
    for index in range(2):
        assert largest_relative_difference(undisturbed["arrays"], weights(workdir, index)) < 1e-4
    assert json.loads((workdir / "metrics.json").read_text())["steps"] == STEPS


def call_in_vain(addresses, index):
    with contextlib.suppress(StrategyError):
        meet_workers(addresses, index, seconds=2)


def test_workers_that_do_not_come_are_named():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    others = ["127.0.0.1:1", "127.0.0.1:2"]
    with pytest.raises(StrategyError, match=r"worker 1 could not meet the others at 127"):
        meet_workers([address, *others], 1, seconds=0.3)
    one = threading.Thread(target=call_in_vain, args=([address, *others], 1))
    one.start()
    with pytest.raises(StrategyError, match=r"^workers 2 \(127.0.0.1:2\) did not come within 2 s"):
        meet_workers([address, *others], 0, seconds=2)
    one.join()


def test_a_tpu_is_reached_by_the_documented_calls(monkeypatch):
    """No TPU is here: what can be tested is which calls are made, with what, in which order."""
    calls = []

    def stand_in(name, answer=None):
        return lambda *args: calls.append((name, *args)) or answer

    monkeypatch.setenv("TPU_NAME", "grpc://10.0.0.2:8470")
    cluster = tf.distribute.cluster_resolver
    monkeypatch.setattr(cluster, "TPUClusterResolver", stand_in("resolver", "resolved"))
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", stand_in("connect"))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", stand_in("initialize"))
    monkeypatch.setattr(tf.distribute, "TPUStrategy", stand_in("strategy", "the strategy"))
    for name in ("tpu", "auto"):
        assert make_strategy(name) == "the strategy"
        assert calls == [
            ("resolver", "grpc://10.0.0.2:8470"),
            ("connect", "resolved"),
            ("initialize", "resolved"),
            ("strategy", "resolved"),
        ]
        calls.clear()


def last_step(workdir):
    file = workdir / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def wait_for_step(process, workdir, step):
    while last_step(workdir) < step and process.poll() is None:
        time.sleep(0.01)


def kill_at_random(process, workdir, first=1):
    wait_for_step(process, workdir, random.randint(first, max(first, STEPS - 3)))
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_killed_run_ends_bit_for_bit_like_an_undisturbed_one(undisturbed, folder, tmp_path):
    """Terminated in its first of two trainings, which saves its step; then killed in each."""
    one, two = tmp_path / "one", tmp_path / "two"
    command = "single", one, folder, two, "tfds"
    process = start(*command)
    wait_for_step(process, one, 5)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert "Interrupted: stopped by a signal at step" in errors
    saved = {int(path.stem.split("-")[1]) for path in one.glob("checkpoints/ckpt-*.index")}
    assert max(saved) >= 5
    kill_at_random(start(*command), one, first=max(saved) + 1)
    kill_at_random(start(*command), two)
    finish(start(*command))
    for source, run in ((folder, one), ("tfds", two)):
        for a, b in zip(undisturbed[source], weights(run), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "config",
    [
        *("", "{", "{}", "[]", '{"cluster": {"worker": []}, "task": 1}'),
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["no port"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_tf_config_that_cannot_be_read_is_answered(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(StrategyError, match="TF_CONFIG must list the workers"):
        make_strategy("auto")


def test_an_unknown_strategy_lists_the_known():
    with pytest.raises(StrategyError, match="must be one of auto, single, mirrored"):
        make_strategy("horovod")
