"""VTAB-1k: one model fine-tuned on each of the 19 tasks, and the mean of their accuracies.

The protocol is the BiT paper's: HyperRule's settings for small data sets, one run per task, trained
on 1,000 images and tested on all the task's test images. Images are cropped and flipped only where
that leaves the task's labels true (`VtabTask.augmentations`).
"""

import functools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

import tensorflow as tf

from ..data import VTAB, VTAB_PUBLISHED, DataError, LabeledImages, from_vtab
from ..data.sources.vtab import vtab_task
from ..models.published import full_name
from ..models.zoo import check_source, weights_crc32
from ..recipes.hyperrule import HyperRule
from ..reporting import write_report
from ..reporting.page import plain_table
from ..training import RunFolder, TrainingError, single_machine_strategy
from ..training.suite import Suite
from .fine_tuning import fine_tune

_GROUPS = {
    group: tuple(name for name, task in VTAB.items() if task.group == group)
    for group in ("natural", "specialized", "structured")
}


class MissingTasksError(ValueError):
    """Some tasks have no result. `results` has a row for every task, with the reason for those."""

    def __init__(self, message: str, results: list[dict]):
        super().__init__(message)
        self.results = results


def run_vtab(
    model: str | os.PathLike,
    *,
    workdir: str | os.PathLike,
    tasks: Iterable[str] | None = None,
    read: Callable[[str], tuple[LabeledImages, LabeledImages]] = from_vtab,
    rule: HyperRule | None = None,
    precision: str = "float32",
    strategy: str | tf.distribute.Strategy = "auto",
    seed: int = 0,
    batch_split: int | str = "auto",
    command: str | None = None,
) -> list[dict]:
    """Fine-tunes a model on the tasks of VTAB-1k, one after the other, and tests it on each.

    An interrupted suite goes on when it is called again with the same arguments, inside the task it
    was at; other `tasks` add to the folder. A task that cannot be read, or whose training diverges,
    is skipped, and the others are run.

    Args:
        model: What `bit_keras.load` takes.
        workdir: The suite's folder: `config.json`, `results.jsonl` with a line for each task,
            `report.html`, rewritten after every task, and last `metrics.json`, the `scalars`.
            `tasks/NAME` is the folder of a task's run, whose checkpoints are deleted once its
            result is recorded.
        tasks: Names of `data.VTAB`; by default all. They are run in its order.
        read: From a task's name, (train, test); `functools.partial(data.from_vtab, data_dir=...)`
            for another data folder than TFDS's default.
        rule: The settings of every task; by default each has its own `default_rule`.
        precision, strategy, seed, batch_split, command: As in `fine_tune`, on one machine.

    Returns:
        A row for each task that the folder has, in the order of `data.VTAB`: `task`, `group`,
        `accuracy` in [0, 1], `num_test`, `seconds`.

    Raises:
        ValueError: If an argument is wrong, or `workdir` holds another run.
        MissingTasksError: If a task cannot be read or trained, after all others were. Its rows in
            `results` have `missing`, the reason, instead of an accuracy.
    """
    asked = {vtab_task(name).name for name in (VTAB if tasks is None else tasks)}
    check_source(model)
    strategy = single_machine_strategy(strategy)
    config = {
        "model": full_name(model),
        "weights": weights_crc32(model),
        "suite": "VTAB-1k",
        "rule": rule and rule.settings(),
        "precision": precision,
        "seed": seed,
    }
    failed = []
    with RunFolder(workdir, config, may_grow=True) as run:
        suite = Suite(run, lambda part: run.path / "tasks" / part["task"], _is_result)
        for part in suite.missing({"task": name} for name in VTAB if name in asked):
            name = part["task"]
            tune = functools.partial(
                fine_tune,
                model,
                workdir=suite.start(part),
                rule=rule,
                sampling="uniform",  # said, so that no other is recommended
                precision=precision,
                strategy=strategy,
                seed=seed,
                batch_split=batch_split,
                export=False,
            )
            found = _run_task(name, read, tune)
            if "missing" in found:
                failed.append({**part, **found})
            else:
                suite.record(part, group=VTAB[name].group, **found)
            _write_report(run, failed, config, command)
        results = _write_report(run, failed, config, command)
        if run.results():
            run.finish(scalars(results))
    if failed:
        names = ", ".join(row["task"] for row in failed)
        raise MissingTasksError(
            f"{len(failed)} of {len(asked)} tasks could not be run ({names}); the same command "
            "tries them again.",
            results,
        )
    return results


