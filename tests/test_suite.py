"""Suites of many parts: what is done, what is missing, and what is deleted when."""

import json

import pytest

from bit_keras.training import RunFolder
from bit_keras.training.suite import Suite

PARTS = [{"task": "a", "seed": 0}, {"task": "a", "seed": 1}, {"task": "b", "seed": 0}]


@pytest.fixture
def run(tmp_path):
    with RunFolder(tmp_path / "run", {"model": "m"}, may_grow=True) as run:
        yield run


def folder_of(run):
    """Parts of task b have no folder of their own."""
    return lambda part: run.path / f"a-{part['seed']}" if part["task"] == "a" else None


def test_a_part_is_missing_until_its_result_is_recorded(run):
    suite = Suite(run)
    assert suite.missing(PARTS) == PARTS
    suite.record(PARTS[1], accuracy=0.5, group="x")
    assert suite.missing(PARTS) == [PARTS[0], PARTS[2]]
    assert run.results() == [{"task": "a", "seed": 1, "accuracy": 0.5, "group": "x"}]
    assert Suite(run).missing(PARTS) == [PARTS[0], PARTS[2]]
    assert suite.missing([{"task": "a", "seed": 2}]) == [{"task": "a", "seed": 2}]


def test_checkpoints_are_deleted_once_a_result_is_recorded(run):
    suite = Suite(run, folder_of(run))
    for part in PARTS[:2]:
        (suite.start(part) / "checkpoints").mkdir(parents=True)
    suite.record(PARTS[0], accuracy=0.5)
    assert not (run.path / "a-0/checkpoints").exists()
    assert (run.path / "a-1/checkpoints").exists()
    (run.path / "a-0/checkpoints").mkdir()  # as if killed between the record and the deletion
    Suite(run, folder_of(run))
    assert not (run.path / "a-0/checkpoints").exists()
    assert (run.path / "a-1/checkpoints").exists()
    suite.record(PARTS[2], accuracy=0.5)  # has no folder


def test_a_part_that_was_finished_but_not_recorded_can_start_again(run):
    suite = Suite(run, folder_of(run))
    folder = suite.start(PARTS[0])
    with RunFolder(folder, {"task": "a"}) as part:
        part.finish({"accuracy": 0.5})
    with pytest.raises(ValueError, match="a finished run already"):
        RunFolder(folder, {"task": "a"})
    assert suite.start(PARTS[0]) == folder
    RunFolder(folder, {"task": "a"}).close()
    assert suite.start(PARTS[2]) is None
    assert json.loads((run.path / "config.json").read_text()) == {"model": "m"}
