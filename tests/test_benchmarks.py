"""The benchmarks' promise: contenders in processes of their own, in turn, and none is lost."""

import json
import os
import pathlib
import subprocess
import sys

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
        contender("misses", missing=True),
    ]
    run(Question("trial", "Trial", ("calls",), reference="stays"), contenders)
app.run(main)
"""


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A function that runs the benchmark above; and a folder with what three rounds gave."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "contender.py").write_text(CONTENDER)
    (folder / "question.py").write_text(QUESTION)

    def run(*arguments):
        places = [str(BENCHMARKS), str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")]
        return subprocess.run(
            [sys.executable, folder / "question.py", f"--out={folder / 'out'}", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
            capture_output=True,
            text=True,
        )

    done = run("--rounds=3")
    assert done.returncode == 0, done.stderr
    return run, done, json.loads((folder / "out/trial.json").read_text()), folder / "out/trial.png"


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
    _, done, found, _ = answered
    assert found["results"]["stays"]["calls"] == {
        "median": 2,
        "least": 1,
        "greatest": 3,
        "ratio": {"median": 1, "least": 1, "greatest": 1},
    }
    ratio = found["results"]["fresh"]["calls"]["ratio"]  # 1/1, 1/2 and 1/3
    assert ratio == {"median": 0.5, "least": pytest.approx(1 / 3), "greatest": 1}
    row = "| fresh | 1.00 (1.00 to 1.00) | 0.500 (0.333 to 1.00) |"
    assert row in done.stdout.splitlines()


def test_what_fails_is_left_out_and_keeps_its_measurements(answered):
    _, done, found, _ = answered
    assert found["left_out"] == {
        "breaks": "ended with code 1: it broke",
        "misses": "there is no such runtime",
    }
    assert len(found["rounds"]["breaks"]) == 1
    assert "- misses: there is no such runtime." in done.stdout.splitlines()


def test_machine_versions_and_plot_are_told(answered):
    _, done, found, plot = answered
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["cpu"] in done.stdout
    assert set(found["versions"]) == {"numpy"}
    assert "--rounds=3" in found["command"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_name_of_no_contender_is_answered_with_those_there_are(answered):
    run, *_ = answered
    done = run("--only=nobody")
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "error: --only=nobody names no contender; there are stays, fresh, breaks, misses."
    )
