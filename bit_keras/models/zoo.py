"""From a name or a file to a model with weights."""

import contextlib
import difflib
import fnmatch
import gc
import os
import pathlib
import re
import zlib

import keras

from .. import checkpoints
from ..checkpoints import CheckpointError
from ..choices import INITS
from ..layers import check_image_data_format
from ..training.reading_runs import model_of_run
from .keras_file import load_keras
from .published import (
    EMBEDDED,
    PUBLISHED,
    architecture_named,
    full_name,
    names_starting,
)
from .resnet_v2 import ResNetV2, check_num_classes, with_head
from .spec import ModelSpec, SpecifiedModel, spec_of
from .spec_files import read_spec

WEIGHTS = pathlib.Path(__file__).parents[1] / "weights"  # of the embedded models

_HUGGING_FACE = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@(.+))?")
_URL = re.compile(r"https?://")
_ARCHITECTURE = ("units", "width", "groups", "norm", "conv")
_SOURCES = (
    "one of list_models(); with random weights an architecture such as R26x0.5; an .npz, "
    ".safetensors or .keras file; a run's folder; a folder with a SavedModel or a "
    "model.safetensors; hf://ORG/NAME; or the URL of a TF-Hub module"
)


def list_models(pattern: str = "*") -> list[str]:
    """Returns the names `load` knows, sorted; `pattern` is a shell pattern such as "BiT-M-*"."""
    return sorted(fnmatch.filter((*PUBLISHED, *EMBEDDED), pattern))


def load(
    source: str | os.PathLike,
    *,
    num_classes: int | None = None,
    init: str = "pretrained",
    sha256: str | None = None,
) -> keras.Model:
    """Loads a published model by name, or a model from a file, a folder, a run or a hub.

    Published weights are downloaded at first and kept in a cache: `$BIT_KERAS_CACHE`, or
    `~/.cache/bit_keras`. `$BIT_KERAS_BASE_URL` takes the place of the authors' bucket.

    Weights are read as data in every format: no code and no graph in a file is run.

    Args:
        source: One of `list_models()`, or as much of its name as no other begins with; or with
            random weights any architecture, "R26x0.5", of the depths 14, 26, 50, 101 and 152 and
            any width that makes 64 * width a whole number; or one of

            - the path of an `.npz` with canonical names,
            - a `.safetensors` that timm or transformers wrote, or a folder with a
              `model.safetensors`, or `hf://ORG/NAME` or `hf://ORG/NAME@REVISION` for one on
              Hugging Face (these need the extra `interop`),
            - the folder of a TF2 SavedModel whose variables have canonical names, such as
              `bit_keras.export` writes, or the http(s) URL of one on TF-Hub,

            whose architecture is read off the arrays; of a `.keras` file, whose architecture
            is in the file; or of the folder of a finished run, for the model in it.
        num_classes: None keeps the checkpoint's own head (or has none, where the checkpoint has
            none); a number puts a new zero-initialized head; 0 gives the pooled features.
        init: "random" builds the same architecture with random weights instead (and downloads no
            published weights); a head is then zero-initialized.
        sha256: The SHA-256 a published file must have, in hexadecimal.

    Returns:
        A `keras.Model`: float32 RGB in [0, 1], `[batch, height, width, 3]` with sides of 32 pixels
        or more, to float32 logits `[batch, num_classes]` or features `[batch, channels]`. What is
        known of it (classes, sizes, loss, source) is its `spec`, a `models.spec.ModelSpec`.

    Raises:
        ValueError: If the name is unknown, with the nearest names; or `num_classes` is negative; or
            Keras is set to channels first.
        CheckpointError: If a file is damaged, or does not hold a BiT; or an extra is missing.
        DownloadError: If a file cannot be fetched.
    """
    if num_classes is not None:
        check_num_classes(num_classes)
    if init not in INITS:
        raise ValueError(f'init must be "pretrained" or "random", got {init!r}.')
    source = model_of_run(source)
    check_source(source)
    name = full_name(source)
    if name in PUBLISHED:
        return _load_published(PUBLISHED[name], num_classes, init, sha256)
    if spec := architecture_named(name):
        if init != "random":
            raise ValueError(
                f'{name} is an architecture without weights; give init="random" (--init=random).'
            )
        return _load_published(spec, num_classes, init, sha256)
    if sha256:
        raise ValueError(f"sha256 pins a published file, and {name} is not; leave it out.")
    path, model_name = _found(name)
    spec = read_spec(name) or read_spec(path) or ModelSpec(source=name)
    if path.suffix != ".keras" or path.is_dir():
        return _load_weights(path, model_name, num_classes, init, spec)
    if init == "random":
        raise ValueError('init="random" takes a name or weights, got a .keras file.')
    return _load_keras(path, num_classes, spec)


