import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import graphs_of_training, named_weights

import bit_keras
from bit_keras import HyperRule, data
from bit_keras.classification.few_shot import as_table, few_shot_curve
from bit_keras.classification.linear_probe import LinearProbe
from bit_keras.training.inference import predict

QUICK = HyperRule(4, 16, 0.1, 0, (), 36, 32, 0.0)

KILLED = """
import sys
from bit_keras import HyperRule, data
from bit_keras.classification.few_shot import few_shot_curve
train, test = data.digits(6)
few_shot_curve(
    sys.argv[1], train, test.subset(range(200)), workdir=sys.argv[2], shots=[5, 1], seeds=2,
    rule=HyperRule(4, 16, 0.1, 0, (), 36, 32, 0.0),
)
"""


@pytest.fixture(scope="module")
def digits():
    train, test = data.digits(6)
    return train, test.subset(range(200))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    named_weights(bit_keras.ResNetV2((1,), 0.25, 10, name="tiny")).save(path)
    return path


def features(model, images):
    body = bit_keras.load(model, num_classes=0)
    return predict(body, images, lambda images, batch: data.test_batches(images, batch=7, size=32))


def lines(folder):
    return (folder / "results.jsonl").read_text().splitlines()


@pytest.mark.slow
def test_a_killed_curve_goes_on_and_finds_what_single_runs_find(model, digits, tmp_path):
    train, test = digits
    folder = tmp_path / "curve"
    program = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(model), str(folder)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stderr=subprocess.PIPE,
        text=True,
    )
    second = folder / "runs/1-shot-seed1"
    while not second.exists():  # four probes and a fine-tuning are done
        assert program.poll() is None, program.stderr.read()
        time.sleep(0.02)
    program.send_signal(signal.SIGKILL)
    _, said = program.communicate()
    assert "\n5 shots, seed 1, probe: " in said
    before = lines(folder)
    assert len(before) == 5
    done = [folder / "features.npz", folder / "runs/1-shot-seed0/metrics.json"]
    times = [path.stat().st_mtime_ns for path in done]
    assert not (folder / "metrics.json").exists()
    (folder / "runs/1-shot-seed0/checkpoints").mkdir()  # as if killed before they were deleted

    held = graphs_of_training()
    arguments = {"workdir": folder, "shots": [1], "seeds": 2, "rule": QUICK, "command": "as typed"}
    rows = few_shot_curve(model, train, test, **arguments)
    assert lines(folder)[:5] == before
    assert [path.stat().st_mtime_ns for path in done] == times
    assert [(row["method"], row["shots"], row["seed"]) for row in rows] == [
        *(("probe", shots, seed) for shots in (1, 5) for seed in (0, 1)),
        *(("fine-tuning", 1, seed) for seed in (0, 1)),
    ]
    assert graphs_of_training() == held  # or each fine-tuning would stay in memory
    assert not list(folder.glob("runs/*/checkpoints"))

    few, hand = train.few_shot(1, seed=1), tmp_path / "hand"
    by_hand = bit_keras.fine_tune(model, few, test, workdir=hand, rule=QUICK, seed=1, export=False)
    assert rows[-1]["accuracy"] == pytest.approx(by_hand.metrics["accuracy"], abs=0.01)
    for row in rows[:4]:
        few = train.few_shot(row["shots"], seed=row["seed"])
        probe = LinearProbe(features(model, few), few.labels, 10)
        answers = probe.predict(features(model, test)).argmax(axis=1)
        assert row["accuracy"] == pytest.approx(np.mean(answers == test.labels), abs=0.01)

    metrics = json.loads((folder / "metrics.json").read_text())
    one, other = (row["accuracy"] for row in rows[2:4])
    assert metrics["probe_5_shot_accuracy"] == pytest.approx((one + other) / 2)
    assert metrics["num_test"] == 200
    assert (folder / "few_shot.png").read_bytes().startswith(b"\x89PNG")
    report = (folder / "report.html").read_text()
    assert "fine-tuning" in report
    assert "as typed" in report


