"""The studies of examples/, each at the smallest size: its table, and no job is run twice."""

import importlib
import itertools
import json
import pathlib
import statistics
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
from absl import flags

import bit_keras
from bit_keras import checkpoints
from bit_keras.models.spec import ModelSpec
from bit_keras.models.spec_files import BESIDE

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


@pytest.fixture
def study(tmp_path, monkeypatch, capsys):
    """Runs a study's `main` twice in this process; returns (rows of its table, recorded lines).

    With `results`, these are recorded before, and `main` finds all its jobs done.
    """
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments, results=None):
        module = importlib.import_module(name)
        monkeypatch.setattr(sys.modules["studies"], "VIEWS", 128)
        if hasattr(module, "UNITS"):
            monkeypatch.setattr(module, "UNITS", (1, 1))
        flags.FLAGS([name, "--processes=1", "--seeds=1", "--logdir=runs", *arguments])
        file = pathlib.Path(flags.FLAGS.logdir, "results.jsonl")
        if results:
            file.write_text("".join(json.dumps(row) + "\n" for row in results))
        tables = []
        for _ in range(2):
            module.main()
            tables.append(table_of(capsys.readouterr().out))
            recorded = file.read_text().splitlines()
        assert tables[0] == tables[1]
        assert not results or len(recorded) == len(results)
        return tables[0], recorded

    before = set(flags.FLAGS)
    yield run
    for name in set(flags.FLAGS) - before:  # the studies have flags of the same names
        delattr(flags.FLAGS, name)
    for name in (
        *("from_scratch", "upstream_size", "normalization", "hyperrule_changes"),
        *("rethinking_pretraining", "rule_scale"),
    ):
        sys.modules.pop(name, None)


def table_of(text):
    rows = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len({len(row) for row in rows}) == 1
    return [rows[0], *rows[2:]]


def made_up(*parts):
    """A result for every combination of the parts of a job's name; all accuracies differ."""
    runs = ["".join(map(str, name)) for name in itertools.product(*parts)]
    accuracies = np.random.default_rng(len(runs)).permutation(999)[: len(runs)] / 999
    return [
        {"run": run, "accuracy": a, "glyphs": 10 * len(run)}
        for run, a in zip(runs, accuracies.tolist(), strict=True)
    ]


def percent(results):
    """{run: accuracy in %}"""
    return {row["run"]: 100 * row["accuracy"] for row in results}


def spread(values, sign=""):
    mean, least, most = statistics.fmean(values), min(values), max(values)
    if len(values) == 1:
        return f"{mean:{sign}.1f}"
    return f"{mean:{sign}.1f} ({least:{sign}.1f} to {most:{sign}.1f})"


@pytest.fixture
def small(tmp_path):
    """Weights that `default_rule` trains at 32 pixels; quick to trace."""
    model = bit_keras.ResNetV2((1,), 1 / 16, 0)
    path = tmp_path / "small.npz"
    checkpoints.save_npz(path, {v.path: v.numpy() for v in model.variables})
    path.with_name(path.name + BESIDE).write_text(ModelSpec(native_size=32).to_json())
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
    settings = ("from_scratch", small, "--steps=1", "--batch=8")
    (header, *rows), recorded = study(*settings, "--shots=5", "--schedules=2")
    assert header[1:3] == ["pre-trained, 1x", "random start, 2x"]
    assert [row[0] for row in rows] == ["5"]
    assert len(recorded) == 2
    assert pathlib.Path("runs/from_scratch.png").stat().st_size > 10_000

    starts, seeds = ("pretrained-1x", "random-2x", "random-3x", "random-10x"), range(3)
    results = made_up((5, "all"), ("-shot-",), starts, "-", seeds)
    found = percent(results)
    (header, *rows), _ = study(
        *(*settings, "--shots=all,5", "--schedules=10,2,3", "--seeds=3"), results=results
    )
    assert header[1:-1] == ["pre-trained, 1x", *(f"random start, {n}x" for n in (2, 3, 10))]
    for shots, row in zip(("all", "5"), rows, strict=True):
        runs = [[found[f"{shots}-shot-{start}-{seed}"] for seed in seeds] for start in starts]
        assert row[:-1] == [shots, *map(spread, runs)]
        pretrained, *random = map(statistics.fmean, runs)
        near = [n for n, mean in zip((2, 3, 10), random, strict=True) if mean >= pretrained - 1]
        assert row[-1] == (f"{near[0]}x" if near else "more than 10x")


