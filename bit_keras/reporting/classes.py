"""Numbers of each class: a table, and the file `per_class.csv`."""

import csv
import pathlib
from collections.abc import Sequence
from html import escape

from .page import percent, table, title_of

ROWS = 1000


def write_per_class(folder: pathlib.Path, rows: Sequence[dict]) -> None:
    """Writes `per_class.csv` into a run's folder; each row begins with its `class`."""
    path = folder / "per_class.csv"
    with open(path, "w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def class_table(rows: Sequence[dict], measure: str, notes: dict[str, str] | None = None) -> str:
    """Returns a table of the classes, the lowest `measure` first, those without it last.

    Args:
        rows: Each class's name (`class`), its counts, which are integers, and its shares in [0, 1],
            None where there is nothing to divide by. The count of what it has follows its name.
        measure: The column with a bar.
        notes: What is added to the titles of columns.
    """

    def cell(name, value):
        if isinstance(value, int):
            return f"<td>{value:,}</td>"
        bar = f' class="bar" style="--share:{value or 0:.3f}"' * (name == measure)
        return f"<td{bar}>{percent(value)}</td>"

    count, *_ = columns = [name for name in rows[0] if name != "class"]
    worst = sorted(rows, key=lambda row: (row[measure] is None, row[measure], -row[count]))
    lines = [
        [f"<th>{escape(str(row['class']))}</th>", *(cell(name, row[name]) for name in columns)]
        for row in worst[:ROWS]
    ]
    shown = f"<p>The worst {ROWS:,} of {len(rows):,}.</p>" * (len(rows) > ROWS)
    titles = (title_of(name) + (notes or {}).get(name, "") for name in columns)
    return shown + table("", ["Class", *titles], lines)
