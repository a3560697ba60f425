"""Rows of measurements as Markdown for people, and as JSON or CSV for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Union

from rdrop_fairseq import files

Cell = Union[str, float, int, None]
Row = dict[str, Cell]


def markdown(rows: Sequence[Mapping[str, Cell]]) -> str:
    """A table with every column that some row has; numbers with three significant digits."""
    head = list(dict.fromkeys(name for row in rows for name in row))
    lines = [head, *([text(row.get(name)) for name in head] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    made = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    made.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(made)


def write(path: Path, rows: Sequence[Mapping[str, Cell]]) -> None:
    """The same rows, unrounded: as CSV where the name ends in .csv, else as JSON."""
    with files.atomic(path, "w") as out:
        if path.suffix == ".csv":
            writer = csv.DictWriter(out, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
        else:
            json.dump(list(rows), out, indent=1)
            out.write("\n")


def text(value: Cell) -> str:
    """One cell."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)
