"""`--help`, and the answers to flags that do not exist or have wrong values."""

import difflib
import re
import sys
import textwrap

from absl import app, flags

EXIT_CODES = """\
Exit codes:
    0  done
    1  an error that nobody foresaw, with its traceback; please report it
    2  a mistake in a flag or an input, or a training that failed: told in one sentence
   75  training was stopped by Ctrl-C or SIGTERM and is saved; the same flags and --name go on
  130  stopped by Ctrl-C
  141  who read its output, as `head` does, ended before it
  143  stopped by SIGTERM"""

OUTPUT_CLOSED = 141  # 128 + SIGPIPE, as of other programs in a shell

_ELSEWHERE = {  # what people type who come from other programs, and what it is here
    "lr": ("base_lr",),
    "learning_rate": ("base_lr",),
    "batch_size": ("batch",),
    "epochs": ("steps",),
    "num_epochs": ("epochs", "steps"),
    "img_size": ("crop", "size"),
    "image_size": ("crop", "size"),
    "data": ("dataset",),
    "output_dir": ("logdir",),
}

_LARGEST = 2**32 - 1  # number in a flag; seeds of NumPy are not larger
_VERBOSITY = (
    "0 shows what TensorFlow and other packages say, 1 also the traceback of an error. By default "
    "only this program's own warnings are shown."
)

_groups = []  # (title, the names of the flags that were defined before it)


def group(title: str) -> None:
    """Begins a group in `--help`, of the flags that are defined from here on."""
    _groups.append((title, {*flags.FLAGS}))


def parse(arguments: list[str]) -> list[str]:
    """Returns the arguments that are not flags; exits at a wrong flag, and after `--help`."""
    _answer_habits(arguments)
    try:
        rest = flags.FLAGS(arguments)
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, [*flags.FLAGS], n=3)
        hint = f"did you mean {' or '.join(f'--{name}' for name in near)}? " if near else ""
        _fail(f"there is no --{error.flagname}; {hint}see --help.")
    except flags.Error as error:
        _fail(_without_value() or error)
    except (UnicodeError, OSError) as error:
        _fail(f"a --flagfile cannot be read ({error}); give a text file of flags")
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, int | float) and not abs(value) <= _LARGEST:
            _fail(f"--{name} must be a number up to {_LARGEST:,}, got {value:.10g}")
    return rest


def _answer_habits(arguments):
    """Exits after the flags of help, and at one of other programs, whose name here it tells."""
    typed = {
        argument.partition("=")[0].lstrip("-") for argument in arguments[1:] if argument[:1] == "-"
    }
    if "helpfull" in typed:
        app.usage(writeto_stdout=True)
        sys.exit(0)  # absl's own exits as if something were wrong
    if typed & {"h", "help", "helpshort"}:
        print(_help())
        sys.exit(0)
    for flag, ours in _ELSEWHERE.items():
        if flag in typed and flag not in flags.FLAGS:
            known = [name for name in ours if name in flags.FLAGS]
            hint = f"it is --{known[0]} here" if known else "this command has no such flag"
            _fail(f"there is no --{flag}; {hint}, see --help.")


def _without_value():
    """A sentence about the flags that must be given and were not; None if there are none."""
    own = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    # A validator that refuses None is what makes absl's flags required.
    missing = [
        f"--{flag.name}"
        for flag in own
        if flag.value is None and not all(_takes_none(check) for check in flag.validators)
    ]
    return f"{' and '.join(missing)} must be given; see --help." if missing else None


def _takes_none(validator):
    try:
        return bool(validator.checker(None))
    except (flags.ValidationError, AttributeError, TypeError):  # it knows texts only
        return True


def _help():
    """The program's docstring, its flags by group, and its exit codes."""
    parts = [(sys.modules["__main__"].__doc__ or "").strip()]
    found = {}
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        titles = [title for title, before in _groups if flag.name not in before]
        found.setdefault(titles[-1] if titles else "Flags", []).append(flag)
    order = [*dict.fromkeys(["Flags", *(title for title, _ in _groups)])]
    for title in order:
        if title in found:
            lines = [_described(flag) for flag in _as_defined(found[title])]
            parts.append("\n".join([f"{title}:", *lines]))
    others = _paragraph("--verbosity", _VERBOSITY) + "\n" + _paragraph("--helpfull", "All flags.")
    parts += [f"Every program:\n{others}", EXIT_CODES]
    return "\n\n".join(parts)


def _as_defined(of_group):
    positions = {name: i for i, name in enumerate(flags.FLAGS)}
    return sorted(of_group, key=lambda flag: positions[flag.name])


def _described(flag):
    name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
    unset = flag.default is None or flag.default is False
    default = "" if unset else f" (default: {flag.default_as_str})"
    text = re.sub(
        r";\s*repeat this option.*", " May be given several times.", flag.help, flags=re.S
    )
    return _paragraph(name, text + default)


def _paragraph(name, text):
    return textwrap.fill(
        f"{name}: {text}",
        flags.get_help_width(),
        initial_indent="  ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _fail(error):
    print(f"error: {str(error).strip()}", file=sys.stderr)
    sys.exit(2)
