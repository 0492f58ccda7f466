"""The commands and Python blocks of README and docs, and a folder to run them in."""

import contextlib
import dataclasses
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

import numpy as np
import PIL.Image
from command_server import COMMANDS, STUB
from pictures import picture

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
)
_FENCE = re.compile(r'^```(sh|python)(?: \{?needs="([^"]*)"\}?)?\n(.*?)^```$', re.M | re.S)
_OPERATORS = {"&&", "||", ";", "|", "&", "(", ")", "\n"}
SERVED = {"make", "pip", "python", "python3", *(f"bit-{name}" for name in COMMANDS)}


@dataclasses.dataclass(frozen=True)
class Block:
    """Attributes:
    language: "sh" or "python".
    needs: What it cannot run without here, such as "gpu"; "" for nothing.
    """

    page: str
    line: int
    language: str
    needs: str
    text: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks(page):
    """The blocks of a page, in order."""
    text = (ROOT / page).read_text()
    return [
        Block(page, text[: match.start()].count("\n") + 1, match[1], match[2] or "", match[3])
        for match in _FENCE.finditer(text)
    ]


def commands(text):
    """The simple commands in a piece of shell, each a list of words, without assignments."""
    text = text.replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, ";"]:
            if word in _OPERATORS:
                found.append(words)
                words = []
            elif words or not re.match(r"\w+=", word):
                words.append(word)
    return [words for words in found if words]


def make_folder(folder):
    """What the pages take for granted: photos under the names that they use, and a clone around."""
    folder.mkdir()
    for name in ("export", "examples", "benchmarks", "Makefile", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    for data in ("photos", "other_photos", "pets", "imagenet"):
        for c, label in enumerate(("cat", "dog")):
            (folder / data / label).mkdir(parents=True)
            for i in range(10):
                picture(40 + i, 50, seed=10 * c + i).save(folder / data / label / f"{i}.jpg")
    for data in ("holiday", "albums/2019"):
        (folder / data).mkdir(parents=True)
        for i in range(2):
            picture(40, 50, seed=i).save(folder / data / f"{i}.jpg")
    picture(60, 80, seed=3).save(folder / "photo.jpg")
    for data in ("voc_folder", "bccd"):
        _write_voc(folder / data)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").touch()
    (folder / ".venv/bin/python").symlink_to(folder.parent / "bin/python")
    return folder


def _write_voc(folder):
    """Four images of two squares each."""
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for i in range(4):
        pixels = np.zeros((64, 64, 3), np.uint8)
        objects = ""
        for c, (label, color) in enumerate((("white", 255), ("grey", 128))):
            left, top = 5 + 25 * c, 8 + 5 * i
            pixels[top : top + 20, left : left + 20] = color
            corners = {"xmin": left, "ymin": top, "xmax": left + 20, "ymax": top + 20}
            box = "".join(f"<{k}>{v}</{k}>" for k, v in corners.items())
            objects += f"<object><name>{label}</name><bndbox>{box}</bndbox></object>"
        PIL.Image.fromarray(pixels).save(folder / f"JPEGImages/{i}.jpg")
        size = "<size><width>64</width><height>64</height><depth>3</depth></size>"
        text = f"<annotation><filename>{i}.jpg</filename>{size}{objects}</annotation>"
        (folder / f"Annotations/{i}.xml").write_text(text)


@contextlib.contextmanager
def command_server(folder, environment):
    """Gives the environment in which a shell finds the commands, by a server in this folder."""
    address, programs = str(folder / "socket"), folder / "bin"
    programs.mkdir()
    for name in SERVED:
        (programs / name).write_text(STUB.format(python=sys.executable, address=address))
        (programs / name).chmod(0o755)
    environment = {**os.environ, **environment, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    server = pathlib.Path(__file__).with_name("command_server.py")
    with subprocess.Popen([sys.executable, server, address], env=environment) as process:
        try:
            while not pathlib.Path(address).exists():
                assert process.poll() is None
                time.sleep(0.1)
            path = os.pathsep.join([str(programs), environment["PATH"]])
            yield {**environment, "PATH": path}
        finally:
            process.terminate()
