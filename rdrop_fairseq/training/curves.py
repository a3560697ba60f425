"""Learning curves from the log of a training (`--log-format json`): validation over updates and over seconds."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LINE = re.compile(r"\| (train_inner|valid) \| (\{.*\})\s*$")


@dataclass(frozen=True)
class Point:
    """One validation. seconds: wall time of the training up to it, as fairseq counts it, that of attempts before a
    restart included; metrics: what was measured, such as loss, nll_loss, bleu."""

    updates: int
    seconds: float
    metrics: dict[str, float]


def read_curve(log: Path) -> list[Point]:
    """The validations of a training in order. After a restart from an older checkpoint, those done twice count once,
    with the seconds of the attempt that was gone on with."""
    points: dict[int, Point] = {}
    marks: list[tuple[int, float]] = [(0, 0.0)]  # update, seconds
    base, last_wall = 0.0, 0.0
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        found = LINE.search(line)
        if not found:
            continue
        values = _numbers(json.loads(found[2]))
        if found[1] == "train_inner":
            updates, wall = int(values["num_updates"]), values["wall"]
            if wall < last_wall:  # fairseq's clock starts again with every process
                marks = [mark for mark in marks if mark[0] < updates]
                base = marks[-1][1]
                points = {number: point for number, point in points.items() if number < updates}
            last_wall = wall
            marks.append((updates, base + wall))
        else:
            updates = int(values.pop("valid_num_updates"))
            metrics = {name[len("valid_") :]: value for name, value in values.items() if name.startswith("valid_")}
            points[updates] = Point(updates, marks[-1][1], metrics)
    return [points[number] for number in sorted(points)]


def _numbers(stats: dict[str, Any]) -> dict[str, float]:
    found = {}
    for name, value in stats.items():
        try:
            found[name] = float(value)
        except (TypeError, ValueError):
            continue
    return found
