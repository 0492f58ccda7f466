"""The site of docs/, as far as it can be checked without building it (make docs)."""

import functools
import pathlib
import re

import yaml

import bit_keras

ROOT = pathlib.Path(__file__).parents[1]
API = ROOT / "docs/api"


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


def test_every_page_is_in_the_menu():
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    found = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert found <= set(re.findall(r"[\w/]+\.md", str(menu)))
