"""Whether a checkpoint fits a model: the same names, the same shapes."""

from collections.abc import Mapping, Sequence


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written, or does not fit the model."""


def check_names_and_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: str
) -> None:
    """Raises `CheckpointError` unless `found` has exactly the names and shapes of `expected`.

    Args:
        expected: the model's shapes by canonical name.
        found: the checkpoint's shapes by canonical name, such as `NpzCheckpoint.shapes`.
        source: where `found` comes from, for the message.
    """
    missing = [name for name in expected if name not in found]
    left_over = [name for name in found if name not in expected]
    differing = [
        f"{name} is {tuple(found[name])} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    differences = [
        f"{kind}: {_first_few(items)}"
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


def _first_few(items: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
