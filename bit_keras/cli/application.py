"""What the commands share: their start, the flags of several of them, and short error messages.

The modules of commands import TensorFlow, and what imports it, inside functions: `--help` and a
mistyped flag are answered at once.
"""

import datetime
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import app, flags, logging

from ..choices import KEEP, PRECISIONS, STRATEGIES
from ..files import expanded
from . import console, data_flags, interruption, usage

if TYPE_CHECKING:
    import tensorflow as tf

STOPPED = 75  # exit code after a signal, with everything saved: EX_TEMPFAIL of sysexits.h

DATASETS = (  # for the help of --dataset
    "A folder of class folders (or of train/ and test/), a CSV file of images and labels, a TFDS "
    'name, "vtab/TASK", or "digits".'
)

_folders = []  # of runs that the process writes

# Flags that are defined here belong to the command that calls for them, also in its --help.
flags.disclaim_key_flags()


def define_run_flags() -> None:
    """Defines the flags of the commands that make a run: its folder, its devices, its precision."""
    usage.group("The run")
    flags.DEFINE_string("name", None, "The run's name; by default model, data and time.")
    flags.DEFINE_string("logdir", "runs", "The run's folder is LOGDIR/NAME.")
    flags.DEFINE_enum(
        "strategy",
        "auto",
        STRATEGIES,
        "Devices: one, all GPUs, TF_CONFIG's workers, a TPU.",
    )
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "Precision of training.")


def define_run_options() -> None:
    """Defines the run flags, and those of all commands that train a model."""
    define_run_flags()
    flags.DEFINE_string(
        "batch_split", "auto", 'Pieces a batch is computed in, or "auto": the fewest that fit.'
    )
    flags.register_validator(
        "batch_split",
        lambda text: text == "auto" or (text.isdecimal() and int(text) >= 1),
        message='it must be "auto", or a number of 1 or more.',
    )
    flags.DEFINE_bool(
        "remat", False, "Compute units again for their gradients: a third of the memory, slower."
    )
    flags.DEFINE_integer("seed", 0, "Of random weights and of every batch.", lower_bound=0)
    flags.DEFINE_integer(
        "eval_every",
        None,
        "Steps between two tests; by default only the last, or ten of the validation images.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "keep",
        None,
        KEEP,
        "The model to keep: that of the last step, or the best on the validation images, which is "
        "the default where there are some.",
    )
    flags.DEFINE_integer(
        "patience",
        None,
        "Stop after so many tests of the validation images without a new best.",
        lower_bound=1,
    )


def define_training_flags(protocol: str) -> None:
    """Defines `define_run_options` and the flags of the commands that train a classifier.

    Args:
        protocol: What a teacher lengthens, for the help: "the rule's steps".
    """
    define_run_options()
    usage.group("A teacher")
    flags.DEFINE_string(
        "teacher",
        None,
        "Learn this model's answers in place of labels: a run's folder, or what else "
        "bit_keras.load takes, with the classes of --dataset. By default, training then has ten "
        f"times {protocol} and uniform mixup.",
    )
    flags.DEFINE_float(
        "temperature", 1.0, "What the logits of teacher and student are divided by, for the loss."
    )
    data_flags.define_data_flags()


def known_model(model: str | os.PathLike) -> str:
    """Returns a model as `bit_keras.load` takes it, by its whole name; prints that if it is longer.

    Raises ValueError for one that cannot be loaded. Reads no weights.
    """
    from ..models import check_source
    from ..models.published import full_name

    check_source(model)
    name = full_name(model)
    if name != os.fspath(model):
        print(f"The model {model} is {name}.", file=sys.stderr)
    return name


def check_teacher() -> None:
    """Raises ValueError if --teacher cannot be loaded. Reads no weights."""
    if flags.FLAGS.teacher:
        known_model(flags.FLAGS.teacher)


def check_run(
    strategy: "tf.distribute.Strategy", *, batch: int | None = None, may_grow: bool = False
) -> None:
    """Raises ValueError for a run that cannot be started, whatever its data set.

    Args:
        strategy: Of the run.
        batch: The batch that --batch_split must divide, if it is known.
        may_grow: As in `RunFolder`.
    """
    from .. import training

    devices = training.Devices(strategy, flags.FLAGS.precision)
    if batch:
        devices.check_batch(batch, number_or_word(flags.FLAGS.batch_split))
    if flags.FLAGS.name and devices.is_chief:
        training.check_workdir(_run_folder(flags.FLAGS.name), may_grow=may_grow)


def device_options() -> dict:
    """Returns the training flags that `fine_tune`, `pretrain` and `plan` take."""
    values = flags.FLAGS
    return {
        "teacher": values.teacher,
        "temperature": values.temperature,
        "precision": values.precision,
        "batch_split": number_or_word(values.batch_split),
        "remat": values.remat,
    }


