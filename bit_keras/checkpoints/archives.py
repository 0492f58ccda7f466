"""Are the members of a zip archive as large as it can hold."""

import os
import zipfile

from .matching import CheckpointError

# Weights that were learned shrink by a tenth; only those of a fresh head are zeros.
_MOST_TIMES, _SLACK = 20, 1 << 26  # of the archive's own size, and bytes beyond that


def check_unpacked_size(archive: zipfile.ZipFile, path: str | os.PathLike) -> int:
    """Returns the bytes that an archive unpacks to, as its directory says.

    Raises CheckpointError if they are far more than its own size, or its members overlap.
    """
    size = os.path.getsize(path)
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if sum(member.compress_size for member in members) > size or any(
        member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size
        for member in members
    ):
        raise CheckpointError(
            f"{path} is damaged, for its members are longer than the file: delete it and load again"
        )
    if unpacked > _MOST_TIMES * size + _SLACK:
        raise CheckpointError(
            f"{path} would unpack to {unpacked:,} bytes from {size:,}, which weights do not: get "
            "it again from where you trust"
        )
    return unpacked
