"""The architecture of a checkpoint, and whether its names and shapes are those of a model."""

import re
from collections.abc import Mapping, Sequence


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written, or does not fit the model."""


def check_names_and_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: str
) -> None:
    """Raises `CheckpointError` unless `found` has exactly the names and shapes of `expected`.

    Args:
        expected: The model's shapes by canonical name.
        found: The checkpoint's shapes by canonical name, such as `Checkpoint.shapes`.
        source: Where `found` comes from, for the message.
    """
    missing = [name for name in expected if name not in found]
    left_over = [name for name in found if name not in expected]
    differing = [
        f"{name} is {tuple(found[name])} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    differences = [
        f"{kind}: {first_few(items)}"
        for kind, items in [
            ("missing", missing),
            ("left over", left_over),
            ("different in shape", differing),
        ]
        if items
    ]
    if differences:
        raise CheckpointError(
            f"{source} does not fit the model ({'; '.join(differences)}): "
            "ask for the architecture and the number of classes that the checkpoint was saved with"
        )


def architecture(
    shapes: Mapping[str, tuple[int, ...]], source: str
) -> tuple[tuple[int, ...], float, int]:
    """Returns (units of each block, width, classes or 0 for no head) from a checkpoint's shapes.

    Raises:
        CheckpointError: If these are not the shapes of a BiT.
    """
    last_units = {}
    for name in shapes:
        if match := re.match(r"block(\d+)/unit(\d+)/", name):
            block, unit = map(int, match.groups())
            last_units[block] = max(unit, last_units.get(block, 0))
    root = shapes.get("root_block/standardized_conv2d/kernel", ())
    head = shapes.get("head/conv2d/kernel", (1, 1, 1, 0))
    missing = [
        expected
        for present, expected in (
            (
                len(root) == 4 and root[:3] == (7, 7, 3) and root[3] >= 2,
                "root_block/standardized_conv2d/kernel of shape [7, 7, 3, 64 * width]",
            ),
            (
                last_units and sorted(last_units) == [*range(1, len(last_units) + 1)],
                "the units of block1, block2, ...",
            ),
            (len(head) == 4, "a head/conv2d/kernel of 4 dimensions or none"),
        )
        if not present
    ]
    if missing:
        left_over = first_few(sorted(name for name in shapes if not name.startswith("block")))
        raise CheckpointError(
            f"{source} is not a BiT checkpoint (missing: {', '.join(missing)}; left over: "
            f"{left_over or 'nothing'}): give the weights of a BiT"
        )
    units = tuple(count for _, count in sorted(last_units.items()))
    return units, root[3] / 64, head[3]


def first_few(items: Sequence[str], limit: int = 3) -> str:
    """Returns "a, b, c and 97 more"."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
