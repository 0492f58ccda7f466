"""What the site of docs/ should describe; its links and its menu are checked by make docs."""

import functools
import pathlib
import re

import bit_keras

API = pathlib.Path(__file__).parents[1] / "docs/api"


def described():
    """The public names that the pages of the API describe."""
    pages = [path.read_text(encoding="utf-8") for path in sorted(API.glob("*.md"))]
    return [name for page in pages for name in re.findall(r"^::: bit_keras\.(\S+)$", page, re.M)]


def test_every_public_name_is_described_once():
    names = described()
    assert len(names) == len(set(names))
    assert set(bit_keras.__all__) - {"data"} <= set(names)  # a folder, whose functions are there
    for name in names:
        assert functools.reduce(getattr, name.split("."), bit_keras)