def test_more_seeds_and_all_images_add_to_a_finished_curve(model, digits, tmp_path, capfd):
    train, test = digits
    arguments = {"workdir": tmp_path / "curve", "methods": ["probe"], "rule": QUICK}
    few_shot_curve(model, train, test, shots=[1, 5], seeds=2, **arguments)
    before = lines(tmp_path / "curve")
    with np.load(tmp_path / "curve/features.npz") as file:
        some = dict(file)
    asked = [train.few_shot_indices(shots, seed) for shots in (1, 5) for seed in (0, 1)]
    assert some["indices"].tolist() == np.unique(np.concatenate(asked)).tolist() != [*range(60)]
    capfd.readouterr()
    rows = few_shot_curve(model, train, test, shots=[1, 5, "full"], seeds=3, **arguments)
    assert lines(tmp_path / "curve")[:4] == before
    said = [line.split(": ")[0] for line in capfd.readouterr().err.splitlines() if "probe" in line]
    assert said == ["1 shot, seed 2, probe", "5 shots, seed 2, probe", "all images, seed 0, probe"]
    assert [(row["shots"], row["seed"], row["examples"]) for row in rows] == [
        *((1, seed, 10) for seed in range(3)),
        *((5, seed, 50) for seed in range(3)),
        ("full", 0, 60),
    ]
    assert rows[-1]["examples_per_class"] == 6
    accuracy = {row["shots"]: row["accuracy"] for row in rows}
    assert 0.2 < accuracy[1] < accuracy[5]  # chance is 0.1, also for random weights
    *_, last = as_table(rows).splitlines()
    share = f"{100 * accuracy['full']:.2f}"
    assert last == f"| full | probe | {share} | {share} | {share} | 1 |"
    assert as_table(rows).count("\n") == 5

    with np.load(tmp_path / "curve/features.npz") as file:
        assert file["indices"].tolist() == [*range(60)]
        np.testing.assert_array_equal(file["train"][some["indices"]], some["train"])
        np.testing.assert_allclose(file["train"], features(model, train), atol=1e-4)

    other = tmp_path / model.name  # other weights of the same name
    other.write_bytes(model.read_bytes())
    few_shot_curve(other, train, test, **{**arguments, "workdir": tmp_path / "two"}, shots=[1])
    named_weights(bit_keras.ResNetV2((1,), 0.25, 11, name="tiny")).save(other)
    with pytest.raises(ValueError, match="holds another run, which differs in weights"):
        few_shot_curve(other, train, test, **{**arguments, "workdir": tmp_path / "two"}, shots=[5])
    with pytest.raises(ValueError, match=r"holds another run, which differs in test.fingerprint"):
        few_shot_curve(model, train, test.subset(range(199, -1, -1)), **arguments, shots=[1])


def test_features_of_other_images_are_not_taken_for_these(model, digits, tmp_path):
    """A run that was killed before its first result can start again with other images."""
    train, test = digits
    folder = tmp_path / "curve"
    arguments = {"workdir": folder, "methods": ["probe"], "shots": ["full"], "rule": QUICK}
    few_shot_curve(model, train, test, **arguments)
    (folder / "results.jsonl").unlink()
    (row,) = few_shot_curve(model, test, train, **arguments)
    assert row["examples"] == 200
    with np.load(folder / "features.npz") as file:
        assert (len(file["train"]), len(file["test"])) == (200, 60)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": [1, 7]}, r"at most 6, .* of class '0', got 7"),
        ({"shots": [0]}, r'shots must be numbers from 1, or "full", got \[0\]'),
        ({"shots": ["all"]}, r"got \['all'\]"),
        ({"shots": []}, r"got \[\]"),
        ({"seeds": 0}, "seeds must be 1 or more, got 0"),
        ({"methods": ["probing"]}, r'"probe" and "fine-tuning", got \[\'probing\'\]'),
        ({"model": "BiT-M-R50x"}, "did you mean"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(digits, tmp_path, changes, message):
    arguments = {"model": "BiT-XS-R26x0.25", "shots": [1], **changes}
    with pytest.raises(ValueError, match=message):
        few_shot_curve(train=digits[0], test=digits[1], workdir=tmp_path / "curve", **arguments)
    assert not (tmp_path / "curve").exists()


def test_images_of_several_classes_are_rejected(tmp_path):
    images, labels = np.zeros((6, 8, 8, 3), np.uint8), np.ones((6, 2), bool)
    train, test = data.from_arrays(images, labels, test=(images, labels))
    with pytest.raises(ValueError, match="may have several classes"):
        few_shot_curve("BiT-XS-R26x0.25", train, test, workdir=tmp_path / "curve")
