"""From a name or a file to a model with weights."""

import difflib
import fnmatch
import numbers
import os
import pathlib
import re

import keras

from .checkpoints import (
    CheckpointError,
    base_url,
    cache_dir,
    check_names_and_shapes,
    fetch,
    open_npz,
)
from .resnet_v2 import UNITS, ResNetV2, with_head

EMBEDDED = pathlib.Path(__file__).with_name("weights")  # the models that come with the package

SIZES = ("R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4")
VTAB_SIZES = ("R50x1", "R101x1", "R50x3", "R101x3", "R152x4")
VTAB_TASKS = (
    *("caltech101", "cifar100", "dtd", "oxford_flowers102", "oxford_iiit_pet", "sun397", "svhn"),
    *("patch_camelyon", "eurosat", "resisc45", "diabetic_retinopathy"),
    *("clevr-count", "clevr-distance", "dmlab", "kitti-distance", "dsprites-xpos"),
    *("dsprites-orientation", "smallnorb-azimuth", "smallnorb-elevation"),
)
# Every published name is the path of its file below the download folder, without the ".npz".
PUBLISHED = (
    *(f"BiT-{upstream}-{size}" for upstream in "SM" for size in SIZES),
    *(f"BiT-M-{size}-ILSVRC2012" for size in SIZES),
    *(
        f"vtab/BiT-M-{size}-run{run}-{task}"
        for size in VTAB_SIZES
        for run in range(3)
        for task in VTAB_TASKS
    ),
    *("distill/R50x1_224", "distill/R50x1_160", "distill/R152x2_T_224", "distill/R152x2_T_384"),
)


def list_models(pattern: str = "*") -> list[str]:
    """Returns the names `load` knows, sorted.

    Args:
        pattern: A shell pattern, such as "BiT-M-*" or "vtab/*-run0-cifar100".
    """
    return sorted(fnmatch.filter((*PUBLISHED, *embedded_models()), pattern))


def embedded_models():
    return [path.stem for path in EMBEDDED.glob("*.npz")]


def load(
    source: str | os.PathLike,
    *,
    num_classes: int | None = None,
    init: str = "pretrained",
    sha256: str | None = None,
) -> keras.Model:
    """Loads a published model by name, or a model from a file.

    Published weights are downloaded at first and kept in a cache: `$BIT_KERAS_CACHE`, or
    `~/.cache/bit_keras`. `$BIT_KERAS_BASE_URL` takes the place of the authors' bucket.

    Args:
        source: One of `list_models()`; or the path of an `.npz` with canonical names, whose
            architecture is read off its arrays; or of a `.keras` file.
        num_classes: None keeps the checkpoint's own head (or has none, where the checkpoint has
            none); a number puts a new zero-initialised head; 0 gives the pooled features.
        init: "random" builds the same architecture with random weights instead (and downloads
            nothing); a head is then zero-initialised.
        sha256: The SHA-256 a downloaded file must have, in hexadecimal.

    Returns:
        A `keras.Model`: float32 RGB in [0, 1], `[batch, height, width, 3]` with sides of 32 pixels
        or more, to float32 logits `[batch, num_classes]` or features `[batch, channels]`.

    Raises:
        ValueError: If the name is unknown, with the nearest names; or `num_classes` is negative.
        CheckpointError: If a file is damaged, or does not hold a BiT.
        DownloadError: If a published file cannot be fetched.
    """
    if num_classes is not None and not (
        isinstance(num_classes, numbers.Integral) and num_classes >= 0
    ):
        raise ValueError(f"num_classes must be 0 (features) or more, got {num_classes!r}.")
    if init not in ("pretrained", "random"):
        raise ValueError(f'init must be "pretrained" or "random", got {init!r}.')
    check_source(source)
    name = os.fspath(source)
    path = pathlib.Path(name)
    if sha256 and name not in PUBLISHED:
        raise ValueError(f"sha256 pins a file that is downloaded, and {name} is not; leave it out.")
    if name in PUBLISHED:
        units, width = architecture_of_name(name)
        keras_name = name.replace("/", "_")
        if init == "random":
            if num_classes is None:
                raise ValueError('num_classes must be given with init="random"; 0 is no head.')
            return ResNetV2(units, width, num_classes, name=keras_name)
        path = fetch(f"{name}.npz", base_url=base_url(), cache_dir=cache_dir(), sha256=sha256)
        return load_npz(path, num_classes, keras_name, expected=(units, width))
    if name in embedded_models():
        return load_npz(EMBEDDED / f"{name}.npz", num_classes, name, init)
    if path.suffix == ".npz":
        return load_npz(path, num_classes, path.stem, init)
    if init == "random":
        raise ValueError('init="random" takes a model\'s name or an .npz, got a .keras file.')
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever it meets in a damaged file
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"cannot read {path} as a Keras model ({reason}); "
            "expected a file written by bit_keras.export(model, path, format='keras')."
        ) from error
    return model if num_classes is None else with_head(model, num_classes)


