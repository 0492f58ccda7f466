"""Reads the architecture off a checkpoint's shapes, and checks them against a model's."""

import re
from collections.abc import Mapping, Sequence


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
    last_units = {}
    for name in shapes:
        if match := re.match(r"block(\d+)/unit(\d+)/", name):
            block, unit = map(int, match.groups())
            last_units[block] = max(unit, last_units.get(block, 0))
    root = shapes.get("root_block/standardized_conv2d/kernel", ())
    head = shapes.get("head/conv2d/kernel", (1, 1, 1, 0))
    blocks = sorted(last_units)
    present = {
        "root_block/standardized_conv2d/kernel of shape [7, 7, 3, 64 * width]": (
            len(root) == 4 and root[:3] == (7, 7, 3) and root[3] >= 2
        ),
        "the units of block1, block2, ...": blocks and blocks == [*range(1, len(blocks) + 1)],
        "a head/conv2d/kernel of 4 dimensions or none": len(head) == 4,
    }
    if missing := [part for part in present if not present[part]]:
        left_over = first_few(sorted(name for name in shapes if not name.startswith("block")))
        raise CheckpointError(
            f"{source} is not a BiT checkpoint (missing: {', '.join(missing)}; left over: "
            f"{left_over or 'nothing'}): give the weights of a BiT"
        )
    return tuple(last_units[block] for block in blocks), root[3] / 64, head[3]


def first_few(items: Sequence[str], limit: int = 3) -> str:
    """Returns "a, b, c and 97 more"."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
