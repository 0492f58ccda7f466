"""Converters print, and not only from Python."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what is written to stdout or stderr inside, by Python or by C++."""
    saved = {}
    with open(os.devnull, "w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
            stream.flush()
            saved[number] = os.dup(number)
            os.dup2(nowhere.fileno(), number)
        try:
            yield
        finally:
            for number, copy in saved.items():
                (sys.stdout, sys.stderr)[number - 1].flush()
                os.dup2(copy, number)
                os.close(copy)