def check_source(source: str | os.PathLike) -> None:
    """Raises ValueError for what `load` cannot know: a wrong name, a file that is not there."""
    name, path = os.fspath(source), pathlib.Path(source)
    if name in PUBLISHED or name in embedded_models():
        return
    if path.suffix in (".npz", ".keras"):
        if not path.is_file():
            raise ValueError(f"there is no file {path}; give the path of an .npz or .keras file.")
        return
    if path.exists():
        raise ValueError(
            f"cannot load {path}; expected an .npz or .keras file, or one of list_models()."
        )
    if re.match(r"BiT-L\b", name):
        raise ValueError(
            f"{name} cannot be had: its weights were trained on JFT-300M, a data set internal to "
            "Google, and were never released; take the BiT-M of that size."
        )
    by_lower_case = {known.lower(): known for known in list_models()}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.5)
    near = [by_lower_case[match] for match in near]
    hint = f"did you mean {', '.join(near)}?" if near else "bit_keras.list_models() lists all."
    raise ValueError(f"there is no model named {name!r} and no such file; {hint}")


def load_npz(path, num_classes, model_name, init="pretrained", expected=None):
    checkpoint = open_npz(path)
    shapes = checkpoint.shapes
    units, width, classes = architecture(shapes, path)
    if expected and (units, width) != expected:
        raise CheckpointError(
            f"{path} holds units {units} at width {width:g} where {expected[0]} at "
            f"{expected[1]} were expected; delete it and load again."
        )
    if init == "random":
        return ResNetV2(
            units, width, classes if num_classes is None else num_classes, name=model_name
        )
    model = ResNetV2(
        units,
        width,
        classes if num_classes is None else num_classes,
        kernel_initializer="zeros",  # drawing what is overwritten next takes longer than reading
        name=model_name,
    )
    variables = {variable.path: variable for variable in model.variables}
    if num_classes is not None:  # the checkpoint's own head stays behind, a new one stays zero
        variables = {path: v for path, v in variables.items() if not path.startswith("head/")}
        shapes = {path: shape for path, shape in shapes.items() if not path.startswith("head/")}
    wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
    check_names_and_shapes(wanted, shapes, str(path))
    for name, variable in variables.items():
        variable.assign(checkpoint[name])
    return model


def architecture(shapes, source):
    """Reads (units a block, width, classes) off a checkpoint's shapes; 0 classes is no head."""
    last_units = {}
    for name in shapes:
        if match := re.match(r"block(\d+)/unit(\d+)/", name):
            block, unit = map(int, match.groups())
            last_units[block] = max(unit, last_units.get(block, 0))
    root = shapes.get("root_block/standardized_conv2d/kernel", ())
    head = shapes.get("head/conv2d/kernel", (1, 1, 1, 0))
    if (
        not last_units
        or sorted(last_units) != [*range(1, len(last_units) + 1)]
        or root[:3] != (7, 7, 3)
        or root[3] < 2
        or len(head) != 4
    ):
        some = ", ".join(sorted(shapes)[:3])
        raise CheckpointError(
            f"{source} is not a BiT checkpoint: expected resnet/root_block/standardized_conv2d/"
            "kernel of shape [7, 7, 3, 64 * width], the units of block1, block2, ..., and at most "
            f"one head of 4 dimensions, found {some or 'nothing'}."
        )
    units = tuple(count for _, count in sorted(last_units.items()))
    return units, root[3] / 64, head[3]


def architecture_of_name(name):
    depth, width = re.search(r"R(\d+)x(\d+)", name).groups()
    return UNITS[int(depth)], int(width)
