"""The studies of examples/, each at the smallest size: its table, and that nothing is run twice."""

import importlib
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from absl import flags

import bit_keras
from bit_keras import checkpoints

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


@pytest.fixture
def study(tmp_path, monkeypatch, capsys):
    """Runs a program's `main` in this process; returns (rows of its table, what it recorded)."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        module = importlib.import_module(name)
        if hasattr(module, "UNITS"):
            monkeypatch.setattr(module, "UNITS", (1, 1, 1, 1))
        flags.FLAGS([name, "--processes=1", "--seeds=1", "--logdir=runs", *arguments])
        tables = []
        for _ in range(2):
            module.main()
            tables.append(table_of(capsys.readouterr().out))
            recorded = pathlib.Path("runs/results.jsonl").read_text().splitlines()
        assert tables[0] == tables[1]
        return tables[0], recorded  # of the second call, which found all there

    before = set(flags.FLAGS)
    yield run
    for name in set(flags.FLAGS) - before:  # the programs have flags of the same names
        delattr(flags.FLAGS, name)
    for name in ("from_scratch", "upstream_size", "normalization"):
        sys.modules.pop(name, None)


def table_of(text):
    rows = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len({len(row) for row in rows}) == 1
    return [rows[0], *rows[2:]]


@pytest.fixture
def small(tmp_path):
    """A file of weights at the embedded model's scale, by its name, and quicker to trace."""
    model = bit_keras.ResNetV2((1, 1, 1, 1), 1 / 16, 0)
    path = tmp_path / "BiT-XS-small.npz"
    checkpoints.save_npz(path, {v.path: v.numpy() for v in model.variables})
    return f"--model={path}"


@pytest.fixture
def glyphs(tmp_path):
    """Six characters of ten glyphs each."""
    characters = np.random.default_rng(0).integers(0, 2, (6, 12, 12), np.uint8)
    images = 255 * np.kron(characters, np.ones((4, 4), np.uint8))
    labels = np.arange(60, dtype=np.int32) % 6
    file = tmp_path / "glyphs.npz"
    np.savez(file, images=images[labels], labels=labels, class_names=np.array(list("ABCDEF")))
    return f"--glyphs={file}"


def test_from_scratch(study, small):
    (header, *rows), recorded = study(
        "from_scratch", small, "--shots=5", "--schedules=2", "--steps=1", "--batch=8"
    )
    assert header[1:3] == ["pre-trained, 1x", "random start, 2x"]
    assert [row[0] for row in rows] == ["5"]
    assert len(recorded) == 2
    assert pathlib.Path("runs/from_scratch.png").stat().st_size > 10_000


def test_upstream_size(study, glyphs):
    (header, *rows), recorded = study(
        *("upstream_size", glyphs, "--classes=3", "--widths=0.0625", "--steps=2,1"),
        *("--batch=8", "--tuning_steps=1", "--tuning_batch=8"),
    )
    assert header[3:] == ["R26x0.0625", "upstream"]
    assert [row[:3] for row in rows] == [["1", "3", "30"], ["2", "3", "30"]]
    assert len(recorded) == 4
    assert pathlib.Path("runs/upstream_size.png").stat().st_size > 10_000


def test_normalization(study, glyphs, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    module = importlib.import_module("normalization")
    kind = ("batch", "plain")
    monkeypatch.setattr(module, "PUBLISHED", {kind: module.PUBLISHED[kind]})
    (_, *rows), recorded = study(
        *("normalization", glyphs, "--width=0.0625", "--steps=2", "--batch=8"),
        *("--tuning_steps=1", "--tuning_batch=8"),
    )
    assert rows[0][:2] + rows[0][-2:] == [*kind, "75.6", "67.72"]
    assert len(recorded) == 2

    # Batch normalisation's moving statistics were updated, and are what it tests with.
    model = keras.saving.load_model("runs/batch-plain/model.keras", compile=False)
    moving = [v for v in model.variables if v.name == "moving_variance"]
    assert len(moving) == 13
    assert all(np.abs(v.numpy() - 1).max() > 0.01 for v in moving)
    images = np.random.default_rng(0).uniform(size=(3, 32, 32, 3)).astype("float32")
    alone = model(images[:1], training=False)
    np.testing.assert_allclose(model(images, training=False)[:1], alone, atol=1e-5)
    assert np.abs(model(images, training=True)[:1] - alone).max() > 1e-3


def test_hyperrule_changes_in_two_processes(small, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, EXAMPLES / "hyperrule_changes.py", small, "--changes=head only"),
            *("--seeds=1", "--steps=2", "--batch=8"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    header, *rows = table_of(done.stdout)
    assert header[2] == "gain over HyperRule"
    assert {row[0] for row in rows} == {"HyperRule", "head only"}
    recorded = (tmp_path / "runs/hyperrule_changes/results.jsonl").read_text()
    assert len(recorded.splitlines()) == 2
