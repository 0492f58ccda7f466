"""The images that a run leaves out."""

import pathlib
from collections.abc import Collection

from ..files import write_text
from .page import Section


def write_skipped(folder: pathlib.Path, skipped: Collection[str]) -> list[Section]:
    """Lists files that were left out as broken in `skipped_images.txt`; returns a report's section.

    Without any, there is no file and no section.
    """
    if not skipped:
        return []
    text = "".join(f"{file}\n" for file in sorted(skipped))
    write_text(folder / "skipped_images.txt", text, errors="replace")
    count = f"{len(skipped):,} images cannot be read and are left out: skipped_images.txt"
    return [("Images left out", f"<p>{count} lists them.</p>")]
