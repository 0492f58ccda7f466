"""What is built for others: the source archive, the wheel and the container."""

import configparser
import email
import fnmatch
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = pathlib.Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_{}(sys.argv[1]))"


def built(kind, source, folder):
    """The path of a source archive ("sdist") or a wheel of a folder."""
    command = [sys.executable, "-c", BUILD.format(kind), folder]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The source archive of a copy of this repository with a run, and the wheels of both."""
    folder = tmp_path_factory.mktemp("packages")
    copy = folder / "copy"
    for name in ("bit_keras", "tests", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in filter(pathlib.Path.is_file, ROOT.iterdir()):
        shutil.copy(path, copy)
    (copy / "runs/photos").mkdir(parents=True)
    (copy / "runs/photos/settings.json").write_text("{}")
    sdist = built("sdist", copy, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    wheels = [
        built("wheel", source, source.parent / source.name[:4]) for source in (copy, unpacked)
    ]
    return sdist, *wheels


@pytest.fixture(scope="module")
def wheel(archives):
    """name -> bytes of the files in the wheel."""
    return contents(archives[1])


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in wheel if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "bit_keras").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == files
    for needed in ("weights/*.npz", "exporting/page/index.html", "reporting/*.css"):
        assert fnmatch.filter(names, f"bit_keras/{needed}")
    metadata = {name.partition("/")[2] for name in wheel.keys() - names}
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= metadata


def test_the_source_archive_makes_the_same_wheel(archives, wheel):
    sdist, _, again = archives
    assert contents(again) == wheel
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "pyproject.toml"} <= names
    assert not {name for name in names if name.startswith(("tests", "runs"))}


@pytest.fixture(scope="module")
def metadata(wheel):
    [text] = (wheel[name] for name in wheel if name.endswith("METADATA"))
    return email.message_from_bytes(text)


@pytest.fixture(scope="module")
def commands(wheel):
    """name -> "module:function"."""
    [text] = (wheel[name].decode() for name in wheel if name.endswith("entry_points.txt"))
    entries = configparser.ConfigParser()
    entries.read_string(text)
    return dict(entries["console_scripts"])


def test_the_metadata_are_true_here(metadata):
    assert (metadata["Name"], metadata["License-Expression"]) == ("bit-keras", "Apache-2.0")
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    needed = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert {"tensorflow", "keras", "numpy"} <= {one.name for one in needed}
    for one in needed:
        installed = importlib.metadata.version(one.name)
        assert one.specifier.contains(installed), f"{one} is required, {installed} installed"
        assert {s.operator for s in one.specifier} & {">=", "=="}, f"{one} has no lowest version"


def test_commands_lead_to_functions_in_the_wheel(wheel, commands):
    assert {"bit-finetune", "bit-predict"} <= commands.keys()
    for target in commands.values():
        module, function = target.split(":")
        source = wheel[f"{module.replace('.', '/')}.py"].decode()
        assert f"\n{function} = " in source


def test_the_container_copies_what_it_installs(metadata, commands):
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    by_word = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        by_word.setdefault(word, []).append(rest)
    copied = [name for rest in by_word["COPY"] for name in rest.split()[:-1]]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored
    assert {"README.md", "LICENSE", "pyproject.toml", "bit_keras"} <= {*copied}
    [version] = re.findall(r"python:(\d+\.\d+)-slim", text)
    assert SpecifierSet(metadata["Requires-Python"]).contains(version)
    assert by_word["USER"] != ["root"]
    [command] = by_word["CMD"]
    assert command.strip('["]') in commands
