"""A run's folder: its settings, its logs and its checkpoints."""

import contextlib
import json
import os
import pathlib
import re
import shutil
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..files import expanded, replacing, try_lock, write_json, write_text
from .reading_runs import flattened_settings, read_lines, read_settings

KEPT = 2  # checkpoints: the last, and the one before it in case the last is damaged

_CHECKPOINTS = "checkpoints"


class RunFolderError(ValueError):
    """The folder holds something else than this run."""


class RunFolder:
    """Claims a folder for one run, or goes on with the same run where it was interrupted.

        config.json    every resolved setting of the run
        metrics.jsonl  one JSON object a line: `step` and scalars
        results.jsonl  one JSON object a line: what a run of many parts found, part by part
        events.out.*   the same for TensorBoard
        checkpoints/   model, optimizer and step, of the last two
        metrics.json   the final numbers; written last, so a folder that has it is a finished run

    One process at a time holds a folder, until `close` or the end of a `with`.

    Args:
        path: The folder; made if it is missing.
        config: The run's settings, as JSON can hold them. Two runs are the same if these are.
        chief: False for a worker that only reads: the chief writes for all.
        may_grow: True for a run that may be added to when it is finished.

    Raises:
        RunFolderError: If the folder holds a run with other settings, a finished run, a run in use
            by another process, or files of no run. Nothing is written then.
    """

    def __init__(
        self, path: str | os.PathLike, config: dict, *, chief: bool = True, may_grow: bool = False
    ):
        self.path = pathlib.Path(expanded(path))
        self.chief = chief
        if not chief:
            return
        check_workdir(self.path, may_grow=may_grow)
        config = json.loads(json.dumps(config))  # tuples become lists, as they will be when read
        file = self.path / "config.json"
        if file.exists():
            self._check_same_run(read_settings(file), config)
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path / ".lock", "w")  # noqa: SIM115 (held until `close`)
        if not try_lock(self._lock):
            self._lock.close()
            raise RunFolderError(
                f"another process is at the run in {self.path}; wait for it, or choose another "
                "workdir."
            )
        write_json(file, config)
        self._events = tf.summary.create_file_writer(str(self.path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Releases the folder."""
        if self.chief:
            self._events.close()
            self._lock.close()

    def _check_same_run(self, before, now):
        # Before its first checkpoint or result a run can be started again with other settings.
        changes = _differences(before, now)
        if changes and (self.last_checkpoint() or self.results()):
            raise RunFolderError(
                f"{self.path} holds another run, which differs in {'; '.join(changes)}: give this "
                "run another name, or repeat that run's settings and images to go on with it."
            )

    def log(self, step: int, **scalars: float) -> None:
        """Adds one line of scalars to `metrics.jsonl` and to the TensorBoard events."""
        if not self.chief:
            return
        with self._writing(f"the log of step {step}"):
            with open(self.path / "metrics.jsonl", "a") as file:
                file.write(json.dumps({"step": step, **scalars}, allow_nan=False) + "\n")
            with self._events.as_default(step):
                for name, value in scalars.items():
                    tf.summary.scalar(name, value)
            self._events.flush()

    def log_picture(self, name: str, picture: np.ndarray) -> None:
        """Adds a picture, float32 [height, width, 3] in [0, 1], to the events of step 0."""
        if self.chief:
            with self._writing(name), self._events.as_default(0):
                tf.summary.image(name, picture[np.newaxis])

    @contextlib.contextmanager
    def _writing(self, what):
        """Turns write errors, TensorFlow's too, into an OSError that names the last checkpoint."""
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            reason = str(error).splitlines()[0]
            raise OSError(
                f"{what} cannot be written to {self.path} ({reason}); make room and "
                f"{how_to_go_on(self.path)}."
            ) from error

    def record(self, **result: Any) -> None:
        """Adds one line to `results.jsonl`, which is on the disk when this returns."""
        if not self.chief:
            return
        file = self.path / "results.jsonl"
        (self.path / "metrics.json").unlink(missing_ok=True)  # out of date now
        whole = "".join(json.dumps(row) + "\n" for row in [*self.results(), result])
        with self._writing("a result"):
            write_text(file, whole)

    def results(self) -> list[dict]:
        """Returns the lines of `results.jsonl`."""
        return read_lines(self.path / "results.jsonl")

    def history(self) -> list[dict]:
        """Returns the lines of `metrics.jsonl`."""
        return read_lines(self.path / "metrics.jsonl", scalars=True)

    def _checkpoint(self, model, optimizer, step):
        # Lists of variables: TensorFlow's own walk through a Keras 3 model does not enter lists of
        # layers, and would silently leave out their variables.
        return tf.train.Checkpoint(
            model=[variable.value for variable in model.variables],
            optimizer=[variable.value for variable in optimizer.variables],
            step=step,
        )

    def _manager(self, checkpoint):
        try:
            tf.train.get_checkpoint_state(self._checkpoints)
        except ValueError:  # the list of checkpoints was cut short
            (self._checkpoints / "checkpoint").unlink()
        return tf.train.CheckpointManager(checkpoint, self._checkpoints, max_to_keep=KEPT)

    def save(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, step: int) -> None:
        """Writes a checkpoint, under another name until it is whole; the one before it is kept.

        Raises OSError if it cannot be written. Those before it are as they were.
        """
        if not self.chief:
            return
        number = tf.Variable(step, dtype=tf.int64)
        manager = self._manager(self._checkpoint(model, optimizer, number))
        try:
            with self._writing(f"the checkpoint of step {step}"):
                manager.save(checkpoint_number=step)
        except OSError:
            for file in self._checkpoints.glob(f"ckpt-{step}_temp*"):
                shutil.rmtree(file, ignore_errors=True)
            raise

    def save_best(self, model: keras.Model) -> None:
        """Writes `checkpoints/best.keras`, which `bit_keras.load` takes."""
        self._checkpoints.mkdir(exist_ok=True)
        with replacing(self._checkpoints / "best.keras", suffix=".keras") as temporary:
            model.save(temporary)

    def best(self) -> keras.Model:
        """Returns what `save_best` wrote last; raises RunFolderError if it is damaged or gone."""
        path = self._checkpoints / "best.keras"
        try:
            return keras.saving.load_model(path, compile=False)
        except Exception as error:  # Keras raises whatever it meets in a damaged file
            reason = str(error).strip().splitlines()[0]
            raise RunFolderError(
                f"{path} is damaged ({reason}); restore it, or give this run another name."
            ) from error

    def restore(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> int:
        """Reads the last checkpoint if there is one; returns the step it was taken at, else 0.

        Where the last is damaged, the one before it is read. Log lines after that step are dropped:
        those steps will run again. Raises RunFolderError if there are checkpoints, but all damaged
        or another model's.
        """
        step = tf.Variable(0, dtype=tf.int64)
        problems = []
        for path in reversed(_checkpoints_in(self.path)):
            try:
                restored = self._checkpoint(model, optimizer, step).restore(path)
                restored.assert_consumed()
                break
            except (AssertionError, ValueError, LookupError, tf.errors.OpError) as error:
                problems.append(f"{path}: {str(error).strip().splitlines()[0]}")
        else:
            if problems:
                raise RunFolderError(
                    f"the checkpoints in {self._checkpoints} are damaged or another model's "
                    f"({problems[0]}); give this run another name, or delete that folder to "
                    "start again."
                )
        done = int(tf.convert_to_tensor(step))
        if self.chief and (self.path / "metrics.jsonl").exists():
            kept = [json.dumps(line) + "\n" for line in self.history() if line["step"] <= done]
            write_text(self.path / "metrics.jsonl", "".join(kept))
        return done

    def last_checkpoint(self) -> str | None:
        """Returns the path of the last checkpoint, or None."""
        return next(reversed(_checkpoints_in(self.path)), None)

    @property
    def _checkpoints(self):
        return self.path / _CHECKPOINTS

    def finish(self, metrics: dict) -> None:
        """Writes `metrics.json`, which marks the run as finished."""
        write_json(self.path / "metrics.json", metrics)


def how_to_go_on(path: str | os.PathLike) -> str:
    """Says how an interrupted run in a folder goes on, with its last checkpoint."""
    checkpoints = _checkpoints_in(pathlib.Path(expanded(path)))
    last = checkpoints[-1] if checkpoints else "its first step"
    return f"start the run again: it goes on from {last}"


def _checkpoints_in(path):
    """The checkpoints of a run's folder, the last one last.

    By their own files: TensorFlow's list of them may have been cut short, and forgets them then.
    """
    found = {}
    for file in (path / _CHECKPOINTS).glob("ckpt-*.index"):
        if match := re.fullmatch(r"ckpt-([0-9]+)", file.stem):
            found[int(match[1])] = os.fspath(file.with_suffix(""))
    return [found[step] for step in sorted(found)]


def check_workdir(path: str | os.PathLike, *, may_grow: bool = False) -> None:
    """Raises RunFolderError where `RunFolder` does whatever the settings; writes nothing."""
    path = pathlib.Path(expanded(path))
    if set("*?[]") & set(str(path.absolute())):
        raise RunFolderError(
            f"workdir must not hold any of * ? [ ], which TensorFlow expands, got {path}."
        )
    if (path / "config.json").exists():
        if (path / "metrics.json").exists() and not may_grow:
            raise RunFolderError(
                f"{path} holds a finished run already; give this run another name, or delete that "
                "folder."
            )
    elif path.exists() and (not path.is_dir() or _strangers(path)):
        raise RunFolderError(
            f"workdir {path} holds files that belong to no run; choose a new or an empty folder."
        )


def _strangers(path):
    return [f for f in path.iterdir() if f.name != ".lock" and f.suffix != ".tmp"]


def _differences(before: dict, now: dict) -> list[str]:
    """Returns one phrase for each setting in which two configurations differ."""
    before, now = flattened_settings(before), flattened_settings(now)
    missing = object()
    return [
        f"{name} ({_short(before.get(name, 'unset'))} there, {_short(now.get(name, 'unset'))} here)"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, missing) != now.get(name, missing)
    ]


def _short(value) -> str:
    """Shortens long values, such as lists of class names, for an error message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:40]} ... {text[-35:]}"
