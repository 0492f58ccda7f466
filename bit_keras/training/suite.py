"""A suite: one run of many parts, which goes on where it was stopped and can grow later."""

import gc
import pathlib
import shutil
from collections.abc import Callable, Iterable
from typing import Any

from .run_folder import RunFolder, RunFolderError


class Suite:
    """Keeps track of the parts of a run: one line of `results.jsonl` for each that is done.

        suite = Suite(run, lambda part: run.path / "tasks" / part["task"])
        for part in suite.missing([{"task": "svhn"}, {"task": "dtd"}]):
            suite.record(part, accuracy=train_and_test(part, workdir=suite.start(part)))

    A part is a dictionary of the values that tell it from the other parts. Its line in
    `results.jsonl` has these values and those of its result.

    Args:
        run: The suite's folder, open and with `may_grow`.
        folder_of: From a part, or from its line, to the folder of the part's own run, or None if it
            has none. The checkpoints in that folder, often gigabytes, are deleted once the part's
            result is recorded. By default no part has such a folder.
        known: Whether a line of `results.jsonl` is that of a part; by default all are.

    Raises:
        RunFolderError: If one is not, before anything is deleted.
    """

    def __init__(
        self,
        run: RunFolder,
        folder_of: Callable[[dict[str, Any]], pathlib.Path | None] = lambda part: None,
        known: Callable[[dict[str, Any]], bool] = lambda row: True,
    ):
        self._run = run
        self._folder_of = folder_of
        for line, row in enumerate(run.results(), 1):
            if not known(row):
                raise RunFolderError(
                    f"line {line} of {run.path / 'results.jsonl'} is not a result of this suite; "
                    "remove it, and its part runs again."
                )
        for row in run.results():  # a suite killed after `record` left the checkpoints there
            self._delete_checkpoints(row)

    def missing(self, parts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the parts that have no result yet."""
        rows = self._run.results()
        return [part for part in parts if not any(part.items() <= row.items() for row in rows)]

    def start(self, part: dict[str, Any]) -> pathlib.Path | None:
        """Returns the folder of a part's own run, so that its training can start or go on.

        A part that was finished but not recorded would count as a finished run there; without its
        `metrics.json` it goes on from its last checkpoint and is tested again.
        """
        gc.collect()  # the model of the part before: it and its graphs refer to each other
        folder = self._folder_of(part)
        if folder:
            (folder / "metrics.json").unlink(missing_ok=True)
        return folder

    def record(self, part: dict[str, Any], **result: Any) -> None:
        """Adds a part and its result to `results.jsonl`, then deletes the part's checkpoints."""
        self._run.record(**part, **result)
        self._delete_checkpoints(part)

    def _delete_checkpoints(self, part):
        if folder := self._folder_of(part):
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
