"""Accuracy by the number of examples a class, as figure 1 of the BiT paper has it."""

import dataclasses
import functools
import gc
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Collection, Sequence
from statistics import median

import keras
import numpy as np
import tensorflow as tf

from ..data import LabeledImages, test_batches
from ..models.zoo import check_source, load, weights_crc32
from ..recipes.hyperrule import HyperRule
from ..reporting import few_shot_picture, few_shot_section, write_report
from ..training import RunFolder, predict, single_machine_strategy
from .fine_tuning import default_rule, fine_tune
from .linear_probe import LinearProbe
from .task import TEST_BATCH, check_classes

METHODS = ("probe", "fine-tuning")


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
    """Learns a few examples of every class, by a linear probe and by fine-tuning, many times over.

    All are tested on the same images. A curve that was interrupted goes on when it is called again,
    inside the fine-tuning it was at; other shots, more seeds and other methods add to what the
    folder has.

    Args:
        model: What `bit_keras.load` takes.
        train: The images to choose from, one class each.
        test: Images to test on, with the classes of `train`.
        workdir: The curve's folder: `config.json`, `results.jsonl` with a line for each part,
            `features.npz`, `few_shot.png`, `report.html`, and last `metrics.json`, the medians.
            `runs/5-shot-seed0` is the folder of a fine-tuning, whose checkpoints are deleted once
            its result is kept.
        shots: Examples a class; "full" is all of `train`.
        seeds: Parts for each of `shots`, with seeds 0, 1, ...: which examples (those of
            `train.few_shot`) and in which order. A probe of all of `train` is the same for all.
        methods: "probe", a `LinearProbe` of the features of unchanged images; "fine-tuning", by
            HyperRule. Probes come first.
        init: "pretrained", or "random" for the same architecture from scratch; the probe is then
            one of random features.
        rule: The settings of all fine-tunings; by default each has the `default_rule` of its number
            of images. The probe sees images as large as the test images of `train`'s rule.
        precision: Of fine-tuning, as in `fine_tune`; features are float32.
        strategy: As in `fine_tune`, on one machine.
        command: The command line to show in the report.

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
    parts = parts_of(train, shots, seeds, methods)
    check_source(model)
    strategy = single_machine_strategy(strategy)
    crop = (rule or default_rule(model, train)).crop
    config = {
        "model": os.fspath(model),
        "weights": weights_crc32(model),
        "init": init,
        "rule": rule and dataclasses.asdict(rule),
        "precision": precision,
        "crop": crop,
        "train": train.description(),
        "test": test.description(),
        "class_names": train.class_names,
    }

    def indices_of(part):
        if part["shots"] == "full":
            return np.arange(len(train))
        return train.few_shot_indices(part["shots"], part["seed"])

    probes = [part for part in parts if part["method"] == "probe"]
    probed_images = np.unique(np.concatenate([[], *map(indices_of, probes)]).astype(int))
    with RunFolder(workdir, config, may_grow=True) as run:

        def compute(images):
            keras.utils.set_random_seed(0)  # of random weights
            with strategy.scope():
                body = load(model, num_classes=0, init=init)
            prepare = functools.partial(test_batches, size=crop)
            return predict(body, images, prepare, batch=TEST_BATCH, strategy=strategy)

        @functools.cache
        def features():
            file, source = run.path / "features.npz", json.dumps(config)
            return features_from(file, source, train, test, probed_images, compute)

        def probed(indices):
            known, of_train, of_test = features()
            places = np.searchsorted(known, indices)
            probe = LinearProbe(of_train[places], train.labels[indices], train.num_classes)
            return float(np.mean(probe.predict(of_test).argmax(axis=1) == test.labels))

        def fine_tuned(indices, folder, seed):
            # it was cut off before its result was kept, and is tested once more
            (folder / "metrics.json").unlink(missing_ok=True)
            return fine_tune(
                model,
                train.subset(indices),
                test,
                workdir=folder,
                rule=rule,
                init=init,
                precision=precision,
                strategy=strategy,
                seed=seed,
                export=False,
            ).metrics["accuracy"]

        def folder_of(part):
            shot = "" if part["shots"] == "full" else "-shot"
            return run.path / "runs" / f"{part['shots']}{shot}-seed{part['seed']}"

        def drop_checkpoints(part):
            if part["method"] == "fine-tuning":
                shutil.rmtree(folder_of(part) / "checkpoints", ignore_errors=True)

        done = {place(row): row for row in run.results()}
        for row in done.values():
            drop_checkpoints(row)  # left by a curve that was killed after its record
        for part in (part for part in parts if place(part) not in done):
            start = time.perf_counter()
            indices = indices_of(part)
            if part["method"] == "probe":
                accuracy = probed(indices)
            else:
                features.cache_clear()  # which of many images are gigabytes
                accuracy = fine_tuned(indices, folder_of(part), part["seed"])
            run.record(
                **part,
                examples=len(indices),
                examples_per_class=len(indices) / train.num_classes,
                accuracy=accuracy,
                seconds=round(time.perf_counter() - start, 1),
            )
            drop_checkpoints(part)  # up to gigabytes
            print(f"{sentence(part)}: {accuracy:.2%}", file=sys.stderr, flush=True)
            gc.collect()  # a model and its graphs refer to each other
        rows = sorted(run.results(), key=place)
        metrics = {**medians(rows), "num_test": len(test)}
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


def features_from(file, source, train, test, wanted, compute):
    """Features of training and of test images, those that the file lacks computed and kept in it.

    Args:
        file: Replaced if it lacks any, or is of another `source`, a text that tells runs apart.
        wanted: Indices of the training images that are asked for.
        compute: From labeled images to features, float32 [N, D].

    Returns:
        (indices, sorted; the features of those training images; of all test images).
    """
    known, of_train, of_test = np.array([], np.int64), None, None
    if file.exists():
        with np.load(file) as found:
            if found["source"] == source:
                known, of_train, of_test = (found[name] for name in ("indices", "train", "test"))
    missing = np.setdiff1d(wanted, known)
    if missing.size:
        new = compute(train.subset(missing))
        of_train = new if of_train is None else np.concatenate([of_train, new])
        of_test = compute(test) if of_test is None else of_test
        known = np.concatenate([known, missing])
        order = np.argsort(known)
        known, of_train = known[order], of_train[order]
        temporary = file.with_name("features.npz.tmp")
        with open(temporary, "wb") as opened:
            np.savez(opened, indices=known, train=of_train, test=of_test, source=source)
        os.replace(temporary, file)
    return known, of_train, of_test


def parts_of(train, shots, seeds, methods):
    """What a curve is made of, the fastest first; ValueError if it cannot be."""
    if train.multi_label:
        raise ValueError(
            f"the images of {train.name} may have several classes, and a few examples of each can "
            "be chosen only where they have one."
        )
    if not methods or set(methods) - set(METHODS):
        raise ValueError(f'methods must be of "probe" and "fine-tuning", got {list(methods)}.')
    if seeds < 1:
        raise ValueError(f"seeds must be 1 or more, got {seeds!r}.")
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
    parts = [
        {"method": method, "shots": shot, "seed": seed}
        for method in set(methods)
        for shot in set(shots)
        for seed in range(1 if (method, shot) == ("probe", "full") else seeds)
    ]
    return sorted(parts, key=place)


def place(row):
    """Where a part, or its row, stands among the others."""
    shots = math.inf if row["shots"] == "full" else row["shots"]
    return METHODS.index(row["method"]), shots, row["seed"]


def sentence(part):
    shots = {1: "1 shot", "full": "all images"}.get(part["shots"], f"{part['shots']} shots")
    return f"{shots}, seed {part['seed']}, {part['method']}"


def by_seeds(rows):
    """{(method, shots): accuracies}"""
    found = {}
    for row in rows:
        found.setdefault((row["method"], row["shots"]), []).append(row["accuracy"])
    return found


def medians(rows: Sequence[dict]) -> dict[str, float]:
    """Returns {"probe_5_shot_accuracy": ..., "fine_tuning_full_accuracy": ...}."""
    return {
        f"{method.replace('-', '_')}_{shots}{'' if shots == 'full' else '_shot'}_accuracy": median(
            accuracies
        )
        for (method, shots), accuracies in by_seeds(rows).items()
    }


def as_table(rows: Sequence[dict]) -> str:
    """Returns the rows of `few_shot_curve` as a Markdown table, accuracies in %."""
    lines = ["| examples a class | method | median | min | max | seeds |", "| --- " * 6 + "|"]
    for (method, shots), accuracies in by_seeds(rows).items():
        figures = (f"{100 * f(accuracies):.2f}" for f in (median, min, max))
        lines.append(f"| {' | '.join((str(shots), method, *figures, str(len(accuracies))))} |")
    return "\n".join(lines) + "\n"
