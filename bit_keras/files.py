"""Files that are there whole or not at all."""

import os
import pathlib
import secrets


def replace_file(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file, in place of one that is there already; folders above it are made.

    Raises:
        ValueError: If it cannot be written; what was there is then left as it was.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot write {path} ({error.strerror or error}); make room or choose another place."
        ) from error
