"""What is read back from a run's folder is checked as a stranger's file: one sentence each."""

import json
import shutil

import keras
import numpy as np
import pytest
from test_training import run, small_model

import bit_keras
from bit_keras.training import RunFolder, RunFolderError
from bit_keras.training.reading_runs import model_of_run
from bit_keras.training.suite import Suite


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of 12 steps with its log and checkpoints."""
    path = tmp_path_factory.mktemp("runs") / "run"
    run(path)
    return path


@pytest.fixture
def damaged(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


@pytest.mark.parametrize(
    "content", [b"[1]", b"null", b'"text"', b"7", b"", b"{", b"\xff\x00", b"[" * 100_000]
)
def test_settings_that_are_no_object(damaged, content):
    (damaged / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config.json is damaged .*restore it, or give"):
        RunFolder(damaged, {"steps": 12})
    assert (damaged / "config.json").read_bytes() == content


@pytest.mark.parametrize(
    "line", ["7", "null", "[]", '"x"', "{}", '{"step": "9"}', '{"step": 1, "loss": []}', "\0\0"]
)
def test_log_lines_that_are_no_scalars(damaged, line):
    log = damaged / "metrics.jsonl"
    log.write_text(f"{line}\n{log.read_text()}")
    before = log.read_bytes()
    with pytest.raises(ValueError, match=r"metrics.jsonl is damaged .*restore it, or give"):
        run(damaged)
    assert log.read_bytes() == before


def test_a_best_model_that_is_damaged_or_gone(damaged):
    with RunFolder(damaged, {"steps": 12}) as folder:
        with pytest.raises(RunFolderError, match=r"best.keras is damaged .*restore it"):
            folder.best()
        folder.save_best(small_model())
        assert isinstance(folder.best(), keras.Model)
        (damaged / "checkpoints/best.keras").write_bytes(b"PK\3\4")
        with pytest.raises(RunFolderError, match=r"best.keras is damaged .*restore it"):
            folder.best()


def test_a_result_of_no_part_deletes_nothing(tmp_path):
    """A suite deletes the checkpoints of finished parts, in folders that it takes from results."""
    (tmp_path / "photos/checkpoints").mkdir(parents=True)
    with RunFolder(tmp_path / "suite", {}, may_grow=True) as folder:
        row = {"task": "../photos", "accuracy": 1.0}
        (tmp_path / "suite/results.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(RunFolderError, match=r"line 1 of .*results.jsonl is not a result"):
            Suite(folder, lambda part: folder.path / part["task"], lambda row: row["task"] == "a")
    assert (tmp_path / "photos/checkpoints").is_dir()


def test_a_curve_with_a_strangers_result_is_refused(tmp_path, folder):
    train, test = bit_keras.data.from_directory(folder)
    options = {"workdir": tmp_path / "curve", "shots": [1], "seeds": 1, "methods": ["probe"]}
    bit_keras.few_shot_curve("BiT-XS-R26x0.25", train, test, **options)
    results = tmp_path / "curve/results.jsonl"
    for row in (
        {"method": "fine-tuning", "shots": "../..", "seed": 0, "accuracy": 1.0},
        {"method": "probe", "shots": 1, "seed": 0, "accuracy": "high", "examples_per_class": 1},
        {"task": "svhn"},
    ):
        results.write_text(json.dumps(row) + "\n")
        with pytest.raises(RunFolderError, match="is not a result of this suite"):
            bit_keras.few_shot_curve("BiT-XS-R26x0.25", train, test, **options)


def test_features_of_a_curve_that_are_damaged_are_computed_again(tmp_path, folder):
    train, test = bit_keras.data.from_directory(folder)
    options = {"workdir": tmp_path / "curve", "shots": [1], "seeds": 1, "methods": ["probe"]}
    (row,) = bit_keras.few_shot_curve("BiT-XS-R26x0.25", train, test, **options)
    for name, content in (("results.jsonl", b""), ("features.npz", b"PK\3\4 nothing")):
        (tmp_path / "curve" / name).write_bytes(content)
    (again,) = bit_keras.few_shot_curve("BiT-XS-R26x0.25", train, test, **options)
    assert again["accuracy"] == row["accuracy"]
    assert np.load(tmp_path / "curve/features.npz")["test"].ndim == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": "cat"},
        {"class_names": [1, 2]},
        {"train": []},
        {"test": "photos"},
        {"rule": [512]},
        {"train": {"name": 7}},
    ],
)
def test_settings_of_a_finished_run_whose_parts_are_wrong(tmp_path, changes):
    settings = {"loss": "softmax", "class_names": ["cat"], "train": {"name": "photos"}, **changes}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError, match=r"config.json is damaged: restore it, or name another"):
        model_of_run(tmp_path)
