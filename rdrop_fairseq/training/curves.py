"""Learning curves from the log of a training (`--log-format json`): validation over updates and over seconds."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq.training.cpu_clock import CpuTimes

LINE = re.compile(r"\| (train_inner|valid) \| (\{.*\})\s*$")


@dataclass(frozen=True)
class Point:
    """One validation. seconds: wall time of the training up to it, as fairseq counts it, that of attempts before a
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
    with the seconds of the attempt that was gone on with."""
    times = CpuTimes(log)
    points: dict[int, Point] = {}
    marks = [Mark(0, 0.0, 0.0)]
    start, last_wall, place = marks[0], 0.0, 0
    for raw in log.read_bytes().splitlines(keepends=True):
        place += len(raw)
        found = LINE.search(raw.decode("utf-8", errors="replace"))
        if not found:
            continue
        values = _numbers(json.loads(found[2]))
        if found[1] == "train_inner":
            updates, wall = int(values["num_updates"]), values["wall"]
            if wall < last_wall:  # both clocks start again with every process
                marks = [mark for mark in marks if mark.updates < updates]
                points = {number: point for number, point in points.items() if number < updates}
                start = marks[-1]
            last_wall = wall
            marks.append(Mark(updates, start.wall + wall, start.cpu + times.at(place)))
        else:
            updates = int(values.pop("valid_num_updates"))
            metrics = {name[len("valid_") :]: value for name, value in values.items() if name.startswith("valid_")}
            points[updates] = Point(updates, marks[-1].wall, metrics, marks[-1].cpu if times.known else None)
    return [points[number] for number in sorted(points)]


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
