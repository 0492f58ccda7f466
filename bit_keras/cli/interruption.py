"""Ctrl-C: one sentence and no traceback, whatever the process is at."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from . import console

EXIT_CODE = 128 + signal.SIGINT
NOTHING_SAVED = "interrupted; nothing was saved"

_came = threading.Event()  # set by the first Ctrl-C that is to be answered by an exception


def end_at_once() -> None:
    """From here on Ctrl-C ends the process on the spot: there is nothing to clean up yet.

    Imports turn the exception that Python raises into others, or swallow it.
    """
    _came.clear()
    _install(_end)


def raise_from_here_on() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, so that temporary files are removed.

    A second one ends the process on the spot.
    """
    _install(_raise)
    sys.unraisablehook = _raise_again


def has_come() -> bool:
    """Whether Ctrl-C has raised an exception, which may have become another since."""
    return _came.is_set()


def leave_to_the_system() -> None:
    """From here on Ctrl-C ends the process without a word: it is at its end."""
    _install(signal.SIG_DFL)


def show_uncaught(kind: type, error: BaseException, trace: TracebackType | None) -> None:
    """Takes the place of `sys.excepthook`: a Ctrl-C that comes first of all has no traceback."""
    if issubclass(kind, KeyboardInterrupt):
        _end()
    sys.__excepthook__(kind, error, trace)


def _install(handler):
    # Python allows it in the main thread alone. What is ignored, as in the background, stays so.
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def _end(*_: Any) -> None:
    console.let_go()
    os.write(2, f"\n{NOTHING_SAVED}\n".encode())  # `print` may be what was interrupted
    os._exit(EXIT_CODE)


def _raise(_number: int, _frame: FrameType | None) -> None:
    if _came.is_set():
        os.write(2, b"\ninterrupted once more; ended at once\n")
        os._exit(EXIT_CODE)
    _came.set()
    raise KeyboardInterrupt


def _raise_again(unraisable: Any) -> None:
    """Python drops exceptions of callbacks: a Ctrl-C there has to come once more."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    _came.clear()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
