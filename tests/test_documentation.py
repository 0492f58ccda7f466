"""Every command and Python block of README and docs runs as it stands, at small size."""

import functools
import pathlib
import re
import shlex
import shutil
import subprocess
import traceback

import doc_pages
import pytest
import small_zoo
from command_server import RUN_ELSEWHERE
from doc_pages import PAGES, ROOT

import bit_keras

QUICK = bit_keras.HyperRule.release(10, (32, 32)).with_steps(2).replace(batch=8, resize=36, crop=32)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(a folder as `make_folder` makes it, with a run, and the environment of its commands)."""
    root = tmp_path_factory.mktemp("documentation")
    with small_zoo.served() as address:
        settings = {
            "BIT_KERAS_BASE_URL": address,
            "BIT_KERAS_CACHE": str(root / "cache"),
            "CUDA_VISIBLE_DEVICES": "",
        }
        undo = small_zoo.shrink()
        with doc_pages.command_server(root, settings) as environment:
            folder = doc_pages.make_folder(root / "folder")
            run = "bit-finetune --dataset=photos/ --name=photos"
            error = shell(run, folder, environment)
            assert not error, error
            # What export/make_serving_model.py, which is not run here, would write.
            shutil.copytree(folder / "runs/photos/model", folder / "served/photos/1")
            yield folder, environment
        undo()


def shell(text, folder, environment):
    """Runs lines of a shell; returns what went wrong, if something did."""
    done = subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    return f"{done.stdout}\n{done.stderr}\nexit code {done.returncode}" * bool(done.returncode)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow) if page != "README.md" else page for page in PAGES],
)
def test_what_a_page_says_works(page, world, tmp_path, monkeypatch):
    """In order and in one folder, for blocks build on each other."""
    prepared, environment = world
    folder = tmp_path / "folder"
    shutil.copytree(prepared, folder, symlinks=True)
    _add_runs(page, folder)
    monkeypatch.chdir(folder)
    for name in ("BIT_KERAS_BASE_URL", "BIT_KERAS_CACHE"):
        monkeypatch.setenv(name, environment[name])
    _make_short(monkeypatch)
    names = {"__name__": "__main__"}
    wrong = []
    for block in doc_pages.blocks(page):
        if error := _error_of(block, folder, environment, names):
            wrong.append(f"{block}\n{block.text}{error}")
    assert not wrong, "\n\n".join(wrong)


def _add_runs(page, folder):
    """Puts finished runs where a page speaks of some that it does not make itself."""
    text = "\n".join(block.text for block in doc_pages.blocks(page))
    for name in set(re.findall(r"\bruns/([\w-]+)", text)) - {"photos"}:
        if not re.search(rf"(--name=|workdir=.runs/){name}\b", text):
            shutil.copytree(folder / "runs/photos", folder / "runs" / name)
    if re.search(r"(--name=|workdir=.runs/)photos\b", text):
        shutil.rmtree(folder / "runs/photos")


def _make_short(monkeypatch):
    """Lets what Python blocks train take a few steps of small images, whatever they ask for."""
    for name in ("fine_tune", "few_shot_curve"):
        monkeypatch.setattr(bit_keras, name, functools.partial(_quickly, getattr(bit_keras, name)))


def _quickly(train, *arguments, **options):
    return train(*arguments, **{**options, "rule": QUICK})


def _error_of(block, folder, environment, names):
    """What goes wrong in a block, as text; "" for nothing."""
    if block.needs:
        return _error_of_flags(block, folder, environment)
    if block.language == "sh":
        return shell(block.text, folder, environment)
    try:
        # Lines are counted as on the page, for the traceback.
        exec(compile("\n" * block.line + block.text, block.page, "exec"), names)
    except Exception:
        return traceback.format_exc()
    return ""


def _error_of_flags(block, folder, environment):
    if block.language == "python":
        compile(block.text, block.page, "exec")
        return ""
    environment = {**environment, "CHECK_ONLY": "1"}
    errors = ""
    for words in doc_pages.commands(block.text):
        if pathlib.Path(words[0]).name in doc_pages.SERVED:
            errors += shell(shlex.join(words), folder, environment)
    return errors


def test_programs_that_run_elsewhere_do():
    for command, test in RUN_ELSEWHERE.items():
        named = pathlib.Path(command.split()[1]).stem if command.startswith("python") else "detect"
        assert named in (ROOT / "tests" / test).read_text(), f"{test} does not run {command}"


def test_blocks_are_in_a_known_language():
    """So that no command escapes the test by its fence."""
    for page in PAGES:
        opened = False
        for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
            if line.lstrip().startswith("```"):
                opened = not opened
                known = r'```(|csv|text|json|yaml|(sh|python)( \{?needs="[^"]+"\}?)?)'
                assert not opened or re.fullmatch(known, line), f"{page}:{number}: {line}"
