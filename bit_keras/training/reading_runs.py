"""Reads a run's folder: its settings, its model and its class names."""

import contextlib
import json
import numbers
import os
import pathlib
import reprlib
from typing import Any

from ..files import expanded


def flattened_settings(settings: dict) -> dict:
    """Returns nested settings by dotted names: {"rule": {"steps": 5}} as {"rule.steps": 5}."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            inner = flattened_settings(value)
            flat |= {f"{name}.{inner_name}": x for inner_name, x in inner.items()}
        else:
            flat[name] = value
    return flat


def read_settings(path: pathlib.Path) -> dict:
    """Returns the settings in a `config.json`; raises ValueError if it holds something else."""
    return _read(path, _parse_object)


def read_lines(path: pathlib.Path, *, scalars: bool = False) -> list[dict]:
    """Returns `parse_lines` of a file; none if there is no file.

    Raises ValueError, which names the file, if it holds something else.
    """
    return _read(path, lambda text: parse_lines(text, scalars=scalars)) if path.exists() else []


def _read(path, parse):
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); restore it, or give this run another name."
        ) from error


def parse_lines(text: str, *, scalars: bool = False) -> list[dict]:
    """Returns the JSON objects in a text of one per line; the last may have been cut off.

    Raises ValueError if a line is something else; with `scalars` also unless each has a whole
    number as `step`, and no values but numbers.
    """
    *lines, last = text.split("\n")
    found = [_parse_object(line) for line in lines]
    with contextlib.suppress(json.JSONDecodeError):  # was being written when the machine went down
        found.append(_parse_object(last))
    for line, row in enumerate(found, 1):
        if scalars and not (
            isinstance(row.get("step"), int)
            and all(isinstance(value, numbers.Real) for value in row.values())
        ):
            raise ValueError(f"line {line} is no step with numbers, {reprlib.repr(row)}")
    return found


def _parse_object(text):
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object, got {reprlib.repr(found)}")
    return found


def _run_settings(folder: str | os.PathLike) -> dict:
    """Returns the settings in a run's `config.json`; nothing if the folder is not a run's.

    Raises ValueError for those of a run that are damaged.
    """
    path = pathlib.Path(folder, "config.json")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    # Other programs have files of that name too.
    if not isinstance(settings, dict) or "class_names" not in settings:
        return {}
    if "loss" not in settings and settings.get("task") != "detection":
        return {}
    names = settings["class_names"]
    described = [settings.get(part) for part in ("train", "test")]
    parts = [*described, *(settings.get(part) for part in ("rule", "recipe"))]
    if not (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and all(part is None or isinstance(part, dict) for part in parts)
        and all(isinstance(part.get("name", ""), str) for part in described if part)
    ):
        raise ValueError(f"{path} is damaged: restore it, or name another model.")
    return settings


def settings_around(model: str | os.PathLike) -> dict:
    """Returns the settings of the run that a model file lies in; nothing if it lies in none.

    That is RUN/model or RUN/checkpoints/best.keras, say.
    """
    if not os.path.exists(model):  # the name of a published model
        return {}
    return next(filter(None, map(_run_settings, _folders_above(model))), {})


def settings_of(source: str | os.PathLike) -> dict:
    """Returns the settings of a run, by its folder or a model in it; nothing of other sources."""
    source = expanded(source)
    return _run_settings(source) or settings_around(source)


def model_of_run(source: str | os.PathLike) -> str | os.PathLike:
    """Returns the model in a run's folder; any other source as it is, but with `~` replaced.

    Raises ValueError if the run has no model yet, or is that of a detector.
    """
    source = expanded(source)
    path = pathlib.Path(source)
    settings = _run_settings(path)
    if not settings:
        return source
    if settings.get("task") == "detection":
        raise ValueError(
            f"{path} is the run of a detector and holds no classifier; use it by bit-detect eval, "
            "predict or export."
        )
    if not (path / "model").is_dir():
        raise ValueError(f"the run {path} has no model yet; finish it by the command it began by.")
    return path / "model"


def may_have_been_trained_on(model: str | os.PathLike, images: Any) -> bool:
    """Whether images are of the data set of the model's run, and not those it was tested on.

    Args:
        model: A run's folder or a model in it, or anything else.
        images: Labeled or boxed images.
    """
    run = settings_of(model)
    if not run:
        return False
    trained = (run.get("train") or {}).get("name", "")
    same_set = trained.split("/")[0] == images.name.split("/")[0]
    tested = (run.get("test") or {}).get("fingerprint")
    return same_set and tested != images.description()["fingerprint"]


def class_names_around(model: str | os.PathLike) -> list[str] | None:
    """Returns the classes of the run that a model lies in, or of a `labels.txt` beside it."""
    if names := settings_around(model).get("class_names"):
        return names
    path = _folders_above(model)[0] / "labels.txt"
    return read_labels(path) if os.path.exists(model) and path.is_file() else None


def read_labels(path: str | os.PathLike) -> list[str]:
    """Returns the class names in a file that has one per line.

    Raises ValueError if it cannot be read.
    """
    try:
        lines = pathlib.Path(path).read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"cannot read class names from {path} ({error}); give a file in UTF-8 with one name a "
            "line."
        ) from error
    names = [line.removesuffix("\r") for line in lines]  # names may hold all other line breaks
    return names if names[-1] else names[:-1]


def _folders_above(path):
    return pathlib.Path(os.path.abspath(path)).parents[:2]
