"""Runs side by side, read back with an HTML parser that does not know how they were written."""

import os

import pytest
from reports import Page, few_shot_rows, run_folder

from bit_keras import reporting


def comparison(path, *runs):
    reporting.write_comparison(path / "comparison.html", runs)
    return Page(path / "comparison.html")


def test_comparison_of_metrics_and_settings(tmp_path):
    page = comparison(
        tmp_path,
        run_folder(
            tmp_path / "one" / "run",
            config={"model": "A", "rule": {"steps": 5, "lr": 0.1}, "class_names": list("abcdefg")},
            metrics={"accuracy": 0.9, "loss": 0.5, "steps": 5, "remark": "<b>"},
        ),
        run_folder(
            tmp_path / "two" / "run",
            config={"model": "A", "rule": {"steps": 5, "lr": 0.3}, "class_names": list("ab")},
            metrics={"accuracy": 0.8765, "loss": 0.25, "steps": 9, "calibration_error": 0.1},
        ),
        run_folder(
            tmp_path / "<b>&'",
            config={"model": "A", "rule": {"steps": 5}, "class_names": list("ab")},
            history=[{"step": 1200, "loss": 1.0}],
        ),
    )
    header = [os.path.join("one", "run"), os.path.join("two", "run"), "<b>&'"]
    assert [text for text in page.texts("th") if text in header] == header * 2
    dash = "\N{EN DASH}"
    assert page.body_rows("Metrics") == [
        ["State", "finished", "finished", "unfinished, at step 1,200"],
        ["Accuracy", "90.00 %", "87.65 % \N{MINUS SIGN}2.35", dash],
        ["Loss", "0.5 +0.25", "0.25", dash],
        ["Steps", "5", "9", dash],
        ["Remark", "<b>", dash, dash],
        ["Calibration error (ECE)", dash, "10.00 %", dash],
    ]
    best = [cell["text"] for cell in page.all("td") if cell.get("class") == "best"]
    assert best == ["90.00 %", "0.25"]
    assert page.body_rows("Settings that differ") == [
        ["rule.lr", "0.1", "0.3", dash],
        ["class_names", "a, b, c, d, e … (7 in all)", "a, b", "a, b"],
    ]
    assert page.texts("h2") == ["Metrics", "Settings that differ"]


def test_comparison_of_curves_tasks_and_classes(tmp_path):
    group = {"cifar100": "natural", "dtd": "natural", "eurosat": "specialized"}
    accuracies = [{"cifar100": 0.5, "dtd": 0.7, "eurosat": 0.9}, {"cifar100": 0.6, "eurosat": 0.8}]
    recalls = [{"a": 0.5, "b": 0.5, "<c>": 1.0}, {"<c>": 0.9, "b": 0.5, "a": 0.9}, {"a": 0.1}]
    runs = [
        run_folder(
            tmp_path / f"run{k}",
            config={},
            metrics={"accuracy": 0.5, **tasks},
            history=[{"step": s, "loss": 1.0, "test_accuracy": k / s} for s in (1, 2)],
            results=[
                *few_shot_rows(k, shots=[1, 5]),
                *({"task": t, "group": group[t], "accuracy": a} for t, a in tasks.items()),
            ],
            per_class=recall,
        )
        for k, (tasks, recall) in enumerate(zip([*accuracies, {}], recalls, strict=True))
    ]
    with open(runs[0] / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "lo')  # the machine went down
    page = comparison(tmp_path, *runs)
    assert [chart["aria-label"] for chart in page.charts()] == [
        "Accuracy by examples a class",
        "Loss by step",
        "Test accuracy by step",
    ]
    assert [line["class"] for line in page.all("polyline")] == ["c0 d0", "c1 d0", "c2 d0"] * 3
    dash, minus = "\N{EN DASH}", "\N{MINUS SIGN}"
    assert page.body_rows("Metrics") == [["Accuracy", *["50.00 %"] * 3]]
    assert page.body_rows("Tasks") == [
        ["All 3 tasks, mean", "70.00 %", dash, dash],
        ["Natural, mean of 2", "60.00 %", dash, dash],
        ["cifar100", f"50.00 % {minus}10.00", "60.00 %", dash],
        ["dtd", "70.00 %", dash, dash],
        ["Specialized, mean of 1", "90.00 %", f"80.00 % {minus}10.00", dash],
        ["eurosat", "90.00 %", f"80.00 % {minus}10.00", dash],
    ]
    assert page.body_rows("Recall by class, largest differences first") == [
        ["a", f"50.00 % {minus}40.00", "90.00 %"],
        ["<c>", "100.00 %", f"90.00 % {minus}10.00"],
        ["b", "50.00 %", "50.00 %"],
    ]
    methods = [row[1] for row in page.body_rows("Accuracy by examples a class")]
    assert methods == [f"run{k}, fine-tuning" for k in range(3)] * 2


def test_comparison_of_groups_that_older_runs_spell_otherwise(tmp_path):
    runs = [
        run_folder(
            tmp_path / group,
            config={},
            metrics={},
            results=[{"task": "eurosat", "group": group, "accuracy": accuracy}],
        )
        for group, accuracy in (("specialised", 0.75), ("specialized", 0.5))
    ]
    assert comparison(tmp_path, *runs).body_rows("Tasks") == [
        ["Specialized, mean of 1", "75.00 %", "50.00 % \N{MINUS SIGN}25.00"],
        ["eurosat", "75.00 %", "50.00 % \N{MINUS SIGN}25.00"],
    ]


def test_comparison_of_many_classes_and_namesakes(tmp_path):
    runs = []
    for k in range(2):
        runs.append(run_folder(tmp_path / str(k), config={}, metrics={}))
        lines = [f"crane,{k * i / 200},,," for i in range(150)]
        text = "\n".join(["class,average_precision,images,recall,precision", *lines])
        (runs[k] / "per_class.csv").write_text(text)
    rows = comparison(tmp_path, *runs).body_rows(
        "Average precision by class, largest differences first"
    )
    assert len(rows) == 100
    assert [row[2] for row in rows] == [f"{i / 2:.2f} %" for i in range(149, 49, -1)]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", '{"a": '),
        ("config.json", "[]"),
        ("metrics.json", '{"a": '),
        ("metrics.jsonl", '{"st\n{"step": 1}\n'),
        ("metrics.jsonl", '{"loss": 1}\n'),
        ("results.jsonl", '{"shots": 5}\n'),
        ("results.jsonl", '{"task": 5}\n'),
        ("per_class.csv", "class,images\na,5\n"),
        ("per_class.csv", "class,recall\na,high\n"),
    ],
)
def test_damaged_runs_are_named(tmp_path, file, text):
    runs = [run_folder(tmp_path / name, config={}, metrics={}) for name in "ab"]
    comparison(tmp_path, *runs)
    before = (tmp_path / "comparison.html").read_bytes()
    (runs[1] / file).write_text(text)
    with pytest.raises(ValueError, match=rf"^.*b/{file} is damaged \(.*\); [^.]*\.$"):
        comparison(tmp_path, *runs)
    assert (tmp_path / "comparison.html").read_bytes() == before


def test_what_cannot_be_compared(tmp_path):
    run = run_folder(tmp_path / "run", config={})
    with pytest.raises(ValueError, match="two run folders or more, got 1"):
        comparison(tmp_path, run, tmp_path / "." / "run")
    with pytest.raises(ValueError, match=r"nothing is no run's folder: it has no config\.json"):
        comparison(tmp_path, run, tmp_path / "nothing")
    assert os.listdir(tmp_path) == ["run"]