def check_source(source: str | os.PathLike) -> None:
    """Checks a source as `load` does, without reading weights.

    Raises ValueError for a wrong name or a missing file, or if Keras is set to channels first;
    CheckpointError for a missing extra.
    """
    check_image_data_format()
    name = full_name(model_of_run(source))
    path = pathlib.Path(name)
    if name in PUBLISHED or name in EMBEDDED or _URL.match(name):
        return
    if not path.exists() and architecture_named(name):
        return
    if name.startswith("hf://"):
        if not _HUGGING_FACE.fullmatch(name):
            raise ValueError(f"expected hf://ORG/NAME or hf://ORG/NAME@REVISION, got {name}.")
        checkpoints.require_interop()
    elif path.is_dir():
        if (path / "saved_model.pb").is_file():
            return
        if not (path / "model.safetensors").is_file():
            raise ValueError(
                f"cannot load {path}, which holds neither a saved_model.pb nor a "
                f"model.safetensors; expected {_SOURCES}."
            )
        checkpoints.require_interop()
    elif path.suffix in (".npz", ".safetensors", ".keras"):
        if not path.is_file():
            raise ValueError(f"there is no file {path}; expected {_SOURCES}.")
        if path.suffix == ".safetensors":
            checkpoints.require_interop()
    elif path.exists():
        raise ValueError(f"cannot load {path}; expected {_SOURCES}.")
    elif re.match(r"BiT-L\b", name):
        raise ValueError(
            f"{name} is not available: its weights were trained on JFT-300M, a data set internal "
            "to Google, and were never released; take the BiT-M of that size."
        )
    elif several := names_starting(name):
        more = ", ..." if len(several) > 5 else ""
        raise ValueError(
            f"there is no model named {name!r} and no such file; did you mean "
            f"{', '.join(several[:5])}{more}?"
        )
    else:
        by_lower_case = {known.lower(): known for known in list_models()}
        near = difflib.get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.5)
        near = [by_lower_case[match] for match in near]
        hint = f"did you mean {', '.join(near)}?" if near else f"expected {_SOURCES}."
        raise ValueError(f"there is no model named {name!r} and no such file; {hint}")


def weights_crc32(source: str | os.PathLike) -> int | None:
    """Returns a checksum of the weights at a path, to notice when they were replaced.

    None for names and URLs, whose files are verified in the cache.
    """
    path = pathlib.Path(model_of_run(source))
    if not path.exists():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    crc = 0
    for file in files:
        with open(file, "rb") as opened:
            while block := opened.read(2**24):
                crc = zlib.crc32(block, crc)
    return crc


def _found(name):
    """The path of weights, which may be fetched first, and what to call their model."""
    if name in EMBEDDED:
        return WEIGHTS / EMBEDDED[name].file, name
    if match := _HUGGING_FACE.fullmatch(name):
        return checkpoints.fetch_hugging_face(*match.groups()), match[1].split("/")[1]
    if _URL.match(name):
        return checkpoints.fetch_tf_hub(name), _URL.sub("", name).replace("/", "_")
    path = pathlib.Path(name)
    return path, path.resolve().name if path.is_dir() else path.stem


def _load_published(published, num_classes, init, sha256):
    model_name = published.name.replace("/", "_")
    if init == "random":
        if num_classes is None:
            raise ValueError(
                f'{published.name} with init="random" needs num_classes; 0 is no head.'
            )
        model = ResNetV2(published.units, published.width, num_classes, name=model_name)
        return _with_facts(model, published, random=True)
    source = {"base_url": checkpoints.base_url(), "cache_dir": checkpoints.cache_dir()}
    path = checkpoints.fetch(published.file, **source, sha256=sha256)
    return _load_weights(path, model_name, num_classes, init, published, known=True)


def _load_weights(path, model_name, num_classes, init, spec, known=False):
    checkpoint = _opened(path)
    shapes = checkpoint.shapes
    units, width, classes = checkpoints.architecture(shapes, path)
    if spec.units and (units, width) != (spec.units, spec.width):
        if known:
            raise CheckpointError(
                f"{path} holds units {units} at width {width:g} where {spec.units} at {spec.width} "
                "were expected; delete it and load again."
            )
        spec = ModelSpec()  # of another model, whose name the file bears
    if spec.published and spec.num_classes != classes:
        spec = spec.with_classes(classes)
    if num_classes is not None:  # skips the checkpoint's head; the new one stays zero
        shapes = {name: shape for name, shape in shapes.items() if not name.startswith("head/")}
        classes = 0
    # Before anything is built: a file may describe more than it holds.
    wanted = checkpoints.architecture_shapes(units, width, classes)
    checkpoints.check_names_and_shapes(wanted, shapes, str(path))
    classes = classes if num_classes is None else num_classes
    if init == "random":
        return _with_facts(ResNetV2(units, width, classes, name=model_name), spec, random=True)
    # Zeros: random values would be overwritten, and take longer than reading the file.
    with _collecting_no_garbage():
        model = ResNetV2(units, width, classes, kernel_initializer="zeros", name=model_name)
    if num_classes is not None:
        spec = spec.with_classes(classes)
    variables = {variable.path: variable for variable in model.variables}
    for name in wanted:
        variables[name].assign(checkpoint[name])
    return _with_facts(model, spec)


@contextlib.contextmanager
def _collecting_no_garbage():
    """For making many small objects, during which Python would look through all there are."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _with_facts(model, spec, random=False):
    """The model with these facts beside those of its architecture."""
    if random:
        spec = ModelSpec(rule_changes=spec.rule_changes)
    own = {name: getattr(model.spec, name) for name in (*_ARCHITECTURE, "num_classes")}
    if len(spec.class_names or ()) != own["num_classes"]:
        spec = spec.replace(class_names=None)  # of a labels.txt that is for another model
    model.spec = spec.replace(name=spec.name or model.name, **own)
    return model


def _opened(path):
    if path.suffix == ".npz" and path.is_file():
        return checkpoints.open_npz(path)
    if (path / "saved_model.pb").is_file():
        return checkpoints.open_saved_model(path)
    return checkpoints.open_safetensors(path / "model.safetensors" if path.is_dir() else path)


def _load_keras(path, num_classes, spec):
    model = load_keras(path)
    if "pooled" in {layer.name for layer in model.layers}:
        if not isinstance(model, SpecifiedModel):  # of an older version
            facts = spec_of(model)
            model = SpecifiedModel(model.input, model.output, name=model.name, spec=facts)
        model = _with_facts(model, model.spec.completed_by(spec))
    return model if num_classes is None else with_head(model, num_classes)