def _is_result(row):
    numbers = (row.get(name) for name in ("accuracy", "num_test", "seconds"))
    return row.get("task") in [*VTAB] and all(isinstance(x, int | float) for x in numbers)


def _run_task(name, read, tune):
    """{"accuracy", "num_test", "seconds"} of a task, or {"missing": the reason}."""
    try:
        metrics = tune(*read(name)).metrics
        found = {key: metrics[key] for key in ("accuracy", "num_test", "seconds")}
        message = f"accuracy {metrics['accuracy']:.2%}"
    except (DataError, TrainingError) as error:
        message = str(error)
        found = {"missing": message}
    print(f"{name}: {message}", file=sys.stderr, flush=True)
    return found


def _write_report(run, failed, settings, command):
    """Writes the report; returns its rows, in the order of `VTAB`."""
    # With its groups: older folders spell one of them otherwise.
    results = [{**row, "group": VTAB[row["task"]].group} for row in run.results() + failed]
    results.sort(key=lambda row: list(VTAB).index(row["task"]))
    write_report(
        run.path / "report.html",
        title=f"{settings['model']} on VTAB-1k",
        settings=settings,
        metrics=scalars(results),
        sections=[(name, plain_table(*rows)) for name, rows in tables(results).items()],
        command=command,
    )
    return results


def scalars(results: Sequence[dict]) -> dict[str, float]:
    """Returns the accuracy of each task, and the means of complete groups and of all 19."""
    accuracy = {row["task"]: row["accuracy"] for row in results if "accuracy" in row}
    means = {
        name: fmean(accuracy[task] for task in tasks)
        for name, tasks in {"vtab_mean": tuple(VTAB), **_GROUPS}.items()
        if accuracy.keys() >= set(tasks)
    }
    return {**means, **accuracy}


def tables(results: Sequence[dict]) -> dict[str, tuple[Sequence[str], list[Sequence[str]]]]:
    """Returns results beside published ones as {heading: (header, rows)}, accuracies in %."""
    by_task = [published for published in VTAB_PUBLISHED if published.tasks]
    tasks = [
        (
            row["task"],
            row["group"],
            *(
                (f"{100 * row['accuracy']:.2f}", f"{row['num_test']:,}", f"{row['seconds']:.0f}")
                if "accuracy" in row
                else ("missing", "", "")
            ),
            *(f"{published.tasks[row['task']]:.2f}" for published in by_task),
            row.get("missing", ""),
        )
        for row in results
    ]
    accuracy = scalars(results)
    whole = f"{100 * accuracy['vtab_mean']:.2f}" if "vtab_mean" in accuracy else "-"
    groups = []
    for names in _GROUPS.values():
        found = [accuracy[name] for name in names if name in accuracy]
        part = "" if len(found) == len(names) else f" ({len(found)} of {len(names)})"
        groups.append(f"{100 * fmean(found):.2f}{part}" if found else "-")
    means = [("this model", whole, *groups, "")]
    for published in VTAB_PUBLISHED:
        known = ("-" if mean is None else f"{mean:.2f}" for mean in published[2:6])
        means.append((published.model, *known, published.source))
    names = (published.model for published in by_task)
    header = ("task", "group", "accuracy", "test images", "seconds", *names, "remark")
    return {
        "VTAB-1k": (header, tasks),
        "VTAB-1k, means": (("model", "all 19", *_GROUPS, "source"), means),
    }


def as_table(results: Sequence[dict]) -> str:
    """Returns results beside published ones as two Markdown tables."""
    return "\n".join(_markdown(header, rows) for header, rows in tables(results).values())


def _markdown(header, rows):
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    widths[-1] = 3  # of the last column, which has sentences
    lines.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(map(str.ljust, line, widths))} |\n" for line in lines)
