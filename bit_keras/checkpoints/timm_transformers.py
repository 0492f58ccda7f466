"""Weights of timm and transformers: safetensors files in PyTorch's layout.

Kernels are `[out, in, height, width]` there, and the head of transformers is dense. Which of the
two wrote a file is seen from the name of its root convolution.
"""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..files import replacing, write_json
from .checkpoint import Checkpoint, damage_as_error, require_interop
from .matching import CheckpointError, architecture, first_few

FILE = "model.safetensors"

_IN_A_UNIT = {
    "a/proj/standardized_conv2d/kernel": "downsample.conv.weight",
    **{f"{part}/standardized_conv2d/kernel": f"conv{n}.weight" for n, part in enumerate("abc", 1)},
    **{f"{part}/group_norm/gamma": f"norm{n}.weight" for n, part in enumerate("abc", 1)},
    **{f"{part}/group_norm/beta": f"norm{n}.bias" for n, part in enumerate("abc", 1)},
}


class _Names:
    """Maps canonical names to one library's names, and back."""

    def __init__(self, root: str, unit: str, norm: str, head: str):
        self.root = f"{root}.weight"
        self._unit = unit
        self._outside = {
            "root_block/standardized_conv2d/kernel": self.root,
            "group_norm/gamma": f"{norm}.weight",
            "group_norm/beta": f"{norm}.bias",
            "head/conv2d/kernel": f"{head}.weight",
            "head/conv2d/bias": f"{head}.bias",
        }

    def of(self, name: str) -> str | None:
        """Returns the library's name, or None if it has none."""
        if match := re.fullmatch(r"block(\d+)/unit(\d+)/(.+)", name):
            block, unit, part = int(match[1]), int(match[2]), _IN_A_UNIT.get(match[3])
            return part and f"{self._unit.format(block - 1, unit - 1)}.{part}"
        return self._outside.get(name)

    def canonical(self, name: str) -> str | None:
        """Returns the canonical name, or None if there is none."""
        pattern = self._unit.replace(".", r"\.").format(r"(\d+)", r"(\d+)")
        if match := re.fullmatch(rf"{pattern}\.(.+)", name):
            part = _inverse(_IN_A_UNIT).get(match[3])
            return part and f"block{int(match[1]) + 1}/unit{int(match[2]) + 1:02d}/{part}"
        return _inverse(self._outside).get(name)


def _inverse(names):
    return {value: key for key, value in names.items()}


_TIMM = _Names("stem.conv", "stages.{}.blocks.{}", "norm", "head.fc")
_TRANSFORMERS = _Names(
    "bit.embedder.convolution", "bit.encoder.stages.{}.layers.{}", "bit.norm", "classifier.1"
)
_TRANSFORMERS_BODY = _Names(  # of a BitModel, which has no head
    "embedder.convolution", "encoder.stages.{}.layers.{}", "norm", "classifier.1"
)

_TIMM_ARCHITECTURES = {  # (units, width)
    ((3, 4, 6, 3), 1): "resnetv2_50x1_bit",
    ((3, 4, 6, 3), 3): "resnetv2_50x3_bit",
    ((3, 4, 23, 3), 1): "resnetv2_101x1_bit",
    ((3, 4, 23, 3), 3): "resnetv2_101x3_bit",
    ((3, 8, 36, 3), 2): "resnetv2_152x2_bit",
    ((3, 8, 36, 3), 4): "resnetv2_152x4_bit",
}


def open_safetensors(path: str | os.PathLike) -> Checkpoint:
    """Opens the safetensors file of a BiT that timm or transformers wrote.

    Reads the header of the file, but no array. Kernels come out as `[height, width, in, out]`. A
    tensor that no BiT has keeps its own name. Raises CheckpointError if the file is damaged, or of
    another architecture, or its numbers are not float16, bfloat16, float32 or float64; or
    safetensors is not installed.
    """
    require_interop()
    import ml_dtypes  # noqa: F401 (gives numpy the bfloat16 that safetensors asks it for)
    import safetensors

    path = pathlib.Path(path)
    path.stat()  # for the usual error where there is no file
    with damage_as_error(path):
        file = safetensors.safe_open(path, framework="numpy")
        tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    layouts = [n for n in (_TIMM, _TRANSFORMERS, _TRANSFORMERS_BODY) if n.root in tensors]
    if not layouts:
        raise CheckpointError(
            f"{path} is not a BiT of timm or transformers (missing: {_TIMM.root} or "
            f"{_TRANSFORMERS.root}; left over: {first_few(sorted(tensors)) or 'nothing'}): give "
            "the weights of a resnetv2_*_bit or a BitForImageClassification"
        )
    names, shapes = {}, {}
    for name, tensor in tensors.items():
        known = layouts[0].canonical(name)
        if known and tensor.get_dtype() not in ("F16", "BF16", "F32", "F64"):
            raise CheckpointError(
                f"{name} in {path} has dtype {tensor.get_dtype()}: expected floating point of 16 "
                "bits or more, so save it unquantized"
            )
        names[known or name] = name
        shape = tuple(tensor.get_shape())  # [out, in, height, width], [out, in] or [channels]
        hwio = (*(shape[2:] or (1, 1)), shape[1], shape[0]) if len(shape) > 1 else shape
        shapes[known or name] = hwio

    def read(name):
        with damage_as_error(path):
            array = file.get_tensor(names[name])
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        return np.ascontiguousarray(array, np.float32).reshape(shapes[name])

    return Checkpoint(shapes, read, path)


