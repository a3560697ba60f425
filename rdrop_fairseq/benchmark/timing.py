"""Timing side by side: contestants take turns in one process, and ratios are taken turn by turn."""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, Union

from tqdm import tqdm

Cell = Union[str, float, int, None]
# "cpu" counts all threads, those that wait for others too, and is the better one on a busy machine.
CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}


def rounds(
    contestants: Mapping[str, Callable[[], object]],
    turns: int,
    what: str,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each contestant in each of `turns` rounds, after one round that is not counted.

    In every round each contestant runs once, so that a machine that slows down slows all of them. `clock`: of CLOCKS.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in tqdm(range(turns + 1), desc=what, unit="round", disable=None):
        for name, run in contestants.items():
            start = clock()
            run()
            if turn:
                seconds[name].append(clock() - start)
    return seconds


def interleaved(works: Sequence[Callable[[], object]], turns: int, title: str) -> list[list[float]]:
    """CPU seconds of each of `works` in each round: [work][round]."""
    return list(rounds({str(i): work for i, work in enumerate(works)}, turns, title, time.process_time).values())


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median over rounds of over / under."""
    return statistics.median(a / b for a, b in zip(over, under))


def spread(values: Sequence[float]) -> float:
    """(largest - smallest) / median: what the machine's noise did to one contestant."""
    return (max(values) - min(values)) / statistics.median(values)


def table(rows: Sequence[Mapping[str, Cell]]) -> str:
    """A Markdown table; numbers with three significant digits."""
    head = list(rows[0])
    lines = [head, *([_cell(row.get(name)) for name in head] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def write_csv(path: Path, rows: Sequence[Mapping[str, Cell]]) -> None:
    """The same rows, unrounded."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _cell(value: Cell) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)
