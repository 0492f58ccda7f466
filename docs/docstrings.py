"""An extension of griffe, which reads docstrings for the site: three habits of ours.

`batch, seed: As in ...` becomes an entry for each of the names; what is returned gets the type of
the annotation, for griffe takes what is before a colon for one; and a public name in backticks
becomes a link to where it is described.
"""

import pathlib
import re

import griffe

_PAGES = pathlib.Path(__file__).parent / "api"
_DESCRIBED = {
    name: f"bit_keras.{name}"
    for page in _PAGES.glob("*.md")
    for name in re.findall(r"^::: bit_keras\.(\S+)$", page.read_text("utf-8"), re.MULTILINE)
}
_SEVERAL = re.compile(r"^( +)([a-z_]+(?:, [a-z_]+)+)(: .*(?:\n\1 +\S.*)*)$", re.MULTILINE)
_RETURNS = re.compile(r"^ *Returns:\n +", re.MULTILINE)
_NAME = re.compile(r"(?<![\[`])`(?:bit_keras\.)?([A-Za-z_.]+)`(?!`)")


class Docstrings(griffe.Extension):
    """Changes the docstring of everything that is loaded, before it is parsed."""

    def on_object(self, *, obj, **_):
        if not obj.docstring:
            return
        text = _SEVERAL.sub(_split, obj.docstring.value)
        if obj.is_function and obj.returns:
            text = _RETURNS.sub(lambda match: f"{match[0]}{obj.returns}: ", text)
        obj.docstring.value = _linked(text, obj.name)


def _split(entry):
    indent, names, text = entry.groups()
    return "\n".join(f"{indent}{name}{text}" for name in names.split(", "))


def _linked(text, own_name):
    def link(match):
        name = match[1]
        known = name in _DESCRIBED and name != own_name
        return f"[{match[0]}][{_DESCRIBED[name]}]" if known else match[0]

    return _NAME.sub(link, text)