def save_timm(
    folder: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    *,
    config: Mapping[str, Any] | None = None,
    pretrained_cfg: Mapping[str, Any] | None = None,
) -> None:
    """Writes a folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` reads.

    Its config states the input: RGB in [0, 1], normalized by mean 0.5 and std 0.5.

    Args:
        folder: Gets `model.safetensors` and `config.json`; made if missing.
        arrays: A BiT's weights by canonical name. They are held in memory as a whole.
        config, pretrained_cfg: More entries of `config.json`, and of its `pretrained_cfg`.

    Raises:
        CheckpointError: If the weights are not those of a BiT, or of a size that timm has no name
            for; or safetensors is not installed.
    """
    units, width, num_classes = _architecture(arrays)
    name = _TIMM_ARCHITECTURES.get((units, width))
    if name is None:
        raise CheckpointError(
            f"timm has no BiT with units {units} at width {width:g}: expected one of "
            f"{', '.join(_TIMM_ARCHITECTURES.values())}, so save it as npz or for transformers"
        )
    written = {
        "architecture": name,
        "num_classes": num_classes,
        "num_features": 2048 * int(width),
        "global_pool": "avg",
        "pretrained_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bilinear",
            "fixed_input_size": False,
            "first_conv": "stem.conv",
            "classifier": "head.fc",
            **(pretrained_cfg or {}),
        },
        **(config or {}),
    }
    _save(folder, arrays, _TIMM, {"config.json": written})


def save_transformers(
    folder: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    *,
    groups: int = 32,
    config: Mapping[str, Any] | None = None,
    preprocessor: Mapping[str, Any] | None = None,
) -> None:
    """Writes a folder that `BitForImageClassification.from_pretrained(FOLDER)` reads.

    Without a head that model returns pooled features. `preprocessor_config.json` states the input,
    RGB normalized by mean 0.5 and std 0.5; it leaves the size of images alone, unless
    `preprocessor` gives one.

    Args:
        folder, arrays: As in `save_timm`.
        groups: The groups of every group normalization, which is not in the arrays.
        config, preprocessor: More entries of these two files.

    Raises:
        CheckpointError: If the weights are not those of a BiT, or of a width that transformers
            would round; or safetensors is not installed.
    """
    units, width, num_classes = _architecture(arrays)
    root = round(64 * width)
    if root % 8:
        raise CheckpointError(
            f"transformers rounds channels to multiples of 8 and cannot hold a BiT with {root} "
            "root channels: save it as npz"
        )
    labels = [f"LABEL_{n}" for n in range(num_classes)]
    written = {
        "model_type": "bit",
        "architectures": ["BitForImageClassification"],
        "layer_type": "preactivation",
        "depths": units,
        "embedding_size": root,
        # Widened here, for its width_factor widens all channels but those of the last norm.
        "hidden_sizes": [256 * root // 64 * 2**block for block in range(len(units))],
        "width_factor": 1,
        "num_groups": groups,
        "output_stride": 2 ** (len(units) + 1),  # no block is dilated
        "global_padding": None,
        "embedding_dynamic_padding": False,
        "hidden_act": "relu",
        "drop_path_rate": 0.0,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: n for n, label in enumerate(labels)},
        "dtype": "float32",
        **(config or {}),
    }
    pixels = {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": False,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        **(preprocessor or {}),
    }
    configs = {"config.json": written, "preprocessor_config.json": pixels}
    _save(folder, arrays, _TRANSFORMERS, configs)


def _architecture(arrays):
    return architecture({name: array.shape for name, array in arrays.items()}, "the model to save")


def _save(folder, arrays, names, configs):
    require_interop()
    import safetensors.numpy

    tensors = {}
    for name, array in arrays.items():
        their_name = names.of(name)
        if their_name is None:
            raise CheckpointError(
                f"cannot save {name}: no BiT of timm or transformers has it, so save it as npz"
            )
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
        array = np.ascontiguousarray(array, np.float32)
        if their_name == "classifier.1.weight":
            array = array.reshape(array.shape[:2])
        tensors[their_name] = array
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / FILE) as temporary:
        safetensors.numpy.save_file(tensors, temporary, metadata={"format": "pt"})
        os.umask(mask := os.umask(0))
        temporary.chmod(0o666 & ~mask)  # it writes files that nobody else can read
    for file, config in configs.items():
        write_json(folder / file, config)
