"""CPU seconds of a training beside its log, so that learning curves do not depend on what else the machine was doing.

Only a pair of numbers is written now and then: how long the log was, and how many CPU seconds this process had used by
then. A line of the log is dated by the first pair that covers it. The clock starts at zero again with every attempt.
"""

from __future__ import annotations

import os
import re
import threading
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Optional

PERIOD = 1.0  # seconds between looks
PAIR = re.compile(r"(\d+),(\d+\.\d\d)")  # what a kill cut short does not match


def clock_file(log: Path) -> Path:
    """Where the CPU seconds of the training with this log are kept."""
    return log.with_suffix(".cpu.csv")


class CpuClock:
    """While it is open, dates the log of the process `pid`. Does nothing where the system has no /proc."""

    def __init__(self, log: Path, pid: int) -> None:
        self.log, self.stat = log, Path(f"/proc/{pid}/stat")
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CpuClock:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end.set()
        self.thread.join()

    def _watch(self) -> None:
        with clock_file(self.log).open("a", encoding="utf-8") as file:
            while not self.end.wait(PERIOD):
                # the log's length first: what is written after it was looked at is dated by the next pair
                length, seconds = self.log.stat().st_size, cpu_seconds(self.stat)
                if seconds is None:
                    return
                file.write(f"{length},{seconds:.2f}\n")
                file.flush()


def cpu_seconds(stat: Path) -> Optional[float]:
    """CPU seconds of a process and its ended children (user and system; proc(5), fields 14 to 17); None if unknown."""
    try:
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class CpuTimes:
    """What a CpuClock wrote, for looking up. total: CPU seconds of all attempts, each up to its last look."""

    def __init__(self, log: Path) -> None:
        path = clock_file(log)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        pairs = [(int(found[1]), float(found[2])) for found in map(PAIR.fullmatch, lines) if found]
        self._lengths = [length for length, _ in pairs]
        self._seconds = [seconds for _, seconds in pairs]
        self.known = bool(pairs)
        drops = [i for i in range(1, len(pairs)) if self._seconds[i] < self._seconds[i - 1]]
        self._firsts = [0, *drops, len(pairs)]  # of each attempt's pairs, and the end
        self.total = sum(self._seconds[end - 1] for end in self._firsts[1:]) if pairs else 0.0

    def attempt(self, place: int) -> int:
        """Which attempt had written `place` bytes of log, counted from 0, by the first look after that."""
        return bisect_right(self._firsts, self._pair(place)) - 1

    def at(self, place: int, attempt: Optional[int] = None) -> float:
        """CPU seconds of the attempt that had written `place` bytes of log, at that moment; 0.0 if nothing is known.

        What an attempt wrote after its last look has the time of that, if `attempt` says which one it was.
        """
        if not self.known:
            return 0.0
        pair = self._pair(place)
        return self._seconds[pair if attempt is None else min(pair, self._firsts[attempt + 1] - 1)]

    def _pair(self, place: int) -> int:
        return min(bisect_left(self._lengths, place), max(len(self._lengths) - 1, 0))