@pytest.fixture
def squares(tmp_path):
    """Ten images of one square each, in COCO's format; eight are trained on."""
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "square"}]}
    for i in range(10):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[8 : 40 + i, 8 : 40 + i] = 255
        PIL.Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        content["images"].append({"id": i, "file_name": f"{i}.png", "width": 64, "height": 64})
        box = {"bbox": [8, 8, 32 + i, 32 + i], "area": (32 + i) ** 2, "iscrowd": 0}
        content["annotations"].append({"id": i + 1, "image_id": i, "category_id": 1, **box})
    (tmp_path / "squares.json").write_text(json.dumps(content))
    return "--dataset=squares.json"


@pytest.mark.slow
def test_rethinking_pretraining(study, squares, tmp_path):
    model = bit_keras.ResNetV2((1, 1, 1, 1), 1 / 16, 0)
    checkpoints.save_npz("body.npz", {v.path: v.numpy() for v in model.variables})
    settings = ("rethinking_pretraining", "--model=body.npz", squares, "--steps=2", "--batch=2")
    (header, *rows), recorded = study(*settings, "--parts=3", "--schedules=2")
    assert header == ["images", "start", "2x"]
    assert [row[:2] for row in rows] == [["3", "pretrained"], ["3", "random"]]
    assert len(recorded) == 2
    config = json.loads(pathlib.Path("runs/3-random-2x-0/config.json").read_text())
    assert config["recipe"]["size"] == 64 + 32
    assert json.loads(pathlib.Path("runs/3-random-2x-0/metrics.json").read_text())["steps"] == 4
    assert pathlib.Path("runs/rethinking_pretraining.png").stat().st_size > 10_000

    starts, seeds = ("pretrained", "random"), range(2)
    results = made_up((1, 3), "-", starts, "-", (1, 3), ("x-",), seeds)
    found = percent(results)
    results = [{"run": row["run"], "ap50": row["accuracy"]} for row in results]
    (_, *rows), _ = study(
        *(*settings, "--parts=1,3", "--schedules=3,1", "--seeds=2"), results=results
    )
    for row, (part, start) in zip(rows, itertools.product((1, 3), starts), strict=True):
        runs = [[found[f"{part}-{start}-{times}x-{seed}"] for seed in seeds] for times in (1, 3)]
        assert row == [{1: "8", 3: "3"}[part], start, *map(spread, runs)]


