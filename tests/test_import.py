"""What an import costs, and that nothing is missing after it: commands answer --help at once."""

import ast
import pathlib
import subprocess
import sys

import pytest

import bit_keras
from bit_keras.choices import EXPORT_FORMATS
from bit_keras.exporting import FORMATS

COMMANDS = ("evaluate", "export", "finetune", "predict", "pretrain")
HEAVY = {"keras", "matplotlib", "numpy", "PIL", "scipy", "sklearn", "tensorflow"}
HEAVY |= {"tensorflow_datasets"}


def python(*arguments):
    """(exit code, stdout, stderr, the packages that were imported) of a Python."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in lines
        if line.startswith("import time:")
    }
    errors = [line for line in lines if not line.startswith("import time:")]
    return done.returncode, done.stdout, "\n".join(errors), imported


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_wrong_flags_are_answered_without_tensorflow(command):
    module = ("-m", f"bit_keras.cli.{command}")
    for flag in ("--help", "--helpfull"):
        code, output, errors, imported = python(*module, flag)
        assert (code, errors) == (0, "")
        assert f"bit-{command}: " in output
        assert "--model" in output
        assert {"absl", "bit_keras"} <= imported
        assert not imported & HEAVY
    for flag, message in {
        "--modle=BiT-XS": "error: there is no --modle; did you mean --model? see --help.",
        "--img_size=32": "error: there is no --img_size; ",
    }.items():
        code, _, errors, imported = python(*module, flag)
        assert code == 2
        assert errors.startswith(message)
        assert len(errors.splitlines()) == 1
        assert not imported & HEAVY


def test_the_package_itself_is_imported_at_once():
    code = "import bit_keras; print(bit_keras.__version__, *dir(bit_keras)); bit_keras.nothing"
    code, output, errors, imported = python("-c", code)
    assert not imported & HEAVY
    version, *names = output.split()
    assert version == bit_keras.__version__
    assert {*bit_keras.__all__, "exporting", "__version__"} <= {*names}
    assert errors.endswith("module 'bit_keras' has no attribute 'nothing'")


def test_public_names_are_the_same_for_tools_and_at_run_time():
    tree = ast.parse(pathlib.Path(bit_keras.__file__).read_text())
    (for_tools,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {
        alias.asname: (node.module, alias.name) for node in for_tools.body for alias in node.names
    }
    assert sorted(told) == sorted(bit_keras.__all__) == bit_keras.__all__
    names = {}
    exec("from bit_keras import *", names)  # (what a user may type)
    for name, (module, original) in told.items():
        assert name == original
        assert names[name] is getattr(bit_keras, name)
        if module:
            own = sys.modules[f"bit_keras.{module}"]
            assert getattr(own, name) is getattr(bit_keras, name)


IMPORTS = (
    "import bit_keras, keras",
    "import bit_keras, tensorflow, keras",
    "from bit_keras.layers import StdConv2D; import keras",  # our own module imports Keras
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny):
    path = tmp_path_factory.mktemp("saved") / "tiny.keras"
    tiny.save(path)
    return path


@pytest.mark.parametrize("imports", IMPORTS)
def test_keras_finds_our_classes_after_any_import(imports, saved):
    code = f"{imports}; print(type(keras.saving.load_model({str(saved)!r})).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "SpecifiedModel\n", done.stderr


def test_the_formats_of_exports_are_those_of_the_help():
    assert tuple(FORMATS) == EXPORT_FORMATS


def test_a_command_does_not_import_what_only_keras_would():
    """jax is installed here, and Keras would import matplotlib and scikit-learn with itself."""
    code = """
import sys
from bit_keras.cli import console
console.import_tensorflow(quiet=True)
print(*sorted({"jax", "keras", "matplotlib", "sklearn"} & {*sys.modules}))
import matplotlib.pyplot, sklearn.linear_model
"""
    code, output, errors, _ = python("-c", code)
    assert (code, output) == (0, "keras\n"), errors
