"""How a contender, a program of its own, answers `alternating`: JSON lines on standard output.

    program SETTINGS

SETTINGS is a JSON object. The first line is `{"versions": {...}}`, or `{"unavailable": "why"}`.
Then every line that comes on standard input starts a measurement, which is answered by
`{"figures": {name: number}}`. Needs nothing but the standard library, because the peers' Python
has no bit_keras.
"""

import contextlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable

STARTED = "BENCHMARK_STARTED"  # variable with the time at which the program was started
WARM_UP = 2  # calls before the first that counts


class Unavailable(Exception):  # noqa: N818 (nothing is wrong)
    """The contender cannot run on this machine; the message says why."""


def memory(kind: str) -> float:
    """Returns this program's memory in MB: "VmRSS" is held now, "VmHWM" was the most so far.

    (Not `ru_maxrss`, which a program inherits from the one that started it.)
    """
    with open("/proc/self/status") as status:
        return 1.024e-3 * int(status.read().split(f"{kind}:")[1].split()[0])


def check_bfloat16() -> None:
    """Raises Unavailable where the processor has no instructions for bfloat16."""
    with open("/proc/cpuinfo") as file:
        known = {*file.read().split()}
    if not known & {"avx512_bf16", "amx_bf16"}:
        raise Unavailable("the processor has no bfloat16 (neither avx512_bf16 nor amx_bf16)")


def serve(
    start: Callable[[dict], object],
    prepare: Callable[[dict], Callable[[], object]],
    packages: tuple[str, ...],
) -> None:
    """Answers measurements until standard input ends.

    Args:
        start: From the settings: imports the framework, unless that is done, and makes one
            tensor. The time and memory of it are told apart.
        prepare: From the settings to what is measured: a function that returns when its work is
            done; where "measure" is "itself", it returns the figures.
        packages: Whose versions are told, if they are installed.

    Settings that this reads, beside those of `prepare`:
        measure: A name in `_MEASURES`.
        calls: Of the function in one measurement of a rate.
        batch: Images of a call.
        gflop: Of one image, to tell the rate of operations; it may be missing.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes with its warnings

    def tell(**what):
        print(json.dumps(what), file=answers, flush=True)

    settings = json.loads(sys.argv[1])
    try:
        start(settings)
        settings["import_seconds"] = _seconds_since_start()
        settings["memory_before"] = memory("VmRSS")
        function = prepare(settings)
    except Unavailable as error:
        tell(unavailable=str(error))
        return
    tell(versions=dict(_versions(packages)))
    measure = _MEASURES[settings["measure"]]
    if settings["measure"] == "rate":
        for _ in range(WARM_UP):
            function()
    for _ in sys.stdin:
        tell(figures=measure(function, settings))


def _seconds_since_start():
    return time.time() - float(os.environ[STARTED])


def _versions(packages):
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def _rate(function, settings):
    start = time.perf_counter()
    for _ in range(settings["calls"]):
        function()
    seconds = (time.perf_counter() - start) / settings["calls"]
    rate = settings["batch"] / seconds
    return {
        "images/s": rate,
        "ms": 1000 * seconds,
        **({"GFLOP/s": rate * settings["gflop"]} if "gflop" in settings else {}),
    }


def _first_steps(function, settings):
    figures = {}
    for name in ("first step, s", "second step, s"):
        function()
        figures[name] = _seconds_since_start()
    return figures


def _peak_memory(function, settings):
    for _ in range(settings["calls"]):
        function()
    peak = memory("VmHWM")
    return {"peak, MB": peak, "less imports, MB": peak - settings["memory_before"]}


def _once(function, settings):
    start = time.perf_counter()
    function()
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "memory, MB": memory("VmHWM") - settings["memory_before"],
        "import, s": settings["import_seconds"],
    }


_MEASURES = {
    "rate": _rate,
    "first_steps": _first_steps,
    "memory": _peak_memory,
    "once": _once,
    "itself": lambda function, settings: function(),
}
