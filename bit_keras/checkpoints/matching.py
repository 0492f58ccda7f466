"""Reads the architecture off a checkpoint's shapes, and checks them against a model's."""

import re
from collections.abc import Mapping, Sequence

_MOST_UNITS = 1_000  # the deepest BiT has 50; more would take minutes to build
_NORM = ("gamma", "beta")


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written, or does not fit the model."""


def check_names_and_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: str
) -> None:
    """Raises `CheckpointError` unless `found` has exactly the names and shapes of `expected`.

    Args:
        expected, found: The model's and the checkpoint's shapes by canonical name.
        source: Where `found` comes from, for the message.
    """
    differences = {
        "missing": [name for name in expected if name not in found],
        "left over": [name for name in found if name not in expected],
        "different in shape": [
            f"{name} is {tuple(found[name])} instead of {tuple(shape)}"
            for name, shape in expected.items()
            if name in found and tuple(found[name]) != tuple(shape)
        ],
    }
    differences = [f"{kind}: {first_few(names)}" for kind, names in differences.items() if names]
    if differences:
        raise CheckpointError(
            f"{source} does not fit the model ({'; '.join(differences)}): "
            "ask for the architecture and the number of classes that the checkpoint was saved with"
        )


def architecture(
    shapes: Mapping[str, tuple[int, ...]], source: str
) -> tuple[tuple[int, ...], float, int]:
    """Returns (units of each block, width, classes or 0 for no head) from a checkpoint's shapes.

    Raises CheckpointError if these are not the shapes of a BiT.
    """
    units_of = {}
    for name in shapes:
        if match := re.match(r"block([0-9]{1,6})/unit([0-9]{1,6})/", name):
            block, unit = map(int, match.groups())
            units_of.setdefault(block, set()).add(unit)
    root = shapes.get("root_block/standardized_conv2d/kernel", ())
    head = shapes.get("head/conv2d/kernel", (1, 1, 1, 0))
    blocks = sorted(units_of)
    present = {
        "root_block/standardized_conv2d/kernel of shape [7, 7, 3, 64 * width]": (
            len(root) == 4 and root[:3] == (7, 7, 3) and root[3] >= 2
        ),
        "the units of block1, block2, ...": blocks and blocks == [*range(1, len(blocks) + 1)],
        "all units of every block, numbered from 1": all(
            max(units) == len(units) for units in units_of.values()
        ),
        f"a depth of {_MOST_UNITS:,} units or less": (
            sum(map(len, units_of.values())) <= _MOST_UNITS
        ),
        "a head/conv2d/kernel of 4 dimensions or none": len(head) == 4,
    }
    if missing := [part for part in present if not present[part]]:
        left_over = first_few(sorted(name for name in shapes if not name.startswith("block")))
        raise CheckpointError(
            f"{source} is not a BiT checkpoint (missing: {', '.join(missing)}; left over: "
            f"{left_over or 'nothing'}): give the weights of a BiT"
        )
    return tuple(len(units_of[block]) for block in blocks), root[3] / 64, head[3]


def architecture_shapes(
    units: Sequence[int], width: float, num_classes: int
) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a BiT's arrays by canonical name, without building anything.

    Args:
        units, width: Of a BiT with group normalization and standardized kernels.
        num_classes: Outputs of its head, or 0 for none.
    """
    channels = round(64 * width)
    shapes = {"root_block/standardized_conv2d/kernel": (7, 7, 3, channels)}
    for block, count in enumerate(units):
        inner = round(64 * width) * 2**block
        for unit in range(count):
            first = {"a/proj": (1, channels, 4 * inner)} if unit == 0 else {}
            sizes = {"a": (1, channels, inner), "b": (3, inner, inner), "c": (1, inner, 4 * inner)}
            for part, (side, inputs, outputs) in {**sizes, **first}.items():
                scope = f"block{block + 1}/unit{unit + 1:02d}/{part}"
                shapes[f"{scope}/standardized_conv2d/kernel"] = (side, side, inputs, outputs)
                if part in sizes:
                    shapes |= {f"{scope}/group_norm/{name}": (inputs,) for name in _NORM}
            channels = 4 * inner
    shapes |= {f"group_norm/{name}": (channels,) for name in _NORM}
    if num_classes:
        shapes["head/conv2d/kernel"] = (1, 1, channels, num_classes)
        shapes["head/conv2d/bias"] = (num_classes,)
    return shapes


def first_few(items: Sequence[str], limit: int = 3) -> str:
    """Returns "a, b, c and 97 more"."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
