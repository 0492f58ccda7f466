"""A whole command that trains, watched by the lines of its log. See `serving`.

Settings: command (a list in which "WORKDIR" stands for a new folder), log (its file in that folder,
a JSON object with `step` a line), batch.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import time

from serving import serve

POLL = 0.02  # seconds


def watching(settings: dict) -> object:
    """Returns a function that runs the command and returns its figures."""

    def run():
        with tempfile.TemporaryDirectory() as workdir:
            log = pathlib.Path(workdir, settings["log"])
            command = [part.replace("WORKDIR", workdir) for part in settings["command"]]
            began, seen, size = time.time(), [], 0
            process = subprocess.Popen(command, stdout=2)
            try:
                while process.poll() is None:
                    if log.exists() and log.stat().st_size > size:
                        size = log.stat().st_size
                        seen.append((time.time(), _last_step(log)))
                    time.sleep(POLL)
            finally:
                process.terminate()
            if process.returncode:
                raise SystemExit(f"{os.path.basename(command[0])} ended with {process.returncode}")
        (first, first_step), (last, last_step) = seen[0], max(seen, key=lambda one: one[1])
        return {
            "images/s": settings["batch"] * (last_step - first_step) / (last - first),
            "first step, s": first - began,
            "whole command, s": time.time() - began,
        }

    return run


def _last_step(log):
    lines = [line for line in log.read_text().split("\n")[:-1] if line]
    return json.loads(lines[-1])["step"] if lines else 0


if __name__ == "__main__":
    serve(lambda _: None, watching, ())
