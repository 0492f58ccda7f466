"""What every command shares: absl flags in, one call, and mistakes answered in one sentence."""

import io
import sys

import tensorflow as tf
from absl import app, flags, logging

from ..training import Interrupted, TrainingError

STOPPED = 75  # by a signal, with everything saved: sysexits.h calls it a temporary failure


def run(main, *, positional: bool = False) -> None:
    """Runs `main()` on parsed flags; exits with 2 after a mistake, with 75 after a signal.

    With `positional`, `main` is given the list of what is no flag, wherever it stands.
    """
    # absl's --help tells of the module that was started, which is pip's script and not main's.
    module = sys.modules[main.__module__]
    for flag in flags.FLAGS.flags_by_module_dict().get(module.__name__, ()):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    sys.modules["__main__"].__doc__ = module.__doc__

    def guarded(arguments):
        if len(arguments) > 1 and not positional:
            sys.exit(fail(f"unexpected argument {arguments[1]!r}; flags are written --name=value"))
        if flags.FLAGS.verbosity <= 0:  # absl's own default is to tell of every file written
            logging.set_verbosity(logging.WARNING)
            tf.get_logger().setLevel("WARNING")
        if not tf.config.list_physical_devices("GPU"):
            # On a CPU the ops are deterministic, but not the order in which they add up. One at a
            # time, each on all cores, is a little slower and makes runs repeatable to the last bit.
            tf.config.threading.set_inter_op_parallelism_threads(1)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # not every console has every letter of a name
        try:
            main(arguments[1:]) if positional else main()
        except Interrupted as stop:
            print(f"{stop}; the same flags and --name go on from there", file=sys.stderr)
            sys.exit(STOPPED)
        except KeyboardInterrupt:
            print("interrupted; what came after the last checkpoint is lost", file=sys.stderr)
            sys.exit(130)
        except tf.errors.ResourceExhaustedError:
            sys.exit(
                fail("a batch does not fit into memory; split it (--batch_split) or shrink it")
            )
        except (ValueError, OSError, TrainingError) as error:
            if logging.get_verbosity() >= logging.DEBUG:  # --verbosity=1 shows where
                raise
            sys.exit(fail(error))

    app.run(guarded)


def number_or_word(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def fail(error) -> int:
    print(f"error: {str(error).strip()}", file=sys.stderr)
    return 2
