"""Few-shot curves: accuracy by the number of examples per class (figure 1 of the BiT paper)."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import sys
import time
import zipfile
import zlib
from collections.abc import Collection, Sequence
from statistics import median

import keras
import numpy as np
import tensorflow as tf

from ..choices import METHODS
from ..data import LabeledImages, test_batches
from ..files import replacing
from ..models.published import full_name
from ..models.zoo import check_source, load, weights_crc32
from ..recipes.hyperrule import HyperRule
from ..reporting import few_shot_picture, few_shot_section, write_report
from ..training import RunFolder, predict, single_machine_strategy
from ..training.suite import Suite
from .fine_tuning import default_rule, fine_tune
from .linear_probe import LinearProbe
from .task import TEST_BATCH, check_classes

_DAMAGE = (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile, zlib.error)  # of an npz


def few_shot_curve(
    model: str | os.PathLike,
    train: LabeledImages,
    test: LabeledImages,
    *,
    workdir: str | os.PathLike,
    shots: Collection[int | str] = (1, 5, 10, 25, "full"),
    seeds: int = 5,
    methods: Collection[str] = METHODS,
    init: str = "pretrained",
    rule: HyperRule | None = None,
    precision: str = "float32",
    strategy: str | tf.distribute.Strategy = "auto",
    command: str | None = None,
) -> list[dict]:
    """Learns from few examples per class, by linear probes and by fine-tuning, for several seeds.

    An interrupted curve goes on when it is called again, inside the fine-tuning it was at; other
    shots, more seeds and other methods add to the folder.

    Args:
        model: What `bit_keras.load` takes.
        train: The images to choose from, one class each.
        test: Images to test on, with the classes of `train`.
        workdir: The curve's folder: `config.json`, `results.jsonl` with a line for each part,
            `features.npz`, `few_shot.png`, `report.html`, and last `metrics.json`, the medians.
            `runs/5-shot-seed0` is the folder of a fine-tuning, whose checkpoints are deleted once
            its result is recorded.
        shots: Examples per class; "full" is all of `train`.
        seeds: Runs for each of `shots`, with seeds 0, 1, ... that choose the examples (those of
            `train.few_shot`) and their order. A probe of all of `train` is run once.
        methods: "probe", a `LinearProbe` on the features of unaugmented images; "fine-tuning", by
            HyperRule. Probes come first.
        init: As in `fine_tune`; "random" fits the probe to random features.
        rule: Of all fine-tunings; by default each has the `default_rule` of its number of images.
            The probe's images have the size of test images by the rule for all of `train`.
        precision, strategy, command: As in `fine_tune`, on one machine; the probe's features are
            always float32.

    Returns:
        A row for each part that the folder has: `method`, `shots`, `seed`, `examples` (number of
        training images), `examples_per_class` (their mean), `accuracy` in [0, 1], `seconds`;
        sorted by method, shots and seed.

    Raises:
        ValueError: If an argument is wrong, or `workdir` holds another run; before anything is
            computed.
        TrainingError: If a loss is not finite.
    """
    check_classes(train, test)
    parts = _parts(train, shots, seeds, methods)
    check_source(model)
    strategy = single_machine_strategy(strategy)
    config = {
        "model": full_name(model),
        "weights": weights_crc32(model),
        "init": init,
        "rule": rule and rule.settings(),
        "precision": precision,
        "crop": (rule or default_rule(model, train)).crop,
        "train": train.description(),
        "test": test.description(),
        "class_names": train.class_names,
    }
    tune = functools.partial(
        fine_tune,
        model,
        test=test,
        rule=rule,
        init=init,
        precision=precision,
        strategy=strategy,
        export=False,
    )
    with RunFolder(workdir, config, may_grow=True) as run:
        features = _Features(run.path, config, train, test, parts, strategy)
        suite = Suite(run, functools.partial(_fine_tuning_folder, run.path), _is_result)
        _run_parts(suite, parts, train, features, tune)
        rows = sorted(run.results(), key=_order)
        metrics = {**_medians(rows), "num_test": len(test)}
        few_shot_picture(run.path / "few_shot.png", rows)
        write_report(
            run.path / "report.html",
            title=f"{config['model']} on a few examples a class of {train.name}",
            settings=config,
            metrics=metrics,
            sections=[few_shot_section(rows)],
            command=command,
        )
        run.finish(metrics)
    return rows


def _run_parts(suite, parts, train, features, tune):
    for part in suite.missing(parts):
        start = time.perf_counter()
        folder, indices = suite.start(part), _indices(train, part)
        if part["method"] == "probe":
            accuracy = features.probe_accuracy(indices)
        else:
            features.free_memory()
            # Validation images, far more than these, would make a run of a few no run of a few.
            few = dataclasses.replace(train.subset(indices), validation=None)
            accuracy = tune(few, workdir=folder, seed=part["seed"]).metrics["accuracy"]
        suite.record(
            part,
            examples=len(indices),
            examples_per_class=len(indices) / train.num_classes,
            accuracy=accuracy,
            seconds=round(time.perf_counter() - start, 1),
        )
        shots = {1: "1 shot", "full": "all images"}.get(part["shots"], f"{part['shots']} shots")
        said = f"{shots}, seed {part['seed']}, {part['method']}: {accuracy:.2%}"
        print(said, file=sys.stderr, flush=True)


def _parts(train, shots, seeds, methods):
    """The parts of a curve, the fastest first; ValueError if an argument is wrong."""
    if train.multi_label:
        raise ValueError(
            f"the images of {train.name} may have several classes, and a few examples of each can "
            "be chosen only where they have one."
        )
    numbers = [shot for shot in shots if shot != "full"]
    if not shots or not all(isinstance(shot, int) and shot >= 1 for shot in numbers):
        raise ValueError(f'shots must be numbers from 1, or "full", got {list(shots)}.')
    counts = np.bincount(train.labels, minlength=train.num_classes)
    scarcest = counts.argmin()
    if max(numbers, default=0) > counts[scarcest]:
        raise ValueError(
            f"shots must be at most {counts[scarcest]}, which are all the images that "
            f"{train.name} has of class {train.class_names[scarcest]!r}, got {max(numbers)}."
        )
    if not methods or set(methods) - set(METHODS):
        raise ValueError(f'methods must be of "probe" and "fine-tuning", got {list(methods)}.')
    if seeds < 1:
        raise ValueError(f"seeds must be 1 or more, got {seeds!r}.")
    parts = [
        {"method": method, "shots": shot, "seed": seed}
        for method in set(methods)
        for shot in set(shots)
        for seed in range(1 if (method, shot) == ("probe", "full") else seeds)
    ]
    return sorted(parts, key=_order)


def _indices(train, part):
    """Of the training images of a part."""
    if part["shots"] == "full":
        return np.arange(len(train))
    return train.few_shot_indices(part["shots"], part["seed"])


def _fine_tuning_folder(folder, part):
    """None for a probe, which has no run of its own."""
    if part["method"] != "fine-tuning":
        return None
    shot = "" if part["shots"] == "full" else "-shot"
    return folder / "runs" / f"{part['shots']}{shot}-seed{part['seed']}"


def _is_result(row):
    shots, numbers = row.get("shots"), (row.get("accuracy"), row.get("examples_per_class"))
    return (
        row.get("method") in [*METHODS]
        and (shots == "full" or isinstance(shots, int))
        and isinstance(row.get("seed"), int)
        and all(isinstance(x, int | float) for x in numbers)
    )


def _order(part):
    """The key that sorts parts, and rows, by method, shots and seed."""
    shots = math.inf if part["shots"] == "full" else part["shots"]
    return METHODS.index(part["method"]), shots, part["seed"]


class _Features:
    """The features of a curve's probes, kept in a file and completed there at first use.

    A file of another `config`, or a damaged one, is replaced.
    """

    def __init__(self, folder, config, train, test, parts, strategy):
        self._file, self._config = folder / "features.npz", config
        self._train, self._test, self._strategy = train, test, strategy
        probes = [part for part in parts if part["method"] == "probe"]
        wanted = np.concatenate([[], *(_indices(train, part) for part in probes)])
        self._wanted = np.unique(wanted).astype(int)
        self._arrays = None

    def probe_accuracy(self, indices):
        """The accuracy on all test images of a probe fitted to the training images at `indices`."""
        known, of_train, of_test = self._arrays = self._arrays or self._completed()
        labels = self._train.labels[indices]
        features = of_train[np.searchsorted(known, indices)]
        probe = LinearProbe(features, labels, self._train.num_classes)
        return float(np.mean(probe.predict(of_test).argmax(axis=1) == self._test.labels))

    def free_memory(self):
        """Features of many images are gigabytes."""
        self._arrays = None

    def _completed(self):
        """(sorted indices, the features of these training images, those of all test images)."""
        source = json.dumps(self._config)
        known, of_train, of_test = self._read(source)
        missing = np.setdiff1d(self._wanted, known)
        if missing.size:
            new = self._compute(self._train.subset(missing))
            of_train = new if of_train is None else np.concatenate([of_train, new])
            of_test = self._compute(self._test) if of_test is None else of_test
            known = np.concatenate([known, missing])
            order = np.argsort(known)
            known, of_train = known[order], of_train[order]
            with replacing(self._file, suffix=".npz") as temporary:
                np.savez(temporary, indices=known, train=of_train, test=of_test, source=source)
        return known, of_train, of_test

    def _read(self, source):
        if self._file.exists():
            with contextlib.suppress(*_DAMAGE), np.load(self._file) as found:
                if found["source"] == source:
                    return found["indices"], found["train"], found["test"]
        return np.array([], np.int64), None, None

    def _compute(self, images):
        keras.utils.set_random_seed(0)  # for random weights
        with self._strategy.scope():
            backbone = load(self._config["model"], num_classes=0, init=self._config["init"])
        batches = functools.partial(test_batches, size=self._config["crop"])
        return predict(backbone, images, batches, batch=TEST_BATCH, strategy=self._strategy)


def _by_seeds(rows):
    """{(method, shots): accuracies}"""
    found = {}
    for row in rows:
        found.setdefault((row["method"], row["shots"]), []).append(row["accuracy"])
    return found


def _medians(rows):
    """{"probe_5_shot_accuracy": ..., "fine_tuning_full_accuracy": ...}"""
    metrics = {}
    for (method, shots), accuracies in _by_seeds(rows).items():
        shot = "" if shots == "full" else "_shot"
        metrics[f"{method.replace('-', '_')}_{shots}{shot}_accuracy"] = median(accuracies)
    return metrics


def as_table(rows: Sequence[dict]) -> str:
    """Returns the rows of `few_shot_curve` as a Markdown table, accuracies in %."""
    lines = ["| examples a class | method | median | min | max | seeds |", "| --- " * 6 + "|"]
    for (method, shots), accuracies in _by_seeds(rows).items():
        figures = (f"{100 * f(accuracies):.2f}" for f in (median, min, max))
        lines.append(f"| {' | '.join((str(shots), method, *figures, str(len(accuracies))))} |")
    return "\n".join(lines) + "\n"
