"""Folders of class folders: with one image, with 10,000 classes, nested, with links in rings."""

import os
from collections.abc import Callable
from typing import NamedTuple

from pictures import picture

from corpus.encoding import encoded

IMAGE = encoded(picture(8, 9), "PNG")


class Folder(NamedTuple):
    """A folder to train on.

    Attributes:
        write: Writes it at a path.
        expected: How many images each class has, in training and test together, by class or as
            their numbers in order; or what the refusal says, an expression.
    """

    write: Callable
    expected: dict | str


def put(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(IMAGE)


def _one_image(root):
    put(root / "a", "1.png")
    put(root / "b", "1.png", "2.png")


def _one_class(root):
    put(root / "a", "1.png", "2.png")


def _many_classes(root):
    (root / "test" / "00000").mkdir(parents=True)
    put(root / "test" / "00000", "x.png")
    for n in range(10_000):
        (root / "train" / f"{n:05d}").mkdir(parents=True)
        os.link(root / "test" / "00000" / "x.png", root / "train" / f"{n:05d}" / "x.png")


def _nested(root):
    put(root / "a" / "/".join(["deep"] * 200), "1.png", "2.png")
    put(root / "b" / "1" / "2" / "3", "1.png")
    put(root / "b" / "4", "1.png")


def _ring(root):
    put(root / "a" / "in", "1.png", "2.png")
    (root / "a" / "in" / "again").symlink_to(root / "a")
    (root / "a" / "self").symlink_to("self")
    put(root / "b", "1.png", "2.png")
    (root / "self").symlink_to("self")


def _web(root):
    """Twelve folders that are linked from one another: 12! ways through them."""
    for n in range(12):
        put(root / "a" / f"{n:02d}", "1.png")
        for m in range(12):
            (root / "a" / f"{n:02d}" / f"to{m:02d}").symlink_to(root / "a" / f"{m:02d}")
    put(root / "b", "1.png", "2.png")


def _pipes(root):
    for name in "ab":
        put(root / name, "1.png", "2.png")
        os.mkfifo(root / name / "pipe")  # without suffix, it would be looked into
    os.mkfifo(root / "pipe.png")


def _strange_names(root):
    for name in ("with space", "手", "😀", "a,b|c", "$HOME", "..a", "%s{}"):
        put(root / f"class {name}", "1.png", "2.png")


def _line_break(root):
    put(root / "a\nb", "1.png", "2.png")
    put(root / "c", "1.png", "2.png")


def _folder_named_as_image(root):
    put(root / "a" / "folder.png", "1.png")
    put(root / "a", "2.png")
    put(root / "b.png", "1.png", "2.png")


def _no_image(root):
    put(root / "a", "1.png", "2.png")
    (root / "b").mkdir()
    (root / "b" / "notes.txt").write_text("no image")


def _all_broken(root):
    put(root / "a", "1.png", "2.png")
    put(root / "b", "1.png", "2.png")
    for n in "12":
        (root / "b" / f"{n}.png").write_bytes(IMAGE[:40])


FOLDERS = {
    "one_image": Folder(_one_image, "class 'a' of one_image has 1 images"),
    "one_class": Folder(_one_class, {"a": 2}),
    "many_classes": Folder(_many_classes, {f"{n:05d}": 1 + (n == 0) for n in range(10_000)}),
    "nested": Folder(_nested, {"a": 2, "b": 2}),
    "ring": Folder(_ring, {"a": 2, "b": 2}),
    "web": Folder(_web, {"a": 12, "b": 2}),
    "pipes": Folder(_pipes, {"a": 2, "b": 2}),
    "strange_names": Folder(
        _strange_names,
        {
            f"class {name}": 2
            for name in ("$HOME", "%s{}", "..a", "a,b|c", "with space", "手", "😀")
        },
    ),
    "line_break": Folder(_line_break, r"the class name 'a\\nb' of line_break has a line break"),
    "folder_named_as_image": Folder(_folder_named_as_image, {"a": 2, "b.png": 2}),
    "no_image": Folder(_no_image, "b holds no images, but 1 other files"),
    "all_broken": Folder(_all_broken, "2 images of 4 cannot be read: .*b/1.png"),
    "empty": Folder(lambda root: root.mkdir(), "holds no class folders"),
    "file": Folder(lambda root: root.write_bytes(IMAGE), "is not a folder"),
    "missing": Folder(lambda root: None, "is not a folder"),
}
