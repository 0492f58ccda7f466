"""SIGTERM and SIGINT as a request to stop after the step that is running."""

import signal
import sys
import threading
from types import FrameType
from typing import Any


class SignalFlag:
    """While it is entered, SIGTERM and SIGINT only set `by`; a second one acts as before.

    Attributes:
        by: Number of the signal that came, or None.
    """

    def __enter__(self) -> "SignalFlag":
        self.by = None
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # Python allows no other
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.by = number
        self.__exit__()
        print("\nstopping after this step, then saving ...", file=sys.stderr, flush=True)
