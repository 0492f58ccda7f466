"""Image files by what a user types, and the folders that they lie in."""

import glob
import os
from collections.abc import Iterable, Iterator

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
            found = _images_among(_matches(given))
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


def visible(folder: str | os.PathLike) -> list[os.DirEntry]:
    """What is in a folder, by name, but for what systems hide."""
    entries = (e for e in os.scandir(folder) if not e.name.startswith((".", "__MACOSX")))
    return sorted(entries, key=lambda e: e.name)


def is_folder(entry: os.DirEntry) -> bool:
    """Whether it is a folder or a link to one; not if it is a link that leads to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def folders_below(folder: str) -> Iterator[tuple[str, list[os.DirEntry]]]:
    """Yields a folder and all visible ones in it, depth first, and what is visible in each.

    Each comes once, whatever links lead to it: links to one another have more paths than can be
    walked.
    """
    seen, waiting = set(), [folder]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder or os.curdir)
        if real in seen:
            continue
        seen.add(real)
        entries = visible(folder or os.curdir)
        yield folder, entries
        waiting += [os.path.join(folder, e.name) for e in reversed(entries) if is_folder(e)]


def _matches(pattern):
    """As `glob.glob` with `recursive`, which follows links without end."""
    parts = pattern.split(os.sep)
    if "**" not in parts:
        return glob.glob(pattern)
    place = parts.index("**")
    above = os.sep.join(parts[:place])
    below = [part for part in parts[place + 1 :] if part != "**"]
    if place == 1 and not above:
        above = os.sep
    tops = filter(os.path.isdir, glob.glob(above)) if above else [""]
    folders = (folder for top in tops for folder, _ in folders_below(top))
    below = below if any(below) else ["*"]
    return [
        file for folder in folders for file in _matches(os.path.join(glob.escape(folder), *below))
    ]


def _images_among(paths):
    return sorted(
        path
        for path in paths
        if not os.path.basename(path).startswith(".") and os.path.isfile(path) and is_image(path)
    )
