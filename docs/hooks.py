"""Hooks of mkdocs: pages may link to any file of the repository, as they do where it is browsed.

A linked file outside docs/ becomes a page of the site: Markdown as it is, other text as code. A
code block that needs more than this package, as in ```sh needs="docker", gets that as its title.
"""

import pathlib
import posixpath
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
DOCS = "docs/"
README = "README.md"  # whose place has index.md
PROJECT_PAGES = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")

_LINK = re.compile(r"(?<=\]\()(?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
_NEEDS = re.compile(r'^(```\w+) \{?needs="([^"]*)"\}?$', re.MULTILINE)


def on_files(files, config):
    """Adds the project's pages, and the files outside docs/ that pages link to."""
    waiting = [*PROJECT_PAGES, *(DOCS + file.src_uri for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        source = waiting.pop()
        text = (ROOT / source).read_text(encoding="utf-8")
        if not source.startswith(DOCS):
            files.append(File.generated(config, _place(source), content=_as_page(source, text)))
        if source.endswith(".md"):
            linked = {_target(source, link["path"]) for link in _LINK.finditer(text)}
            linked = {path for path in linked if _is_page(path)} - seen - {README}
            waiting += linked
            seen |= linked
    return files


def on_page_markdown(markdown, page, config, files):
    """Points links at the pages of the site."""
    source = page.file.src_uri
    origin = source if page.file.generated_by else DOCS + source

    def replaced(link):
        target = _target(origin, link["path"])
        if not (target.startswith(DOCS) or _is_page(target)):
            return link[0]  # which mkdocs then names as wrong
        place = posixpath.relpath(_place(target), posixpath.dirname(source) or ".")
        return place + (link["anchor"] or "")

    return _NEEDS.sub(r'\1 title="needs \2"', _LINK.sub(replaced, markdown))


def _target(source, link):
    """A link of a file, from the root of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _is_page(path):
    return not path.startswith((DOCS, "..")) and (ROOT / path).is_file()


def _place(source):
    """Where the site has a file of the repository."""
    if source == README:
        return "index.md"
    if source.startswith(DOCS):
        return source.removeprefix(DOCS)
    return source if source.endswith(".md") else f"{source}.md"


def _as_page(source, text):
    if source.endswith(".md"):
        return text
    return f"# {source}\n\n````{pathlib.Path(source).suffix[1:] or 'text'}\n{text}````\n"
