"""CPU seconds of a training, beside its log, so that learning curves do not depend on the machine's load.

Pairs of numbers are written now and then: the log's length, and the CPU seconds used so far. A line of the log has the
time of the first pair that covers it. A training on a GPU has no such clock: its CPU seconds mean nothing.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from pathlib import Path

PAIR = re.compile(r"(\d+),(\d+\.\d\d)")  # a line cut short by a kill does not match


def clock_file(log: Path) -> Path:
    """The file with the CPU seconds of the training with this log."""
    return log.with_suffix(".cpu.csv")


def look(log: Path, pid: int) -> None:
    """Append the log's length and the CPU seconds of process `pid` and its ended children (user and system; proc(5),
    fields 14 to 17). Does nothing without /proc, or if the process is gone."""
    length = log.stat().st_size  # before the seconds: later lines belong to the next pair
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return
    seconds = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    with clock_file(log).open("a", encoding="utf-8") as file:
        file.write(f"{length},{seconds:.2f}\n")


class CpuTimes:
    """CPU seconds over all attempts of a training. total: up to the last pair."""

    def __init__(self, log: Path) -> None:
        path = clock_file(log)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        pairs = [(int(found[1]), float(found[2])) for found in map(PAIR.fullmatch, lines) if found]
        self.known = bool(pairs)
        self._lengths = [length for length, _ in pairs]
        self._seconds: list[float] = []
        before = last = 0.0
        for _, seconds in pairs:
            if seconds < last:  # the clock of another process
                before += last
            last = seconds
            self._seconds.append(before + seconds)
        self.total = self._seconds[-1] if pairs else 0.0

    def at(self, place: int) -> float:
        """CPU seconds when `place` bytes of log were written, from the first pair after that; 0.0 without pairs."""
        return self._seconds[min(bisect_left(self._lengths, place), len(self._lengths) - 1)] if self.known else 0.0
