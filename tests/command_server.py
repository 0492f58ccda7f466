"""Runs typed commands in forks of one process that has imported TensorFlow already.

python command_server.py SOCKET

Each command would otherwise spend seconds on imports. `STUB` is what stands on the PATH under the
names of the commands: it hands its arguments, folder, environment, input and output to the server,
and ends with the exit code of the fork. So a shell may use it in pipes, loops and with variables.
"""

import argparse
import hashlib
import importlib
import json
import os
import pathlib
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import traceback

ROOT = pathlib.Path(__file__).parents[1]
STUB = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    told = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [told], [0, 1, 2])
    sys.exit(int(server.recv(8)))
"""
MAKE = shutil.which("make")
COMMANDS = ("detect", "evaluate", "export", "finetune", "predict", "pretrain")
# What takes long: its flags are checked here, and there it runs, at small size.
RUN_ELSEWHERE = {
    "bit-detect export": "test_detector_export.py",
    "bit-detect predict --model=runs/masks": "test_detector.py",
    "bit-detect train --model_type=mask_rcnn": "test_detector_resume.py",
    "python examples/from_scratch.py": "test_studies.py",
    "python examples/hyperrule_changes.py": "test_studies.py",
    "python examples/normalization.py": "test_studies.py",
    "python examples/rethinking_pretraining.py": "test_studies.py",
    "python examples/rule_scale.py": "test_studies.py",
    "python examples/upstream_size.py": "test_studies.py",
    "python export/consumers/": "test_consumers.py",
    "python export/make_mobile_bundle.py": "test_export_programs.py",
    "python export/make_serving_model.py": "test_export_programs.py",
    "python export/make_tfhub_modules.py": "test_export_programs.py",
}
# Appended to what is typed, where the last of two equal flags counts.
SMALLER = {
    "bit-detect train": ["--steps=1", "--batch=2", "--size=64"],
    "bit-evaluate --shots": ["--shots=1", "--seeds=1", "--method=probe"],
    "bit-finetune": ["--steps=2", "--batch=8"],
    "bit-pretrain": ["--epochs=1", "--batch=8", "--crop=32"],
}


def serve(address):
    """Answers until the process is ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks that have ended leave nothing
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                _answer(connection)
            connection.close()


def _answer(connection):
    """In a fork: runs one command, and tells its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told, files, *_ = socket.recv_fds(connection, 2**20, 3)
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv, folder, environment = json.loads(told)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[0] = pathlib.Path(sys.argv[0]).name
    code = 1
    typed = list(sys.argv)
    try:
        if not _made_before(typed):
            _run(*typed)
        code = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = int(stop.code if isinstance(stop.code, int) else stop.code is not None)
    except ModuleNotFoundError as error:  # what a block says it needs may not be here
        code = int("CHECK_ONLY" not in os.environ or error.name.startswith("bit_keras"))
        traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    if code == 0:
        _keep_what_it_made(typed)
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(str(code).encode())
    os._exit(0)


def _made_before(typed):
    """Copies what the same command made on another page; returns whether there was some."""
    kept = _kept(typed)
    if kept.exists():
        shutil.copytree(kept, ".", dirs_exist_ok=True)
    return kept.exists()


def _keep_what_it_made(typed):
    made = []
    for argument in typed[1:]:
        flag, _, value = argument.partition("=")
        names = {"--name": [f"runs/{value}"], "--output": [value, f"{value}.proof.json"]}
        made += [name for name in names.get(flag, ()) if os.path.exists(name)]
    if made and typed[0].startswith("bit-") and not _kept(typed).exists():
        kept = pathlib.Path(f"{_kept(typed)}.{os.getpid()}")
        for name in made:
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if os.path.isdir(name) else shutil.copy)(name, kept / name)
        kept.rename(_kept(typed))


def _kept(typed):
    name = hashlib.sha256(repr(typed).encode()).hexdigest()
    return pathlib.Path(sys.orig_argv[-1]).with_name("kept") / name


def _run(program, *arguments):
    command = " ".join([program, *arguments])
    if "CHECK_ONLY" in os.environ or any(map(command.startswith, RUN_ELSEWHERE)):
        _check_flags_only()
    if program.startswith("bit-"):
        for words, flags in SMALLER.items():
            if all(f" {word}" in f" {command}" for word in words.split()):
                sys.argv.extend(flags)
        importlib.import_module(f"bit_keras.cli.{program.removeprefix('bit-')}").run()
    elif program == "make":  # says what it would do: its targets and variables are there
        sys.exit(subprocess.run([MAKE, "-n", "-C", ROOT, *arguments], stdout=-3).returncode)
    elif program == "pip":
        _check_extras(arguments)
    elif os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        sys.exit(subprocess.run([sys.executable, *arguments]).returncode)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "-c", "exec"), {"__name__": "__main__"})
    elif arguments[:2] == ("-m", "pytest"):
        for path in arguments[2:]:
            if not (ROOT / path).is_file():
                sys.exit(f"error: there is no {path}")
    elif arguments[0] == "-m":
        sys.argv = sys.argv[2:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = sys.argv[1:]
        sys.path.insert(0, str(pathlib.Path(arguments[0]).resolve().parent))
        runpy.run_path(arguments[0], run_name="__main__")


def _check_extras(arguments):
    """Exits unless pip is to install, and the package with extras that it has."""
    project = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    known = re.findall(r"^([\w-]+) = \[", project.partition("\n[")[0], re.MULTILINE)
    for extras in re.findall(r"(?:bit-keras|\.)\[([\w,-]+)\]", " ".join(arguments)):
        for extra in extras.split(","):
            if extra not in known:
                sys.exit(f"error: there is no extra {extra}, only {', '.join(known)}")
    if arguments[0] != "install":
        sys.exit(f"error: pip install is known here, got pip {arguments[0]}")


def _check_flags_only():
    """Programs end when their flags were understood."""
    from absl import app, flags

    def parse(main, argv=None, flags_parser=None):
        try:
            (flags_parser or flags.FLAGS)(sys.argv)
        except flags.Error as error:
            sys.exit(f"error: {error}")
        sys.exit(0)

    understood = argparse.ArgumentParser.parse_args

    def parse_args(self, *arguments, **settings):
        understood(self, *arguments, **settings)
        sys.exit(0)

    app.run = parse
    argparse.ArgumentParser.parse_args = parse_args


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    import keras_cv  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import tensorflow_hub  # noqa: F401
    from small_zoo import shrink

    import bit_keras

    for name in bit_keras.__all__:
        getattr(bit_keras, name)  # imports what it is from
    shrink()
    serve(sys.argv[1])
