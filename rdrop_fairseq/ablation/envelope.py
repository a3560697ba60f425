"""What to train for a given number of seconds: the best validation score of each system within them, and the best of
these, the upper envelope."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from rdrop_fairseq.ablation.curves import CLOCKS, LABELS, Point, best_so_far, metric_of

ROUND = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)  # the numbers of seconds in the table, times a power of ten


@dataclass(frozen=True)
class Envelope:
    """scores: by system, at each of `seconds`: the best validation score within them, mean over its seeds; None before
    each seed has one. A training that has ended keeps its best score."""

    metric: str
    clock: str
    seconds: list[float]
    scores: dict[str, list[Optional[float]]]

    def best(self, place: int) -> tuple[str, float]:
        """The system to take for seconds[place], and its score; the first of equals."""
        known = {name: score for name, scores in self.scores.items() if (score := scores[place]) is not None}
        choose = max if self.metric == "bleu" else min
        name = choose(known, key=known.__getitem__)
        return name, known[name]

    def table(self) -> list[list[str]]:
        """Head and lines, as text: for so many seconds, take this."""
        title = f"best validation {LABELS[self.metric]} within {CLOCKS[self.clock]}"
        lines = [[title, "take", "score", *self.scores]]
        for place, seconds in enumerate(self.seconds):
            name, score = self.best(place)
            cells = [scores[place] for scores in self.scores.values()]
            shown = ["" if cell is None else f"{cell:.2f}" for cell in cells]
            lines.append([f"{seconds:,.0f}", name, f"{score:.2f}", *shown])
        return lines

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        take = [self.best(place)[0] for place in range(len(self.seconds))]
        return {"metric": self.metric, "clock": CLOCKS[self.clock], "seconds": self.seconds, "take": take,
                "scores": self.scores}  # fmt: skip


def envelope(
    curves: Mapping[str, Sequence[Sequence[Point]]], clock: str, every_validation: bool = False
) -> Optional[Envelope]:
    """Of finished trainings: by system, the curve of each seed. None where no system has a score of every seed.

    seconds: round numbers that enclose the first and the last score; with `every_validation` the times of all
    validations, for a plot.
    """
    metric = metric_of(curve for group in curves.values() for curve in group)
    best = {name: [best_so_far(curve, clock, metric) for curve in group] for name, group in curves.items()}
    best = {name: group for name, group in best.items() if group and all(group)}
    if not best:
        return None
    first = min(max(curve[0][0] for curve in group) for group in best.values())
    times = sorted({seconds for group in best.values() for curve in group for seconds, _ in curve if seconds >= first})
    chosen = times if every_validation else _round_seconds(first, times[-1])
    scores = {name: [_mean_at(group, seconds) for seconds in chosen] for name, group in best.items()}
    return Envelope(metric, clock, chosen, scores)


def _round_seconds(first: float, last: float) -> list[float]:
    """Round numbers from the first one >= `first` to the first one >= `last`."""
    powers = range(math.floor(math.log10(max(first, 1.0))), math.ceil(math.log10(max(last, 1.0))) + 1)
    numbers = [number * 10.0**power for power in powers for number in ROUND]
    return numbers[bisect_left(numbers, first) : bisect_left(numbers, last) + 1]


def _mean_at(group: Sequence[Sequence[tuple[float, float]]], seconds: float) -> Optional[float]:
    places = [bisect_right(curve, (seconds, math.inf)) for curve in group]
    if not all(places):
        return None
    return statistics.mean(curve[place - 1][1] for curve, place in zip(group, places))
