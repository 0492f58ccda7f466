"""What reaches the terminal of a command: its own words, and one progress bar at a time."""

import contextlib
import io
import logging
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from absl import logging as absl_logging

# Read by TensorFlow's C++, gRPC and tqdm when they are loaded; what a user has set stays.
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR"}
_BARS = {
    "TQDM_BAR_FORMAT": "{l_bar}{bar}| {n_fmt}/{total_fmt}{unit} "
    "[{elapsed}, {remaining} left, {rate_noinv_fmt}{postfix}]"
}
_SECONDS = 15  # between two lines about one bar, where there is no terminal

# Keras and TensorFlow import these if they are there: two seconds, and 200 MB. Commands need the
# first two late or never, and of Keras nothing that needs them.
_IMPORTED_LATER = ("matplotlib", "sklearn", "jax")

_held = []  # what `_held_back` holds at present, at most one


def set_up(quiet: bool) -> None:
    """Prepares the process of a command, before TensorFlow is imported.

    Args:
        quiet: Whether only this package's own warnings are shown.
    """
    for name, value in {**_BARS, **(_QUIET if quiet else {})}.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # some consoles cannot print every character
    if not isinstance(sys.stderr, Screen):
        sys.stderr = Screen(sys.stderr)
    if quiet:
        logging.getLogger().handlers[:] = [_OwnMessages()]
        absl_logging.set_verbosity(absl_logging.WARNING)  # its info is every file written
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module=r"bit_keras\b|__main__$")
            warnings.showwarning = _show_warning


def import_tensorflow(quiet: bool) -> None:
    """Imports TensorFlow and finds its devices, and shows nothing of what that prints.

    The first lines of its C++ heed no variable. They are shown if the import fails.

    Raises:
        ValueError: If Keras computes on another backend.
    """
    with contextlib.nullcontext() if not quiet or "tensorflow" in sys.modules else _held_back():
        with _hidden(*_IMPORTED_LATER):
            from ..training.backends import require_tensorflow  # imports TensorFlow, too

            require_tensorflow("this command")
            import tensorflow as tf

        from ..reporting.texts import duration  # imports what is about to be needed anyway

        tf.config.list_physical_devices()
    if quiet:
        tf.get_logger().setLevel("ERROR")
    import tqdm

    tqdm.tqdm.format_interval = staticmethod(duration)


def drop_output() -> None:
    """From here on nothing is written to standard output, whose reader has ended."""
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)  # or Python complains when it ends


@contextlib.contextmanager
def _hidden(*packages: str) -> Iterator[None]:
    """Packages that nobody has imported yet are as if they were not installed."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None: an import of it fails
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Holds back what is written to file descriptor 2, by whatever language.

    It is shown where the block raises an error, and where the process dies in it.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        _held.append(_Held(kept.fileno()))
        try:
            yield
        except Exception:
            let_go(show=True)
            raise
        finally:
            let_go()


def let_go(*, show: bool = False) -> None:
    """Ends the holding back, if there is any; `show` says whether what was held is written."""
    while _held:
        _held.pop().release(show)


class _Held:
    """File descriptor 2, led into a file."""

    def __init__(self, file):
        self._file, self._terminal = file, os.dup(2)
        self._alive = _watch(file, self._terminal) if hasattr(os, "fork") else None
        os.dup2(file, 2)

    def release(self, show):
        sys.stderr.flush()
        os.dup2(self._terminal, 2)
        if show:
            _copy(self._file, self._terminal)
        os.close(self._terminal)
        if self._alive:
            watcher, pipe = self._alive
            os.write(pipe, b".")
            os.close(pipe)
            os.waitpid(watcher, 0)


def _watch(file, terminal):
    """Starts a process that shows a file if this one dies: after an abort in C++, Python cannot.

    Returns its id, and the pipe to which a byte is written when all is well.
    """
    reading, writing = os.pipe()
    watcher = os.fork()
    if watcher:
        os.close(reading)
        return watcher, writing
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(writing)
        if not os.read(reading, 1):
            _copy(file, terminal)
    finally:
        os._exit(0)


def _copy(file, terminal):
    offset = 0
    while piece := os.pread(file, 1 << 16, offset):
        os.write(terminal, piece)
        offset += len(piece)


class _OwnMessages(logging.Handler):
    """Shows warnings of this package, and errors of all, as one line without time and place."""

    def emit(self, record):
        own = record.name.partition(".")[0] in ("bit_keras", "__main__")
        if record.levelno >= (logging.WARNING if own else logging.ERROR):
            print(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    print(f"warning: {message}", file=file or sys.stderr)


class Screen:
    """Standard error, on which progress bars and lines do not meet.

    A bar is what is written after a carriage return. On a terminal, its line is cleared before
    another text is written. Elsewhere it becomes a line now and then, and one at its end.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._bar, self._shown, self._times = "", "", {}
        self._in_line = False  # whether the last text, a bar's aside, did not end its line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if self._stream.isatty():
            self._write_to_terminal(text)
        else:
            self._write_to_file(text)
        return len(text)

    def _write_to_terminal(self, text):
        if text[:1] == "\r":
            self._bar = text.strip()
        elif text and text != "\x1b[A":  # up to the line of another bar
            if self._bar and text[0] != "\n":
                self._stream.write("\r\x1b[K")
            self._bar = ""
        self._stream.write(text)

    def _write_to_file(self, text):
        if text[:1] == "\r":
            self._take(re.sub(r"\|.*?\|", ",", text.strip()))
        elif text == "\n" and self._bar and not self._in_line:  # the bar's end
            self._show()
            self._take("")
        elif text and text != "\x1b[A":
            self._in_line = text[-1] != "\n"
            self._stream.write(text)

    def _take(self, bar):
        """Keeps what a bar says; "" at its end."""
        if not bar:
            self._times.pop(self._name(), None)
        self._bar, now = bar, time.monotonic()
        if bar and now - self._times.setdefault(self._name(), now) >= _SECONDS:
            self._times[self._name()] = now
            self._show()

    def _name(self):
        return self._bar.partition(":")[0]

    def _show(self):
        if self._bar != self._shown:
            self._stream.write(f"{self._bar}\n")
            self._stream.flush()
        self._shown = self._bar
