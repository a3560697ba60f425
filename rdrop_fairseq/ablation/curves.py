"""Learning curves from a training's log (`--log-format json`): each validation, and the training loss since the one
before it, over updates and over seconds."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq.ablation.cpu_clock import CpuTimes

TRAIN_NLL = "train_nll_loss"
# The unit of a training's time: CPU seconds mean nothing on a GPU.
CLOCKS = {"cpu": "CPU seconds", "wall": "wall seconds"}
LABELS = {"bleu": "BLEU", "nll_loss": "nll (bits per token)"}
# time stamp, logger, content; fairseq_cli.train begins each attempt with its options, a dict
LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) \| \w+ \| (fairseq_cli\.train|train_inner|valid) \| (\{.*\})\s*$")


@dataclass(frozen=True)
class Point:
    """One validation. seconds: wall time of the training so far, by the log's time stamps, attempts before a restart
    included; cpu_seconds: CPU time likewise, None if not recorded; metrics: loss, nll_loss, bleu ..., and TRAIN_NLL:
    nll per token (bits, mean over views, with dropout) since the last validation.
    """

    updates: int
    seconds: float
    metrics: dict[str, float]
    cpu_seconds: Optional[float] = None

    def at(self, clock: str) -> float:
        """The place on an axis: updates, or the seconds of a clock (see CLOCKS)."""
        found = {"updates": self.updates, "wall": self.seconds, "cpu": self.cpu_seconds}[clock]
        assert found is not None
        return found


@dataclass(frozen=True)
class Mark:
    """How far a training was: an update, and the wall and CPU seconds of the attempts that led to it."""

    updates: int
    wall: float
    cpu: float


def read_curve(log: Path) -> list[Point]:
    """The validations of a training in order. Those repeated after a restart from an older checkpoint count once, with
    the seconds of the attempt that was continued.

    Time stamps are used since the `wall` that fairseq logs stays 0 in a resumed training.
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
        self.base = self.marks[0]  # where this attempt resumed
        self.began: Optional[datetime] = None
        self.first = True  # the next line is this attempt's first
        self.place = 0  # in the log, up to which attempts before this one are read
        self.spent = 0.0  # CPU seconds of the attempts before this one

    def start(self, stamp: datetime) -> None:
        """A new attempt; its first line says at which update it resumed."""
        self.began, self.first = stamp, True
        self.spent = self.times.at(self.place) if self.place else 0.0

    def line(self, kind: str, values: dict[str, float], stamp: datetime, place: int) -> None:
        """A logged line of training (train_inner) or validation (valid) that ends at byte `place`."""
        updates = int(values.pop("num_updates" if kind == "train_inner" else "valid_num_updates"))
        if self.first:
            self.first = False
            self.marks = [mark for mark in self.marks if mark.updates < updates]
            self.points = {number: point for number, point in self.points.items() if number < updates}
            self.base = self.marks[-1]
            self.nll = self.tokens = 0.0
        self.began = self.began or stamp  # a log whose head is missing
        wall = self.base.wall + (stamp - self.began).total_seconds()
        mark = Mark(updates, wall, self.base.cpu + self.times.at(place) - self.spent)
        self.place = place
        self.marks.append(mark)
        if kind == "train_inner" and "nll_loss" in values:  # a mean over tokens since the line before
            tokens = values.get("wpb", 1.0)
            self.nll, self.tokens = self.nll + values["nll_loss"] * tokens, self.tokens + tokens
        if kind == "valid":
            metrics = {name[len("valid_") :]: value for name, value in values.items() if name.startswith("valid_")}
            if self.tokens:
                metrics[TRAIN_NLL] = self.nll / self.tokens
                self.nll = self.tokens = 0.0
            self.points[updates] = Point(updates, mark.wall, metrics, mark.cpu if self.times.known else None)


def metric_of(curves: Iterable[Sequence[Point]]) -> str:
    """The metric that compares validations: BLEU if logged (more is better), else nll_loss (less is better)."""
    return "bleu" if any("bleu" in point.metrics for curve in curves for point in curve) else "nll_loss"


def clock_of(curves: Iterable[Sequence[Point]]) -> str:
    """CPU seconds if all validations have them, that is, if all trainings ran on a CPU; else wall seconds."""
    return "cpu" if all(point.cpu_seconds is not None for curve in curves for point in curve) else "wall"


def best_so_far(curve: Sequence[Point], clock: str, metric: str) -> list[tuple[float, float]]:
    """(seconds, best value until then) of each validation that has the metric."""
    better = max if metric == "bleu" else min
    seen = [(point.at(clock), point.metrics[metric]) for point in curve if metric in point.metrics]
    return list(zip([seconds for seconds, _ in seen], itertools.accumulate((value for _, value in seen), better)))


def _numbers(stats: dict[str, Any]) -> dict[str, float]:
    found = {}
    for name, value in stats.items():
        try:
            found[name] = float(value)
        except (TypeError, ValueError):
            continue
    return found
