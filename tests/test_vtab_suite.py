"""VTAB-1k as a suite, on made-up images. As a program (WORKDIR MODEL), the suite that is killed."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import graphs_of_training, named_weights
from test_vtab import SIZES, scenes

import bit_keras
from bit_keras import HyperRule, data
from bit_keras.classification.vtab import MissingTasksError, as_table, run_vtab, scalars, tables
from bit_keras.training import RunFolder

QUICK = {"rule": HyperRule(2, 4, 0.01, 0, (), 36, 32, 0.0), "batch_split": 1}
FEW = ("cifar100", "svhn", "eurosat", "clevr-count")
TRIED = (*FEW, "dmlab", "dsprites-xpos")  # of each augmentation; test_vtab.py reads all nineteen


def made_up(name):
    examples = scenes if "objects" in data.VTAB[name].features else None
    with tfds.testing.mock_data(num_examples=6, as_dataset_fn=examples):
        return data.from_vtab(name, counts=SIZES[name][0])


def scores(workdir):
    """{task: (accuracy, about this loss)}: accuracies of few images do not tell runs apart."""
    files = pathlib.Path(workdir).glob("tasks/*/metrics.json")
    metrics = {file.parent.name: json.loads(file.read_text()) for file in files}
    return {
        name: (m["accuracy"], pytest.approx(m["loss"], rel=1e-4)) for name, m in metrics.items()
    }


def lines(workdir):
    file = pathlib.Path(workdir) / "results.jsonl"
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of a model of one unit."""
    file = tmp_path_factory.mktemp("model") / "tiny.npz"
    weights = named_weights(bit_keras.ResNetV2((1,), 0.25, 0)).variables
    np.savez(file, **{f"resnet/{variable.path}": variable.numpy() for variable in weights})
    return file


@pytest.fixture(scope="module")
def suite(model, tmp_path_factory):
    """(the folder of a suite, what it returned)."""
    workdir = tmp_path_factory.mktemp("suite")
    options = {"tasks": TRIED[::-1], "read": made_up, "command": "bit-x --y"}
    return workdir, run_vtab(model, workdir=workdir, **options, **QUICK)


def test_tasks_are_run_each_by_its_own_rules(suite):
    workdir, results = suite
    assert [(row["task"], row["group"]) for row in results] == [
        (name, data.VTAB[name].group) for name in TRIED
    ]
    assert results == [json.loads(line) for line in lines(workdir)]
    for row in results:
        folder = workdir / "tasks" / row["task"]
        config = json.loads((folder / "config.json").read_text())
        assert config["augmentations"] == sorted(data.VTAB[row["task"]].augmentations)
        assert len(config["class_names"]) == data.VTAB[row["task"]].num_classes
        assert config["rule"]["steps"] == 2
        found = json.loads((folder / "metrics.json").read_text())
        assert row["accuracy"] == found["accuracy"]
        assert row["num_test"] == found["num_test"] in (6, 16)
        assert not {"checkpoints", "model"} & {path.name for path in folder.iterdir()}
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics == scalars(results)
    page = (workdir / "report.html").read_text()
    assert all(name in page for name in ("bit-x --y", "tiny.npz on VTAB-1k", *TRIED))
    augmentations = {data.VTAB[name].augmentations for name in TRIED}
    assert augmentations == {task.augmentations for task in data.VTAB.values()}


