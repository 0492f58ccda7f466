"""Measures contenders in turn, each in a process of its own; gives a table, JSON and a plot.

What a machine does beside changes within seconds, so that two programs that are measured one after
the other cannot be compared. Here every round measures all contenders, in an order that is
reversed from round to round, and figures are compared within a round: a ratio is the median of the
rounds' ratios.

A contender is a program that answers as `serving` says. All see the processors that this process
may use: `taskset -c 0,1 python benchmarks/forward.py` measures on two.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time

from absl import flags
from results import machine, plot, summary, table, text
from serving import STARTED

from bit_keras.files import write_json

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
GRACE = 30  # seconds for a contender to end by itself

ROUNDS = flags.DEFINE_integer("rounds", 7, "Measurements of every contender.", lower_bound=1)
ONLY = flags.DEFINE_list(
    "only", [], "Parts of the names of the contenders to measure; by default all."
)
OUT = flags.DEFINE_string("out", "runs/benchmarks", "Folder for the JSON file and the plot.")


@dataclasses.dataclass(frozen=True)
class Contender:
    """A program to measure.

    Attributes:
        name: For the table.
        program: Its file in `benchmarks/`. One whose name begins with "peer" runs in the peers'
            Python.
        settings: What it is told; see `serving.serve`.
        fresh: Whether every measurement is of a new process. Otherwise one process, which has
            warmed up, is asked in every round, and sleeps between.
        environment: Variables of its environment.
    """

    name: str
    program: str
    settings: dict
    fresh: bool = False
    environment: dict = dataclasses.field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        """How to start it."""
        python = peers_python() if self.program.startswith("peer") else sys.executable
        return [python, str(HERE / self.program), json.dumps(self.settings)]


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of all contenders.

    Attributes:
        name: Of the files of results.
        title: One line that says what is measured.
        figures: The names of the figures to show; the first is the one that matters.
        reference: The contender that the others are compared with.
    """

    name: str
    title: str
    figures: tuple[str, ...]
    reference: str


class _FailedError(Exception):
    """A contender that cannot be measured; the message says why."""


class _Process:
    """A contender's process, which is ready when this is made."""

    def __init__(self, contender):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            contender.command,
            env=environment(**{STARTED: repr(time.time())}, **contender.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        answer = self._answer()
        if "unavailable" in answer:
            self.close()
            raise _FailedError(answer["unavailable"])
        self.versions = answer["versions"]

    def measured(self):
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            print("go", file=self._process.stdin, flush=True)
        return self._answer()["figures"]

    def _answer(self):
        try:
            line = self._process.stdout.readline()
        except KeyboardInterrupt:
            self._process.kill()
            raise
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        self.close()
        said = lines[-1] if lines else "without a word"
        killed = " (out of memory?)" if code == -9 else ""
        raise _FailedError(f"ended with code {code}{killed}: {said}")

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def peers_python() -> str:
    """Returns the Python that has timm and transformers; ends the program where there is none."""
    python = os.environ.get("PEERS_PYTHON") or ROOT / ".venv/peers/bin/python"
    if not pathlib.Path(python).is_file():
        sys.exit(
            f"error: no Python with the peers at {python}; run `make bench`, or set PEERS_PYTHON "
            "to a Python that has torch, torchvision, timm, transformers and openvino."
        )
    return str(python)


def environment(**variables: str) -> dict[str, str]:
    """Returns this program's environment and these variables, with no network and less chatter."""
    quiet = {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**os.environ, **quiet, **variables}


def run(question: Question, contenders: list[Contender]) -> dict:
    """Measures all contenders, prints a table in Markdown, and writes NAME.json and NAME.png.

    The JSON file is written after every round. After SIGINT or SIGTERM, table and plot are of what
    was measured till then, and the program exits with 130. A contender that fails is left out, with
    the reason.

    Returns:
        The content of the JSON file.
    """
    chosen = [c for c in contenders if not ONLY.value or any(n in c.name for n in ONLY.value)]
    if not chosen:
        names = ", ".join(contender.name for contender in contenders)
        sys.exit(f"error: --only={','.join(ONLY.value)} names no contender; there are {names}.")
    folder = pathlib.Path(OUT.value).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "question": dataclasses.asdict(question),
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "command": shlex.join(["python", *_relative(sys.argv)]),
        "machine": machine(),
        "versions": {},
        "rounds": {contender.name: [] for contender in chosen},
        "left_out": {},
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    interrupted = False
    try:
        _measure_all(chosen, found, folder / f"{question.name}.json")
    except KeyboardInterrupt:
        interrupted = True
    print(table(found))
    plot(found, folder / f"{question.name}.png")
    if interrupted:
        print("interrupted; the table has what was measured till then", file=sys.stderr)
        sys.exit(130)
    return found


def _measure_all(chosen, found, path):
    """Adds all rounds to what was found, and writes it after each, and after a part of one."""
    with contextlib.ExitStack() as stack:
        processes = {}
        for number in range(ROUNDS.value):
            try:
                for contender in chosen if number % 2 == 0 else chosen[::-1]:
                    if contender.name not in found["left_out"]:
                        _measure(contender, processes, stack, found, number)
            finally:
                found["results"] = summary(found["question"], found["rounds"])
                write_json(path, found)


def _relative(arguments):
    program = pathlib.Path(arguments[0]).resolve()
    return [str(program.relative_to(ROOT) if ROOT in program.parents else program), *arguments[1:]]


def _measure(contender, processes, stack, found, number):
    """Adds one measurement of a contender to what was found, or why there is none."""
    try:
        process = processes.get(contender.name)
        if process is None:
            process = _Process(contender)
            for package, version in process.versions.items():
                # Ours and the peers' Python may have different ones.
                versions = found["versions"].setdefault(package, [])
                found["versions"][package] = sorted({*versions, version})
        if contender.fresh:
            with contextlib.closing(process):
                figures = process.measured()
        else:
            if contender.name not in processes:
                processes[contender.name] = stack.enter_context(contextlib.closing(process))
            figures = process.measured()
    except _FailedError as error:
        found["left_out"][contender.name] = str(error)
        print(f"{contender.name}: left out, {error}", file=sys.stderr, flush=True)
        return
    found["rounds"][contender.name].append({"round": number, **figures})
    said = ", ".join(f"{name} {text(value)}" for name, value in figures.items())
    print(f"round {number + 1}, {contender.name}: {said}", file=sys.stderr, flush=True)