def run_options() -> dict:
    """Returns the fields of `RunOptions` that flags give, and the command line."""
    return {
        "precision": flags.FLAGS.precision,
        "batch_split": number_or_word(flags.FLAGS.batch_split),
        "remat": flags.FLAGS.remat,
        "seed": flags.FLAGS.seed,
        "evaluate_every": flags.FLAGS.eval_every,
        "keep": flags.FLAGS.keep,
        "patience": flags.FLAGS.patience,
        "command": command_line(),
    }


def training_options() -> dict:
    """Returns the training flags that `fine_tune` and `pretrain` take, and the command line."""
    return {**device_options(), **run_options()}


def run_folder(model: str, data: str) -> pathlib.Path:
    """Returns the folder that --logdir and --name give; the default name is of model and data.

    It is where an interruption looks for what was saved.
    """
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    default = re.sub(r"[^\w.-]+", "-", f"{pathlib.Path(model).name}_{data}_{stamp}")
    _folders.append(_run_folder(flags.FLAGS.name or default))
    return _folders[-1]


def _run_folder(name):
    return pathlib.Path(expanded(flags.FLAGS.logdir), name)


def command_line() -> str:
    """Returns the command as it was typed, for the report."""
    return shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]])


def number_or_word(text: str) -> int | str:
    """Returns "5" as 5, and "auto" or "full" as they are."""
    return int(text) if text.isdecimal() else text


def run(main: Callable, *, check: Callable = lambda *_: None, positional: bool = False) -> None:
    """Runs `main()` on parsed flags; exits with one of `usage.EXIT_CODES`.

    Args:
        main: A command's function.
        check: Called before `main`, and before TensorFlow is imported: raises ValueError for what
            can be told of the flags alone.
        positional: Whether to give both the list of arguments that are not flags; otherwise these
            are an error.
    """
    interruption.end_at_once()
    # absl's --help shows the module that was started, which is pip's script and not main's.
    module = sys.modules[main.__module__]
    for flag in flags.FLAGS.flags_by_module_dict().get(module.__name__, ()):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    sys.modules["__main__"].__doc__ = module.__doc__

    def guarded(arguments):
        if len(arguments) > 1 and not positional:
            sys.exit(_fail(f"unexpected argument {arguments[1]!r}; flags are written --name=value"))
        given = [arguments[1:]] if positional else []
        verbosity = flags.FLAGS["verbosity"]
        quiet = not (verbosity.present and verbosity.value >= logging.INFO)
        console.set_up(quiet)
        _exit_on_errors(check, *given)
        _exit_on_errors(console.import_tensorflow, quiet)
        interruption.raise_from_here_on()
        try:
            _exit_on_errors(main, *given)
        finally:
            interruption.leave_to_the_system()

    app.run(guarded, flags_parser=usage.parse)


def _exit_on_errors(main, *arguments):
    """Calls `main`; an expected error becomes one line and an exit code."""
    try:
        main(*arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        _exit_interrupted()
    except (ValueError, OSError) as error:
        _exit_with(error)
    except Exception as error:
        if interruption.has_come():
            _exit_interrupted()
        import tensorflow as tf  # which it is from, or what needs it: it is imported already

        from .. import training

        if isinstance(error, training.Interrupted):
            print(f"{error}; the same flags and --name go on from there", file=sys.stderr)
            sys.exit(STOPPED)
        if isinstance(error, tf.errors.ResourceExhaustedError):
            sys.exit(
                _fail("a batch does not fit into memory; split it (--batch_split) or shrink it")
            )
        if not isinstance(error, training.TrainingError):
            raise
        _exit_with(error)


def _exit_interrupted():
    """Exits, and says what was saved."""
    said = interruption.NOTHING_SAVED
    if _folders and (_folders[-1] / "config.json").exists():
        from .. import training

        folder = _folders[-1]
        if (folder / "metrics.json").exists():
            said = f"interrupted; {folder} is complete"
        elif (folder / "results.jsonl").exists():
            said = (
                f"interrupted; the results so far are in {folder}, and the same flags with "
                f"--name={folder.name} go on"
            )
        else:
            said = f"interrupted; {training.how_to_go_on(folder)}, with --name={folder.name}"
    print(f"\n{said}", file=sys.stderr)
    sys.exit(interruption.EXIT_CODE)


def _exit_with(error):
    if interruption.has_come():  # what came of it
        _exit_interrupted()
    if isinstance(error, BrokenPipeError):
        console.drop_output()
        sys.exit(usage.OUTPUT_CLOSED)
    if logging.get_verbosity() >= logging.DEBUG:  # --verbosity=1 shows the traceback
        raise error
    sys.exit(_fail(error))


def _fail(error):
    print(f"error: {str(error).strip()}", file=sys.stderr)
    return 2
