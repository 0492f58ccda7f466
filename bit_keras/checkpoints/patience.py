"""For how long a silent or slow server is waited for."""

import math
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

LEAST_RATE = 1024  # bytes a second, below which a server counts as silent


class TooSlowError(OSError):
    """A server sends nothing, or next to nothing."""


def patience() -> float:
    """Returns the seconds that a server may be silent or slow: `$BIT_KERAS_TIMEOUT`, or 30.

    Raises ValueError if the variable is not a number above 0.
    """
    text = os.environ.get("BIT_KERAS_TIMEOUT") or "30"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86_400:
        raise ValueError(
            f"BIT_KERAS_TIMEOUT must be seconds, above 0 and up to a day, got {text!r}."
        )
    return seconds


def patiently(
    receive: Callable[[], Any], seconds: float, arrived: Callable[[], int] = lambda: 0
) -> Any:
    """Returns what a function returns that waits for a server; raises what it raises.

    Args:
        receive: Called in a thread, which is left alone if it is not waited for any longer.
        seconds: The time in which something must arrive.
        arrived: Returns the bytes that have arrived.

    Raises:
        TooSlowError: If less than 1 KiB a second arrived for that time.
    """
    answers = queue.SimpleQueue()

    def work():
        try:
            answers.put((receive(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    while True:
        before = arrived()
        try:
            answer, error = answers.get(timeout=seconds)
        except queue.Empty:
            if arrived() - before < LEAST_RATE * seconds:
                raise TooSlowError(silence(seconds)) from None
            continue
        if error:
            raise error
        return answer


def silence(seconds: float) -> str:
    """Returns how a message calls a server that is silent or slow."""
    return (
        f"less than {LEAST_RATE:,} bytes a second came for {seconds:g} s; BIT_KERAS_TIMEOUT sets "
        "another time"
    )
