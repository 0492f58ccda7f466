"""The backend that Keras computes on, and the sentence about what needs TensorFlow's."""

import json
import os
import pathlib
import sys


def backend() -> str:
    """Returns the name of Keras's backend, without importing Keras, which takes seconds.

    Where Keras is not imported yet, it is the one that Keras is going to take: `$KERAS_BACKEND`, or
    else that of `keras.json` in `$KERAS_HOME` or `~/.keras`, or else "tensorflow".
    """
    if hasattr(sys.modules.get("keras"), "config"):
        return sys.modules["keras"].config.backend()
    return os.environ.get("KERAS_BACKEND") or _configured().get("backend") or "tensorflow"


def on_tensorflow() -> bool:
    """Whether Keras computes on TensorFlow."""
    return backend() == "tensorflow"


def needs_tensorflow(what: str) -> str:
    """Returns the sentence that refuses what needs Keras to compute on TensorFlow."""
    return (
        f"{what} needs TensorFlow, and Keras computes on {backend()}; set KERAS_BACKEND=tensorflow "
        "before Keras is imported."
    )


def require_tensorflow(what: str) -> None:
    """Raises ValueError unless Keras computes on TensorFlow."""
    if not on_tensorflow():
        raise ValueError(needs_tensorflow(what))


def stand_in(name: str) -> type:
    """Returns what takes the place of a public name that needs TensorFlow.

    Calling it raises ValueError.
    """

    def refuse(cls, *args, **kwargs):
        require_tensorflow(name)

    return type(name.rpartition(".")[2], (), {"__new__": refuse, "__doc__": needs_tensorflow(name)})


def _configured():
    home = os.path.expanduser("~")
    home = os.environ.get("KERAS_HOME") or pathlib.Path(
        home if os.access(home, os.W_OK) else "/tmp", ".keras"
    )
    try:
        found = json.loads(pathlib.Path(home, "keras.json").expanduser().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
