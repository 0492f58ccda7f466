"""Faults of docs/reliability.md that no other file of tests has, and that the table names tests."""

import itertools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
from conftest import named_weights
from light_import import LIGHT
from test_training import interrupt, lines, run

import bit_keras
from bit_keras.checkpoints import save_npz
from bit_keras.training import RunFolder, RunFolderError

TESTS = pathlib.Path(__file__).parent
NOBODY = 65534


def assert_equal_weights(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def stopped(path):
    """Stops a run of 12 steps at step 9, whose checkpoints are of the steps 4 and 8."""
    with pytest.raises(KeyboardInterrupt):
        run(path, evaluate=interrupt, every={"evaluate": 9})
    return path


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    return stopped(tmp_path_factory.mktemp("runs") / "stopped")


@pytest.fixture
def copy(stopped_once, tmp_path):
    return shutil.copytree(stopped_once, tmp_path / "run")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "undisturbed")


def test_every_row_of_the_table_names_tests_that_are_there():
    text = (TESTS.parent / "docs/reliability.md").read_text()
    table = text.partition("\n## ")[0].splitlines()
    rows = [line for line in table if line.startswith("| ")][2:]
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"`(test_\w+)\.py`: `(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (TESTS / f"{file}.py").read_text(), (file, test)


@pytest.mark.parametrize("content", [b"", b'model_checkpoint_path: "ckp', b"\0" * 100, None])
def test_the_list_of_checkpoints_may_be_cut_short_or_gone(copy, undisturbed, content):
    listed = copy / "checkpoints/checkpoint"
    listed.unlink() if content is None else listed.write_bytes(content)
    with RunFolder(copy, {"steps": 12}) as folder:
        assert folder.last_checkpoint() == os.fspath(copy / "checkpoints/ckpt-8")
    assert_equal_weights(run(copy), undisturbed)


@pytest.mark.parametrize("length", [0, 10, 100])
@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_a_checkpoint_that_was_cut_short_leaves_the_one_before(copy, undisturbed, part, length):
    file = copy / f"checkpoints/ckpt-8.{part}"
    file.write_bytes(file.read_bytes()[:length])
    assert_equal_weights(run(copy), undisturbed)
    assert [line["step"] for line in lines(copy)] == [5, 10, 12]


@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_jumps_changes_nothing(tmp_path, undisturbed, monkeypatch, days):
    now, calls = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: now() + 86_400 * days * next(calls))
    path = stopped(tmp_path / "run")
    assert_equal_weights(run(path), undisturbed)


TAKES_THE_FOLDER = """
import sys, time, test_training as t
def wait():
    print("training", flush=True)
    time.sleep(300)
t.run(sys.argv[1], evaluate=wait, every={"evaluate": 6})
"""


def test_two_processes_do_not_train_in_one_folder(tmp_path, undisturbed):
    path = tmp_path / "run"
    command = [sys.executable, "-c", TAKES_THE_FOLDER, path]
    with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "training\n"
        with pytest.raises(RunFolderError, match="another process is at the run"):
            run(path)
        first.send_signal(signal.SIGKILL)
    assert_equal_weights(run(path), undisturbed)  # the lock ends with its process


@pytest.fixture
def read_only():
    """A folder with a published file that was put there by hand, in which nobody may write."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        path.chmod(0o755)
        (path / "a.npz").write_bytes(b"PK")
        yield path
        path.chmod(0o755)


def fetched_by_nobody(cache):
    code = f"""{LIGHT}
import encodings.idna, http.client, os, urllib.request
from bit_keras.checkpoints import DownloadError, fetch
if os.getuid() == 0:  # root may write anywhere
    os.setuid({NOBODY})
for name in ("a.npz", "b.npz"):
    try:
        print(fetch(name, base_url="http://127.0.0.1:9", cache_dir={str(cache)!r}))
    except DownloadError as error:
        print(error)
"""
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_read_only_cache_serves_what_it_holds(read_only):
    from bit_keras.checkpoints import fetch

    fetch("a.npz", base_url="http://127.0.0.1:9", cache_dir=read_only)  # records its checksum
    read_only.chmod(0o555)
    first, second = fetched_by_nobody(read_only)
    assert first == str(read_only / "a.npz")
    assert re.match(rf"cannot keep {read_only}/b.npz \(.*\): make room or set BIT_KERAS_C", second)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


FULL_DISK = """
import resource, signal
import bit_keras
model = bit_keras.load("source.npz")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for format, path in (
    ("npz", "m.npz"),
    ("saved_model", "served"),
    ("onnx", "m.onnx"),
    ("openvino", "ir"),
    ("litert", "m.tflite"),
):
    try:
        bit_keras.export(model, path, format=format, overwrite=True, size=64)
    except bit_keras.exporting.ExportError as error:
        print("refused:", error)
print("last one:", flush=True)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # now the kernel kills who writes more
bit_keras.export(model, "m.npz", format="npz", overwrite=True, size=64)
"""


def test_a_full_disk_or_a_kill_leaves_old_exports_whole(tmp_path):
    small = named_weights(bit_keras.ResNetV2((1,), 0.25, 5))
    save_npz(tmp_path / "source.npz", {v.path: v.numpy() for v in small.variables})
    (tmp_path / "served").mkdir()
    (tmp_path / "ir").mkdir()
    for old in ("m.npz", "served/saved_model.pb", "m.onnx", "ir/model.xml", "m.tflite"):
        (tmp_path / old).write_text("old")
    before = contents(tmp_path)
    # A file that may not grow is how a process meets a full disk without one.
    command = [sys.executable, "-c", FULL_DISK]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGXFSZ, done.stderr
    assert [line[:9] for line in done.stdout.splitlines()] == ["refused: "] * 5 + ["last one:"]
    [left] = tmp_path.glob(".*")  # of the process that was killed
    assert left.name.startswith(".m.npz.")
    shutil.rmtree(left)
    assert contents(tmp_path) == before