def test_folders_with_an_older_spelling_of_a_group_go_on(suite, model, tmp_path):
    workdir, results = suite
    for name in ("config.json", "results.jsonl"):
        text = (workdir / name).read_text().replace("specialized", "specialised")
        (tmp_path / name).write_text(text)
    assert "specialised" in lines(tmp_path)[2]
    assert run_vtab(model, workdir=tmp_path, tasks=TRIED, read=None, **QUICK) == results
    assert json.loads((tmp_path / "metrics.json").read_text()) == scalars(results)
    assert "specialised" not in (tmp_path / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_suite_goes_on_and_ends_like_an_undisturbed_one(suite, model, tmp_path):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    log = open(tmp_path / "log", "w")  # noqa: SIM115 (closed with the process)
    process = subprocess.Popen(
        [sys.executable, __file__, tmp_path / "run", model], env=environment, stderr=log
    )
    while len(lines(tmp_path / "run")) < 2:
        assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
        time.sleep(0.02)
    process.kill()
    process.wait()
    log.close()

    def finished():
        folders = [tmp_path / "run/tasks" / name for name in FEW[:2]]
        files = [file for folder in folders for file in folder.glob("*.*")]
        return {file: file.stat().st_mtime_ns for file in files}

    before, recorded = finished(), lines(tmp_path / "run")
    left = tmp_path / "run/tasks" / FEW[0] / "checkpoints"
    left.mkdir()  # as if killed before they were deleted
    assert len(recorded) < len(FEW)
    alive = []

    def counted(name):
        alive.append(graphs_of_training())
        return made_up(name)

    results = run_vtab(model, workdir=tmp_path / "run", tasks=FEW, read=counted, **QUICK)
    assert len(set(alive)) == 1  # or every task would keep its model in memory
    assert lines(tmp_path / "run")[: len(recorded)] == recorded
    assert finished() == before
    assert not left.exists()
    whole = scores(suite[0])
    assert scores(tmp_path / "run") == {name: whole[name] for name in FEW}
    assert [row["task"] for row in results] == list(FEW)


@pytest.mark.slow
def test_a_task_that_cannot_be_read_is_skipped(model, tmp_path, monkeypatch):
    asked = ("svhn", "resisc45", "eurosat", "dtd")
    read = []

    def partly(name):
        read.append(name)
        if name == "svhn" and read.count(name) == 1:
            raise KeyboardInterrupt  # not a real signal, which may reach pytest's worker instead
        if name == "resisc45":
            return data.from_vtab(name, data_dir=tmp_path / "data")
        return made_up(name)

    def run(read=partly, tasks=asked):
        return run_vtab(model, workdir=tmp_path / "run", tasks=tasks, read=read, **QUICK)

    def cut_off(*_, **__):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # ends the suite at once
        run()
    assert read == ["dtd", "svhn"]  # the order of the benchmark
    monkeypatch.setattr(RunFolder, "record", cut_off)
    with pytest.raises(KeyboardInterrupt):  # svhn is finished and not recorded
        run()
    monkeypatch.undo()
    with pytest.raises(MissingTasksError) as told:
        run()
    assert str(told.value) == (
        "1 of 4 tasks could not be run (resisc45); the same command tries them again."
    )
    assert read[2:] == ["svhn", "svhn", "eurosat", "resisc45"]
    (missing,) = [row for row in told.value.results if "missing" in row]
    assert missing["missing"].startswith("resisc45 has files that must be downloaded by hand: get")
    assert missing["missing"] in (tmp_path / "run/report.html").read_text()
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert list(metrics) == ["dtd", "svhn", "eurosat"]

    results = run(made_up, ["resisc45"])  # what was found before is not lost
    assert [row["task"] for row in results] == ["dtd", "svhn", "eurosat", "resisc45"]
    assert metrics.items() < json.loads((tmp_path / "run/metrics.json").read_text()).items()
    with pytest.raises(ValueError, match=r"holds another run, which differs in seed \(0 there"):
        run_vtab(model, workdir=tmp_path / "run", read=made_up, seed=1, **QUICK)


@pytest.mark.parametrize(("steps", "lr"), [(2, 1e30), (1, 1e38)])  # the second only in its test
def test_a_training_that_diverges_is_reported(model, tmp_path, steps, lr):
    settings = {**QUICK, "rule": QUICK["rule"].replace(base_lr=lr, steps=steps)}
    with pytest.raises(MissingTasksError, match=r"^1 of 1 tasks could not be run \(svhn\)") as told:
        run_vtab(model, workdir=tmp_path / "run", tasks=["svhn"], read=made_up, **settings)
    (row,) = told.value.results
    assert "not finite" in row["missing"]
    assert not (tmp_path / "run/metrics.json").exists()


def test_mistakes_are_found_before_anything_is_read(model, tmp_path):
    def never(name):
        raise AssertionError

    with pytest.raises(data.DataError, match="no task 'clevr'; did you mean clevr-count"):
        run_vtab(model, workdir=tmp_path / "run", tasks=["svhn", "clevr"], read=never)
    with pytest.raises(ValueError, match=r"no model named 'BiT-M-R50x2'.*did you mean"):
        run_vtab("BiT-M-R50x2", workdir=tmp_path / "run", read=never)
    assert not (tmp_path / "run").exists()


def made_up_results(names):
    """The n-th of the 19 tasks has an accuracy of n/100."""
    numbers = {name: n for n, name in enumerate(data.VTAB, start=1)}
    return [
        {
            "task": name,
            "group": data.VTAB[name].group,
            "accuracy": numbers[name] / 100,
            "num_test": 1000,
            "seconds": 7.4,
        }
        for name in names
    ]


def test_means_are_of_whole_groups():
    found = scalars(made_up_results(data.VTAB))
    # 1..7, 8..11, 12..19
    assert found["natural"] == pytest.approx(0.04)
    assert found["specialized"] == pytest.approx(0.095)
    assert found["structured"] == pytest.approx(0.155)
    assert found["vtab_mean"] == pytest.approx(0.10)
    assert found["smallnorb-elevation"] == 0.19
    assert len(found) == 23
    part = ("cifar100", *list(data.VTAB)[7:11])
    assert scalars(made_up_results(part)).keys() == {"specialized", *part}


def test_the_table_shows_published_results_and_what_is_partial():
    missing = {"task": "svhn", "group": "natural", "missing": "no | network"}
    results = [*made_up_results(["caltech101", "dtd"]), missing]
    (header, rows), (means_header, means) = tables(results).values()
    assert header[5:7] == ("ResNet-50, ILSVRC-2012", "ResNet-50, from scratch")
    assert rows[0] == ("caltech101", "natural", "1.00", "1,000", "7", "90.95", "38.24", "")
    assert rows[2] == ("svhn", "natural", "missing", "", "", "87.32", "66.07", "no | network")
    assert means_header == ("model", "all 19", "natural", "specialized", "structured", "source")
    assert means[0] == ("this model", "-", "2.00 (2 of 7)", "-", "-", "")
    assert means[1][:3] == ("BiT-L-R152x4", "76.29", "-")
    assert means[4][:5] == ("BiT-M-R152x4", "73.51", "80.77", "85.67", "61.08")
    assert len(means) == 1 + len(data.VTAB_PUBLISHED)
    complete = tables(made_up_results(data.VTAB))["VTAB-1k, means"][1][0]
    assert complete == ("this model", "10.00", "4.00", "9.50", "15.50", "")

    first, second = as_table(results).split("\n\n")
    assert [len(text.splitlines()) for text in (first, second)] == [2 + 3, 2 + len(means)]
    for text, columns in ((first, 8), (second, 6)):
        for line in text.splitlines():
            assert line.replace(r"\|", "").count("|") == columns + 1
    assert r"no \| network" in first


if __name__ == "__main__":
    workdir, model = sys.argv[1:]
    run_vtab(model, workdir=workdir, tasks=FEW, read=made_up, **QUICK)