@pytest.mark.slow
def test_rethinking_pretraining_of_a_normalization(study, squares, glyphs, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    body = importlib.import_module("rethinking_pretraining").BODY
    monkeypatch.setitem(body, "units", (1, 1, 1, 1))
    model = bit_keras.ResNetV2((1, 1, 1, 1), 1 / 16, 0)
    checkpoints.save_npz("body.npz", {v.path: v.numpy() for v in model.variables})
    sizes = ("--steps=1", "--batch=2", "--parts=1", "--schedules=1", "--pretraining_steps=1")
    (header, *rows), recorded = study(
        *("rethinking_pretraining", "--model=body.npz", squares, glyphs, *sizes),
        "--norms=batch",
    )
    assert header == ["images", "start", "1x"]
    assert [row[:2] for row in rows] == [["8", "batch norm"], ["8", "random"]]
    assert len(recorded) == 3


@pytest.mark.slow
def test_upstream_size(study, glyphs):
    settings = ("upstream_size", glyphs, "--batch=8", "--tuning_steps=1", "--tuning_batch=8")
    (header, *rows), recorded = study(*(*settings, "--classes=3", "--widths=0.0625", "--steps=2,1"))
    assert header[3:] == ["R26x0.0625", "held-out glyphs"]
    assert [row[:3] for row in rows] == [["1", "3", "30"], ["2", "3", "30"]]
    assert len(recorded) == 4
    assert pathlib.Path("runs/upstream_size.png").stat().st_size > 10_000

    widths, characters, seeds = ("0.125", "0.0625"), ("3", "all"), range(3)
    ends = ("", *(f"-to-digits-{seed}" for seed in seeds))
    results = made_up(("R26x",), widths, "-", characters, "-", (5, 40), ends)
    found = percent(results)
    (header, *rows), _ = study(
        *(*settings, "--classes=3,all", "--widths=0.125,0.0625", "--steps=40,5", "--seeds=3"),
        results=results,
    )
    assert header[3:] == ["R26x0.125", "held-out glyphs", "R26x0.0625", "held-out glyphs"]
    for (steps, some), row in zip(itertools.product((5, 40), characters), rows, strict=True):
        runs = [f"R26x{width}-{some}-{steps}" for width in widths]
        assert row[:3] == [str(steps), some, str(10 * len(runs[0]))]
        assert row[3::2] == [spread([found[run + end] for end in ends[1:]]) for run in runs]
        assert row[4::2] == [f"{found[run]:.1f}" for run in runs]


@pytest.mark.slow
def test_normalization(study, glyphs, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    module = importlib.import_module("normalization")
    settings = ("normalization", glyphs, "--width=0.0625", "--steps=2", "--batch=8")
    settings += ("--tuning_steps=1", "--tuning_batch=8")
    kind = ("batch", "plain")
    with monkeypatch.context() as patch:
        patch.setattr(module, "PUBLISHED", {kind: module.PUBLISHED[kind]})
        (_, *rows), recorded = study(*settings)
    assert rows[0][:2] + rows[0][-2:] == [*kind, "75.6", "67.72"]
    assert len(recorded) == 2

    norms, convolutions = ("batch", "group"), ("plain", "standardized")
    ends = ("", *(f"-to-digits-{seed}" for seed in range(3)))
    results = made_up(norms, "-", convolutions, ends)
    found = percent(results)
    (header, *rows), _ = study(*settings, "--seeds=3", results=results)
    assert header[2:4] == ["held-out glyphs", "digits"]
    paper = {  # table 4
        ("batch", "plain"): ["75.6", "67.72"],
        ("batch", "standardized"): ["75.8", "66.78"],
        ("group", "plain"): ["70.2", "68.77"],
        ("group", "standardized"): ["76.0", "70.39"],
    }
    for (norm, conv), row in zip(itertools.product(norms, convolutions), rows, strict=True):
        upstream, *digits = [found[f"{norm}-{conv}{end}"] for end in ends]
        assert row == [norm, conv, f"{upstream:.1f}", spread(digits), *paper[norm, conv]]

    # Batch normalization's moving statistics were updated, and inference uses them.
    model = keras.saving.load_model("runs/batch-plain/model.keras", compile=False)
    moving = [v for v in model.variables if v.name == "moving_variance"]
    assert len(moving) == 7  # three in each unit, and the last
    assert all(np.abs(v.numpy() - 1).max() > 0.01 for v in moving)
    images = np.random.default_rng(0).uniform(size=(3, 32, 32, 3)).astype("float32")
    alone = model(images[:1], training=False)
    np.testing.assert_allclose(model(images, training=False)[:1], alone, atol=1e-5)
    assert np.abs(model(images, training=True)[:1] - alone).max() > 1e-3


@pytest.mark.slow
def test_hyperrule_changes_in_two_processes(study, small, tmp_path):
    settings = (small, "--steps=2", "--batch=8")
    done = subprocess.run(
        [
            *(sys.executable, EXAMPLES / "hyperrule_changes.py", *settings),
            *("--changes=head only", "--seeds=1"),
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

    changes, seeds = ("head only", "mixup 0.1", "no decay"), range(3)
    results = made_up(("HyperRule", *changes), "-", seeds)
    found = percent(results)
    (_, *rows), _ = study(
        *("hyperrule_changes", *settings, f"--changes={','.join(changes)}", "--seeds=3"),
        "--logdir=runs/hyperrule_changes",
        results=results,
    )
    rule = [found[f"HyperRule-{seed}"] for seed in seeds]
    expected = {}
    for name in changes:
        runs = [found[f"{name}-{seed}"] for seed in seeds]
        gains = [run - unchanged for run, unchanged in zip(runs, rule, strict=True)]
        expected[statistics.fmean(runs)] = [name, spread(runs), spread(gains, "+")]
    best_first = [expected[mean] for mean in sorted(expected, reverse=True)]
    assert rows == [["HyperRule", spread(rule), ""], *best_first]


def test_rule_scale(study, small, folder):
    settings = (small, "--steps=1", "--batches=8", "--starts=pretrained,random", "--rates=0.1")
    (_, row, *_), recorded = study("rule_scale", *settings, f"--datasets={folder}:4")
    assert len(recorded) == 2
    assert row[0] == "8 x 0.1"
