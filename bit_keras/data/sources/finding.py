"""Image files by what a user types."""

import glob
import os
from collections.abc import Iterable

from ...files import expanded
from .pillow_images import is_image


def find_images(images: Iterable[str | os.PathLike]) -> list[str]:
    """Returns the image files in files, folders and globs, each once; ValueError if one has no."""
    files = {}
    for given in map(expanded, images):
        if os.path.isfile(given):
            found = [given]
        elif os.path.isdir(given):
            found = _images_among(os.path.join(given, name) for name in os.listdir(given))
        else:
            found = _images_among(glob.glob(given, recursive=True))
        if not found:
            raise ValueError(
                f"the folder {given} holds no images; for those in the folders below it give "
                f"'{os.path.join(given, '**')}'."
                if os.path.isdir(given)
                else f"there is no image {given}; give files, folders or globs ('photos/*.jpg')."
            )
        files.update(dict.fromkeys(found))
    if not files:
        raise ValueError("no images were given; give files, folders or globs ('photos/*.jpg').")
    return list(files)


def _images_among(paths):
    return sorted(
        path
        for path in paths
        if not os.path.basename(path).startswith(".") and os.path.isfile(path) and is_image(path)
    )
