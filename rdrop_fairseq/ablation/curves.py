"""Learning curves from the log of a training (`--log-format json`): validation over updates and over seconds."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq.ablation.cpu_clock import CpuTimes

# time stamp, logger, content; fairseq_cli.train begins each attempt with its options, a dict
LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) \| \w+ \| (fairseq_cli\.train|train_inner|valid) \| (\{.*\})\s*$")


@dataclass(frozen=True)
class Point:
    """One validation. seconds: wall time of the training up to it, by the log's time stamps, that of attempts before a
    restart included; cpu_seconds: CPU time likewise, None if it was not recorded; metrics: what was measured, such as
    loss, nll_loss, bleu."""

    updates: int
    seconds: float
    metrics: dict[str, float]
    cpu_seconds: Optional[float] = None


@dataclass(frozen=True)
class Mark:
    """How far a training was: an update, and the wall and CPU seconds of the attempts that led to it."""

    updates: int
    wall: float
    cpu: float


def read_curve(log: Path) -> list[Point]:
    """The validations of a training in order. After a restart from an older checkpoint, those done twice count once,
    with the seconds of the attempt that was gone on with.

    Time stamps, since the `wall` that fairseq logs stays 0 in a training that goes on from a checkpoint.
    """
    reader = _Reader(CpuTimes(log))
    place = 0
    for raw in log.read_bytes().splitlines(keepends=True):
        place += len(raw)
        if not (found := LINE.match(raw.decode("utf-8", errors="replace"))):
            continue
        stamp = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S")
        if found[2] == "fairseq_cli.train":
            reader.start(stamp)
        else:
            reader.line(found[2], _numbers(json.loads(found[3])), stamp, place)
    return [reader.points[number] for number in sorted(reader.points)]


class _Reader:
    """The validations so far, and when each update was made."""

    def __init__(self, times: CpuTimes) -> None:
        self.times = times
        self.points: dict[int, Point] = {}
        self.marks = [Mark(0, 0.0, 0.0)]
        self.base = self.marks[0]  # where this attempt went on
        self.began: Optional[datetime] = None
        self.attempt: Optional[int] = None  # of the CPU clock; None until its first line

    def start(self, stamp: datetime) -> None:
        """A new attempt; at which update it went on is told by its first line."""
        self.began, self.attempt = stamp, None

    def line(self, kind: str, values: dict[str, float], stamp: datetime, place: int) -> None:
        """What was logged of training (train_inner) or validation (valid), in a line that ends at byte `place`."""
        updates = int(values.pop("num_updates" if kind == "train_inner" else "valid_num_updates"))
        if self.attempt is None:
            self.attempt = self.times.attempt(place)
            self.marks = [mark for mark in self.marks if mark.updates < updates]
            self.points = {number: point for number, point in self.points.items() if number < updates}
            self.base = self.marks[-1]
        self.began = self.began or stamp  # a log whose head is missing
        wall = self.base.wall + (stamp - self.began).total_seconds()
        mark = Mark(updates, wall, self.base.cpu + self.times.at(place, self.attempt))
        self.marks.append(mark)
        if kind == "valid":
            metrics = {name[len("valid_") :]: value for name, value in values.items() if name.startswith("valid_")}
            self.points[updates] = Point(updates, mark.wall, metrics, mark.cpu if self.times.known else None)


def best_within(curve: Sequence[Point], seconds: float, metric: str) -> Optional[float]:
    """The best value of a metric (highest BLEU, else lowest) in the first CPU seconds; None if there is none."""
    seen = [
        point.metrics[metric]
        for point in curve
        if metric in point.metrics and point.cpu_seconds is not None and point.cpu_seconds <= seconds
    ]
    return None if not seen else max(seen) if metric == "bleu" else min(seen)


def _numbers(stats: dict[str, Any]) -> dict[str, float]:
    found = {}
    for name, value in stats.items():
        try:
            found[name] = float(value)
        except (TypeError, ValueError):
            continue
    return found
