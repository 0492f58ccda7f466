"""What was measured: medians, a table in Markdown, a plot, and the machine."""

import contextlib
import math
import os
import pathlib
import platform
import statistics

import psutil

from bit_keras.files import replacing

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def machine() -> dict:
    """Returns what the figures depend on beside the programs."""
    cpu, known = platform.processor() or platform.machine(), set()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        facts = dict(line.split(":", 1) for line in file if ":" in line)
        facts = {name.strip(): value.strip() for name, value in facts.items()}
        cpu = f"{facts.get('model name', cpu)}, family {facts.get('cpu family')}"
        cpu += f", model {facts.get('model')}"
        known = set(facts.get("flags", "").split())
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    return {
        "cpu": cpu,
        "cores": len(cores),
        "memory, GiB": round(psutil.virtual_memory().total / 2**30, 1),
        "instructions": [name for name in INSTRUCTIONS if name in known],
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def summary(question: dict, rounds: dict) -> dict:
    """Returns medians and spread.

    Args:
        question: The fields of a `Question`.
        rounds: From a contender to its measurements, which are figures by name, and their `round`.

    Returns:
        From a contender and a figure's name to `median`, `least` and `greatest`, and as `ratio` to
        the same of the ratios to the reference in the same round.
    """
    results = {}
    for name, measurements in rounds.items():
        results[name] = {}
        for figure in question["figures"]:
            values = {m["round"]: m[figure] for m in measurements if figure in m}
            if not values:
                continue
            result = _spread(values.values())
            others = rounds.get(question["reference"], [])
            references = {m["round"]: m[figure] for m in others if figure in m}
            ratios = [values[n] / references[n] for n in values.keys() & references.keys()]
            if ratios:
                result["ratio"] = _spread(ratios)
            results[name][figure] = result
    return results


def _spread(values):
    values = list(values)
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def table(found: dict) -> str:
    """Returns what was found in Markdown: when, where, with what; then a row for a contender."""
    question, where = found["question"], found["machine"]
    versions = found["versions"].items()
    versions = ", ".join(f"{name} {' and '.join(of)}" for name, of in sorted(versions))
    number = max(map(len, found["rounds"].values()))
    lines = [
        f"{question['title']}. Medians of {number} rounds, in parentheses the least and the "
        f"greatest; ratios are of the same round to {question['reference']}.",
        "",
        f"*{found['date'][:10]}, {where['cpu']}, {where['cores']} cores, "
        f"{where['memory, GiB']} GiB, {' '.join(where['instructions'])}; {versions}, "
        f"Python {where['python']}.*",
        "",
        f"`{found['command']}`",
        "",
        "| contender | " + " | ".join(f"{figure} | ratio" for figure in question["figures"]) + " |",
        "| --- " + "| --- | --- " * len(question["figures"]) + "|",
    ]
    for name, results in found["results"].items():
        cells = []
        for figure in question["figures"]:
            result = results.get(figure)
            cells += [_cell(result), _cell(result and result.get("ratio"))]
        if results:
            lines.append(f"| {name} | {' | '.join(cells)} |")
    left_out = [f"- {name}: {reason}." for name, reason in found["left_out"].items()]
    return "\n".join([*lines, *(["", "Left out:", *left_out] if left_out else [])])


def _cell(spread):
    if not spread:
        return ""
    median, least, greatest = (text(spread[name]) for name in ("median", "least", "greatest"))
    return f"{median} ({least} to {greatest})"


def text(value: float) -> str:
    """Returns a number with three digits that count."""
    if not value or not math.isfinite(value):
        return str(value)
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def plot(found: dict, path: pathlib.Path) -> None:
    """Draws the medians as bars, and the spread as a line on each."""
    from matplotlib.figure import Figure

    question = found["question"]
    rows = {name: results for name, results in found["results"].items() if results}
    if not rows:
        return
    figure = Figure(figsize=(8, 1 + 0.4 * len(rows) * len(question["figures"])))
    all_axes = figure.subplots(len(question["figures"]), 1, squeeze=False)[:, 0]
    for axes, name in zip(all_axes, question["figures"], strict=True):
        of_figure = {row: results[name] for row, results in rows.items() if name in results}
        medians = [result["median"] for result in of_figure.values()]
        spread = [
            [result["median"] - result["least"] for result in of_figure.values()],
            [result["greatest"] - result["median"] for result in of_figure.values()],
        ]
        colors = ["tab:blue" if row.startswith("ours") else "tab:gray" for row in of_figure]
        axes.barh(list(of_figure), medians, xerr=spread, color=colors, capsize=3)
        axes.invert_yaxis()
        axes.set_xlabel(name)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(question["title"], fontsize=10)
    figure.tight_layout()
    with replacing(path, suffix=".png") as temporary:
        figure.savefig(temporary, dpi=120)
