"""The benchmarks' promise: contenders in processes of their own, in turn, and none is lost."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"

CONTENDER = """
import os, sys, time
from serving import Unavailable, serve
def start(settings):
    print("chatter of a library")
def prepare(settings):
    if settings.get("missing"):
        raise Unavailable("there is no such runtime")
    calls = []
    def measure():
        calls.append(1)
        if settings.get("fails") == len(calls):
            sys.exit("it broke")
        if settings.get("hangs") == len(calls):
            time.sleep(600)
        return {"time": time.time(), "calls": len(calls), "process": os.getpid()}
    return measure
serve(start, prepare, ("numpy",))
"""
QUESTION = """
import sys
from absl import app
from alternating import Contender, Question, run
def contender(name, fresh=False, **settings):
    return Contender(name, sys.path[0] + "/contender.py", {"measure": "itself", **settings}, fresh)
def main(_):
    contenders = [
        contender("stays"), contender("fresh", True), contender("breaks", fails=2),
        contender("misses", missing=True), contender("hangs", hangs=2),
    ]
    run(Question("trial", "Trial", ("calls",), reference="stays"), contenders)
app.run(main)
"""


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A function that starts the benchmark above; and what three rounds printed and wrote."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "contender.py").write_text(CONTENDER)
    (folder / "question.py").write_text(QUESTION)

    def start(*arguments):
        places = [str(BENCHMARKS), str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")]
        return subprocess.Popen(
            [sys.executable, folder / "question.py", f"--out={folder / 'out'}", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    process = start("--rounds=3", "--only=stays,fresh,breaks,misses")
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    found, plot = folder / "out/trial.json", folder / "out/trial.png"
    return start, printed, json.loads(found.read_text()), plot.read_bytes()


def test_rounds_go_through_the_contenders_and_back(answered):
    _, _, found, _ = answered
    times = {name: [m["time"] for m in rounds] for name, rounds in found["rounds"].items()}
    (stays1, stays2, stays3), (fresh1, fresh2, fresh3) = times["stays"], times["fresh"]
    assert stays1 < fresh1 < fresh2 < stays2 < stays3 < fresh3


def test_every_contender_is_a_process_and_a_fresh_one_many(answered):
    _, _, found, _ = answered
    stays, fresh = found["rounds"]["stays"], found["rounds"]["fresh"]
    assert len({m["process"] for m in stays}) == 1
    assert [m["calls"] for m in stays] == [1, 2, 3]
    assert len({m["process"] for m in fresh}) == 3
    assert [m["calls"] for m in fresh] == [1, 1, 1]


def test_medians_spread_and_ratios_of_the_same_round(answered):
    _, printed, found, _ = answered
    assert found["results"]["stays"]["calls"] == {
        "median": 2,
        "least": 1,
        "greatest": 3,
        "ratio": {"median": 1, "least": 1, "greatest": 1},
    }
    ratio = found["results"]["fresh"]["calls"]["ratio"]  # 1/1, 1/2 and 1/3
    assert ratio == {"median": 0.5, "least": pytest.approx(1 / 3), "greatest": 1}
    row = "| fresh | 1.00 (1.00 to 1.00) | 0.500 (0.333 to 1.00) |"
    assert row in printed.splitlines()


def test_what_fails_is_left_out_and_keeps_its_measurements(answered):
    _, printed, found, _ = answered
    assert found["left_out"] == {
        "breaks": "ended with code 1: it broke",
        "misses": "there is no such runtime",
    }
    assert len(found["rounds"]["breaks"]) == 1
    assert "- misses: there is no such runtime." in printed.splitlines()


def test_machine_versions_and_plot_are_told(answered):
    _, printed, found, plot = answered
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["cpu"] in printed
    assert set(found["versions"]) == {"numpy"}
    assert "--rounds=3" in found["command"]
    assert plot.startswith(b"\x89PNG")


def test_a_name_of_no_contender_is_answered_with_those_there_are(answered):
    start, *_ = answered
    process = start("--only=nobody")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.strip().endswith(
        "error: --only=nobody names no contender; there are stays, fresh, breaks, misses, hangs."
    )


def test_an_interrupted_benchmark_tells_what_it_measured_and_ends_its_contenders(answered):
    start, *_ = answered
    process = start("--rounds=2", "--only=stays,hangs")
    for line in process.stderr:
        if line.startswith("round 1, hangs"):
            contender = int(line.replace(",", "").split()[-1])
            break
    time.sleep(0.2)  # in its second round the contender hangs
    process.terminate()
    printed, errors = process.communicate()
    assert process.returncode == 130
    assert "| stays | 1.00 (1.00 to 1.00) |" in printed
    assert errors.strip().endswith("interrupted; the table has what was measured till then")
    assert not pathlib.Path(f"/proc/{contender}").exists()
