"""What commands print, and how they end: no noise, one bar at a time, exit codes, Ctrl-C."""

import functools
import io
import os
import re
import signal
import subprocess
import sys

import PIL.Image
import pytest
from test_import import COMMANDS

from bit_keras.cli import console
from bit_keras.reporting.texts import duration

# As a user has it; the tests' own environment quiets TensorFlow.
LOUD = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "TQDM_"))}
LOUD |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
GREETING = "before absl::InitializeLog()"  # TensorFlow's first line, which heeds no variable


def command(name, *arguments):
    return [sys.executable, "-m", f"bit_keras.cli.{name}", *arguments]


def ended(typed, cwd=None):
    """What a command printed, and its exit code."""
    return subprocess.run(typed, cwd=cwd, env=LOUD, capture_output=True, text=True, check=False)


def interrupted(typed, after, cwd, number=signal.SIGINT):
    """(exit code, stderr) of a command to which a signal is sent when it has said something."""
    with subprocess.Popen(
        typed,
        cwd=cwd,
        env=LOUD,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Tests that run in the background ignore Ctrl-C, and so would their children.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if re.search(after, line):
                process.send_signal(number)
                after = "(?!)"  # nothing more
        return process.wait(), "".join(said)


def test_a_time_is_told_as_a_person_says_it():
    told = {0.4: "0 s", 59: "59 s", 363: "6 min 03 s", 3900: "1 h 05 min", 90_000: "1 day 01 h"}
    assert {seconds: duration(seconds) for seconds in told} == told
    assert duration(1e6) == "11 days 13 h"


BAR = "\rtrain:  40%|####      | 2/5 steps [1 s, 2 s left]"


def test_elsewhere_than_on_a_terminal_bars_are_lines(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    screen = console.Screen(io.StringIO())
    for seconds in (0, 1, 14, 16, 17, 31.5):
        now[0] = seconds
        screen.write(BAR.replace("1 s", f"{seconds} s"))
        print("step 5", file=screen) if seconds == 1 else None
    screen.write("\rtest:  10%|#   | 1/10")  # less than 15 seconds of another
    screen.write("\r               ")
    screen.write("\r")
    screen.write(BAR.replace("40%", "100%"))
    screen.write("\n")
    print("done\n", file=screen)
    assert screen.getvalue().splitlines() == [
        "step 5",
        "train:  40%, 2/5 steps [16 s, 2 s left]",
        "train:  40%, 2/5 steps [31.5 s, 2 s left]",
        "train:  100%, 2/5 steps [1 s, 2 s left]",
        "done",
        "",
    ]


def test_on_a_terminal_a_line_is_not_written_behind_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = console.Screen(Terminal())
    screen.write(BAR)
    print("warning: slow", file=screen)
    screen.write(BAR)
    screen.write("\n")
    print("done", file=screen)
    assert screen.getvalue() == f"{BAR}\r\x1b[Kwarning: slow\n{BAR}\ndone\n"


ENDS = {  # what happens while noise is held back: (what is seen of it, exit code)
    "pass": (False, 0),
    "os.fork() or os._exit(0)": (False, 0),
    "raise ImportError": (True, 1),
    "os.abort()": (True, -signal.SIGABRT),
    "os.kill(os.getpid(), signal.SIGKILL)": (True, -signal.SIGKILL),
}


@pytest.mark.parametrize(("end", "seen"), ENDS.items())
def test_what_is_held_back_is_lost_only_if_all_is_well(end, seen):
    code = (
        "import os, signal\nfrom bit_keras.cli import console\n"
        f"with console._held_back():\n    os.write(2, b'noise'); {end}\n"
        "os.write(2, b'heard')"
    )
    done = ended([sys.executable, "-c", code])
    assert ("noise" in done.stderr, done.returncode) == seen
    assert ("heard" in done.stderr) == (done.returncode == 0)


@pytest.mark.parametrize("name", [*COMMANDS, "detect"])
def test_help_is_grouped_with_an_example_and_exit_codes(name):
    done = ended(command(name, "--help"))
    assert done.returncode == 0
    groups = re.findall(r"^(\S.*):$", done.stdout, flags=re.M)
    assert groups[0] == "The model"
    assert groups[-2:] == ["Every program", "Exit codes"]
    assert "Flags" not in groups  # that belong to no group
    assert re.search(rf"^ *bit-{name} .*--", done.stdout, flags=re.M)
    assert "--verbosity: " in done.stdout
    for noise in ("pdb", "flagfile", "xml", "repeat this option", "stderrthreshold"):
        assert noise not in done.stdout
    for exit_code in (0, 1, 2, 75, 130, 141, 143):
        assert re.search(rf"^ +{exit_code}  \S", done.stdout, flags=re.M)


MISTAKES = {  # of every command, told before TensorFlow is imported
    "detect": ["train", "--steps=0"],
    "evaluate": ["--shots=1", "--seeds=0"],
    "export": ["--format=onnx"],
    "finetune": ["--steps=many"],
    "predict": ["--top_k=0", "--model=x"],
    "pretrain": [],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_exit_with_2_and_one_line(name):
    done = ended(command(name, *MISTAKES[name]))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_required_flags_are_named():
    done = ended(command("export", "--format=onnx"))
    assert done.stderr == "error: --model and --output must be given; see --help.\n"


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A folder with red.png."""
    folder = tmp_path_factory.mktemp("photo")
    PIL.Image.new("RGB", (40, 40), "red").save(folder / "red.png")
    return folder


def test_a_command_prints_nothing_but_its_own(photo):
    flags = ("--model=BiT-XS-R26x0.25", "--features=red.npy", "--size=40")
    done = ended(command("predict", *flags, "red.png"), photo)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"red\.npy: 1 x \d+ features; .*\.\n", done.stdout)
    assert re.fullmatch(r"(BiT-XS\S* is shown 40 x 40 pixels.*\.\n)?", done.stderr), done.stderr


def test_verbosity_shows_the_rest_and_the_traceback(photo):
    done = ended(command("predict", "--model=nothing", "red.png", "--verbosity=1"), photo)
    assert GREETING in done.stderr
    assert "Traceback" in done.stderr
    assert done.returncode == 1


def test_ctrl_c_while_tensorflow_is_imported(photo):
    code = (  # says when the import has begun
        "import sys\nfrom bit_keras.cli import predict\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'tensorflow': print('importing', flush=True)\n"
        "sys.meta_path.insert(0, Finder())\nsys.argv[1:] = ['--model=BiT-XS', 'red.png']\n"
        "predict.run()"
    )
    code, said = interrupted([sys.executable, "-c", code], "importing", photo)
    assert (code, said) == (130, "importing\n\ninterrupted; nothing was saved\n")


RUN = ("--steps=1", "--batch=8", "--logdir=runs", "--examples_per_class=1")


def test_ctrl_c_before_the_first_step(photo):
    code, said = interrupted(command("finetune", *RUN, "--name=early"), "^Run: ", photo)
    assert "Traceback" not in said
    assert code == 130
    last = said.splitlines()[-1]
    assert re.match(r"interrupted; (nothing was saved|start the run again: it goes on from )", last)


def test_ctrl_c_after_training_says_what_was_saved(photo):
    code, said = interrupted(command("finetune", *RUN, "--name=late"), "^train: 100%", photo)
    assert "Traceback" not in said
    assert (code, said.splitlines()[-1]) in (
        (
            75,
            "stopped by a signal at step 1 of 1, which is saved; the same flags and --name go on "
            "from there",
        ),
        (
            130,
            "interrupted; start the run again: it goes on from runs/late/checkpoints/ckpt-1, with "
            "--name=late",
        ),
    )
    assert not [*(photo / "runs/late").glob(".*model*")]  # a half-written export


def test_sigterm_outside_of_training(photo):
    code, said = interrupted(
        command("finetune", *RUN, "--name=term"), "^Run: ", photo, signal.SIGTERM
    )
    assert code in (-signal.SIGTERM, 75)  # a shell shows 143 for the first
    assert "Traceback" not in said


def test_a_reader_that_ends_first_ends_the_command(tiny, tmp_path):
    """As `| head -1` does; the answers are longer than what a pipe holds."""
    (tmp_path / "images").mkdir()
    for i in range(300):
        PIL.Image.new("RGB", (8, 8)).save(tmp_path / f"images/{'x' * 100}{i}.png")
    tiny.save(tmp_path / "m.keras")
    typed = command("predict", "images", "--model=m.keras", "--size=32")
    environment = {**LOUD, "PYTHONUNBUFFERED": ""}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        typed, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 141
    assert "Broken pipe" not in errors
    assert "error" not in errors
