"""Atomic writes and locks, with real processes that are killed."""

import json
import math
import os
import signal
import subprocess
import sys

import pytest
from light_import import LIGHT

from bit_keras.files import (
    lock,
    move_file,
    new_folder,
    replace_file,
    replacing,
    try_lock,
    write_bytes,
    write_json,
    write_text,
)


@pytest.fixture
def start():
    """Starts a program in a real process, and gives it back after its first line of output."""
    processes = []

    def run(program):
        code = f"{LIGHT}; import time; from bit_keras import files\n{program}"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        process.stdout.readline()
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def names(folder):
    return sorted(os.listdir(folder))


def test_a_file_is_made_and_replaced(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    for name in ("new/folder", "empty"):
        path = tmp_path / name
        (tmp_path / "empty").mkdir(exist_ok=True)
        with new_folder(path) as written:
            (written / "a.txt").write_text("a")
            assert not path.exists() or not names(path)
        assert names(path) == ["a.txt"]
    (tmp_path / "file").touch()
    for name, error, message in (
        ("empty", ValueError, "empty holds other files; give a new folder"),
        ("file/below", ValueError, r"cannot write .*file.below \("),
        ("failed", KeyError, "in the block"),
    ):
        with pytest.raises(error, match=message), new_folder(tmp_path / name):
            raise KeyError("in the block")
    assert names(tmp_path) == ["empty", "file", "new"]
    assert names(tmp_path / "new") == ["folder"]


def test_a_temporary_path_ends_as_its_writer_needs(tmp_path):
    with replacing(tmp_path / "a.keras", suffix=".keras") as temporary:
        assert temporary.suffix == ".keras"
        temporary.write_bytes(b"x")
    assert names(tmp_path) == ["a.keras"]


def test_an_error_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(error):
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(error)
        assert path.read_text() == "old"
        assert names(tmp_path) == ["a.txt"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):  # the rename itself fails
        write_text(tmp_path / "folder", "x")
    assert names(tmp_path) == ["a.txt", "folder"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("before", ["open", "replace"])
def test_a_process_killed_before_the_rename_leaves_the_old_file(tmp_path, start, before):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    stop = "print('here', flush=True) or time.sleep(60)"
    hold = {
        "open": f"files.os.fsync = lambda _: {stop}",
        "replace": f"files.os.replace = lambda *_: {stop}",
    }
    process = start(f"{hold[before]}\nfiles.write_text({str(path)!r}, 'new' * 100_000)")
    process.kill()
    process.wait()
    assert path.read_text() == "old"
    (left,) = set(names(tmp_path)) - {"a.txt"}
    assert left.startswith(".a.txt.")
    assert left.endswith(".tmp")
    write_text(path, "newer")  # what was left is in nobody's way
    assert path.read_text() == "newer"


def test_the_content_reaches_the_disk_before_the_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: calls.append(os.fstat(f).st_ino) or fsync(f))
    monkeypatch.setattr(os, "replace", lambda *a: calls.append("replace") or replace(*a))
    write_bytes(tmp_path / "a.txt", b"x")
    file, folder = (tmp_path / "a.txt").stat().st_ino, tmp_path.stat().st_ino
    assert calls == [file, "replace", *([folder] if hasattr(os, "O_DIRECTORY") else [])]


def test_a_finished_file_is_moved(tmp_path):
    (tmp_path / "a.partial").write_bytes(b"new")
    (tmp_path / "a").write_bytes(b"old")
    move_file(tmp_path / "a.partial", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


def test_json_is_written_for_people_and_for_every_parser(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 0.5]})
    assert path.read_text() == '{\n  "a": [\n    1,\n    0.5\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": math.nan})
    assert json.loads(path.read_text()) == {"a": [1, 0.5]}


def test_text_is_utf_8_and_what_cannot_be_encoded_is_the_callers_choice(tmp_path):
    write_text(tmp_path / "a", "é\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9\n"
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a", "\udcff")
    write_text(tmp_path / "a", "\udcff", errors="replace")
    assert (tmp_path / "a").read_bytes() == b"?"


def test_a_file_the_user_named_is_made_with_its_folders_or_a_sentence(tmp_path):
    replace_file(tmp_path / "new/folder/a.html", b"x")
    assert (tmp_path / "new/folder/a.html").read_bytes() == b"x"
    with pytest.raises(ValueError, match=r"cannot write .*a\.html/b \(.*choose another place"):
        replace_file(tmp_path / "new/folder/a.html/b", b"x")


def test_a_lock_excludes_another_process_until_that_ends(tmp_path, start):
    path = tmp_path / ".lock"
    holder = f"file = open({str(path)!r}, 'w'); print(files.try_lock(file), flush=True)"
    process = start(f"{holder}; time.sleep(60)")
    with open(path, "w") as file:
        assert not try_lock(file)
        process.kill()
        process.wait()
        assert try_lock(file)
        other = start(f"{holder}; sys.exit(not files.try_lock(file))")
        assert other.wait() == 1
    assert start(f"{holder}; sys.exit(not files.try_lock(file))").wait() == 0


def test_of_two_who_wait_for_a_lock_one_goes_after_the_other(tmp_path, start, caplog):
    path, trace = tmp_path / ".lock", tmp_path / "trace"
    program = f"""
with files.lock({str(path)!r}, 'wait'):
    print('here', flush=True)
    with open({str(trace)!r}, 'a') as trace:
        trace.write('in ')
        trace.flush()
        time.sleep(0.5)
        trace.write('out ')
"""
    process = start(program)
    with lock(path, "another process has it"), open(trace, "a") as file:
        file.write("in out")
    assert process.wait() == 0
    assert trace.read_text() == "in out in out"
    assert [record.message for record in caplog.records] == ["another process has it"]
