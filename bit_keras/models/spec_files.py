"""Reads the facts of a model from its files, without its weights."""

import functools
import json
import os
import pathlib
import zipfile

from ..checkpoints import check_unpacked_size, damage_as_error
from ..training.reading_runs import class_names_around, settings_around
from .published import EMBEDDED, PUBLISHED, architecture_named, full_name
from .spec import ModelSpec

BESIDE = ".spec.json"  # after the name of a file that holds nothing but weights
IN_SAVED_MODEL = pathlib.Path("assets.extra", "bit_keras.json")


def read_spec(source: str | os.PathLike) -> ModelSpec | None:
    """Returns the facts of what `load` takes, or of an export; None if they are unknown.

    They are those in the file, completed by those of the run that it lies in and by a `labels.txt`
    beside it, or of the published model whose name it bears. Raises CheckpointError if the files
    hold something else.
    """
    known = {**PUBLISHED, **EMBEDDED}
    name = full_name(source)
    if name in known:
        return known[name]
    path = pathlib.Path(name)
    if not path.exists():
        return architecture_named(name)
    readers = (_of_keras_file, _beside, _of_configuration, _of_run)
    with damage_as_error(f"what is known of {path}"):
        found = [spec for read in readers if (spec := read(path))]
    return functools.reduce(ModelSpec.completed_by, found) if found else known.get(path.stem)


def _of_keras_file(path):
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        check_unpacked_size(archive, path)
        model = json.loads(archive.read("config.json"))["config"]
    return ModelSpec.from_json(model["spec"]) if "spec" in model else None


def _beside(path):
    for file in (path.with_name(path.name + BESIDE), path / IN_SAVED_MODEL):
        if file.is_file():
            return ModelSpec.from_json(file.read_bytes())
    return None


def _of_configuration(path):
    """Of a folder, or a file in it, that timm or transformers wrote."""
    folder = path if path.is_dir() else path.parent
    if path.is_file() and path.suffix != ".safetensors":
        return None
    config = _json(folder / "config.json")
    if "bit_keras" in config:
        return ModelSpec.from_json(json.dumps(config["bit_keras"]))
    if timm := config.get("pretrained_cfg"):
        size = (timm.get("input_size") or (3, None))[1]
        squashed = timm.get("crop_mode") == "squash" or timm.get("crop_pct") in (None, 1.0)
        return ModelSpec(
            class_names=timm.get("label_names"),
            test_size=size,
            test_resize=None if squashed or not size else int(size / timm["crop_pct"]),
        )
    if config.get("model_type") == "bit":
        labels = config.get("id2label") or {}
        names = [labels[n] for n in sorted(labels, key=int)]
        size, resize = _processing(_json(folder / "preprocessor_config.json"))
        several = config.get("problem_type") == "multi_label_classification"
        return ModelSpec(
            class_names=None if not names or names[0] == "LABEL_0" else names,
            loss="sigmoid" if several else None,
            test_size=size,
            test_resize=resize,
        )
    return None


def _processing(config):
    """(test_size, test_resize) of a preprocessor of transformers."""
    size, crop = config.get("size") or {}, config.get("crop_size") or {}
    if not config.get("do_resize", True):
        return None, None
    short = size.get("shortest_edge")
    if short and config.get("do_center_crop", True):
        return crop.get("height"), short
    return size.get("height"), None


def _json(path):
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_run(path):
    settings, names = settings_around(path), class_names_around(path)
    if not settings and names is None:
        return None
    protocol = settings.get("recipe") or settings.get("rule") or {}
    return ModelSpec(
        class_names=names,
        loss=settings.get("loss"),
        test_size=protocol.get("crop"),
        test_resize=protocol.get("test_resize"),
        native_size=protocol.get("crop") if "recipe" in settings else None,
    )
