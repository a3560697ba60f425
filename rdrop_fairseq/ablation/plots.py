"""Plots of an ablation; needs matplotlib (the extra `plots`)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from rdrop_fairseq import files
from rdrop_fairseq.ablation.curves import CLOCKS, LABELS, TRAIN_NLL, Point, metric_of
from rdrop_fairseq.ablation.envelope import envelope
from rdrop_fairseq.ablation.rows import Curves, Row


def axis_plot(rows: Sequence[Row], axis: str, values: Sequence[str], title: str, path: Path) -> Optional[Path]:
    """Score over the values of one axis, with the standard deviation over seeds; one line for each combination of the
    other settings, the baseline dashed. None if no system on this axis is finished."""
    groups: dict[tuple[tuple[str, str], ...], dict[str, Row]] = {}
    for row in rows:
        if axis in row.system.settings and row.system.name != "baseline":
            others = tuple((key, value) for key, value in row.system.settings.items() if key != axis)
            groups.setdefault(others, {})[row.system.settings[axis]] = row
    if not groups:
        return None
    places = _places(values)
    figure, plot = _picture(axis, title)
    for others, found in groups.items():
        points = [(places[value], found[value]) for value in values if value in found]
        label = ", ".join(f"{key}={value}" for key, value in others) or None
        plot.errorbar(
            [place for place, _ in points],
            [row.scores.mean for _, row in points],
            yerr=[row.scores.deviation or 0.0 for _, row in points],
            marker="o",
            capsize=3,
            label=label,
        )
    for row in rows:
        if row.system.name == "baseline":
            plot.axhline(row.scores.mean, linestyle="--", color="gray", label="baseline")
    plot.set_xticks([places[value] for value in values], values)
    plot.legend()
    return _save(figure, path)


def _places(values: Sequence[str]) -> dict[str, float]:
    """Each value's place on the axis: its number if all are numbers, else its index."""
    try:
        return {value: float(value) for value in values}
    except ValueError:
        return {value: float(place) for place, value in enumerate(values)}


def curve_plot(curves: Curves, clock: str, path: Path) -> Optional[Path]:
    """Validation BLEU (without it: nll) over updates or seconds: a thin line per seed, a thick one for their mean, a
    colour per system. None without any validation."""
    metric = metric_of(curve for group in curves.values() for curve in group.values())
    figure, plot = _picture(CLOCKS.get(clock, clock), f"validation {LABELS[metric]}")
    for number, (name, group) in enumerate(curves.items()):
        for curve in group.values() if len(group) > 1 else ():
            seen = [point for point in curve if metric in point.metrics]
            x, y = [point.at(clock) for point in seen], [point.metrics[metric] for point in seen]
            plot.plot(x, y, color=_colour(number), linewidth=0.5, alpha=0.5)
        x, y = _mean(group, clock, metric)
        plot.plot(x, y, color=_colour(number), label=name if x else None)
    return _save_curves(figure, path)


def gap_plot(curves: Curves, clock: str, path: Path) -> Optional[Path]:
    """nll of training (dashed) and of validation, means over seeds: the gap between them is overfitting (the R-Drop
    paper's figure 2). What is above the best validation nll by more than half of it, the first minutes, is cut off.
    None without any validation."""
    figure, plot = _picture(CLOCKS.get(clock, clock), "nll, bits per token (dashed: training)")
    lowest = math.inf
    for number, (name, group) in enumerate(curves.items()):
        x, y = _mean(group, clock, "nll_loss")
        plot.plot(x, y, color=_colour(number), label=name if x else None)
        plot.plot(*_mean(group, clock, TRAIN_NLL), color=_colour(number), linestyle="--", linewidth=1)
        lowest = min([lowest, *y])
    if math.isfinite(lowest):
        plot.set_ylim(top=1.5 * lowest)
    return _save_curves(figure, path)


def envelope_plot(curves: Mapping[str, Sequence[Sequence[Point]]], clock: str, path: Path) -> Optional[Path]:
    """Best validation score over seconds: a line per system, broad where the system leads. None without any curve of a
    finished training."""
    found = envelope(curves, clock, every_validation=True)
    if found is None:
        return None
    figure, plot = _picture(CLOCKS[clock], f"best validation {LABELS[found.metric]} so far (broad: leads)")
    best = [found.best(place) for place in range(len(found.seconds))]
    for number, (name, scores) in enumerate(found.scores.items()):
        plot.step(found.seconds, [math.nan if score is None else score for score in scores], where="post",
                  color=_colour(number), linewidth=1, label=name)  # fmt: skip
        leads = [score if leader == name else math.nan for leader, score in best]
        plot.step(found.seconds, leads, where="post", color=_colour(number), linewidth=6, alpha=0.35)
    plot.set_xscale("log")
    rounded = envelope(curves, clock)
    assert rounded is not None
    plot.set_xticks(rounded.seconds, [f"{seconds:,.0f}" for seconds in rounded.seconds], minor=False)
    plot.minorticks_off()
    return _save_curves(figure, path)


def _mean(group: Mapping[int, Sequence[Point]], clock: str, metric: str) -> tuple[list[float], list[float]]:
    """The mean over the seeds at each update where all of them have the metric: places on the axis, values."""
    seeds = [{point.updates: point for point in curve if metric in point.metrics} for curve in group.values()]
    common = sorted(set.intersection(*map(set, seeds))) if seeds else []
    places = [statistics.mean(seed[updates].at(clock) for seed in seeds) for updates in common]
    return places, [statistics.mean(seed[updates].metrics[metric] for seed in seeds) for updates in common]


def _colour(number: int) -> Any:
    """Ten strong colours, then their ten pale ones."""
    return colormaps["tab20"](2 * (number % 10) + number // 10 % 2)


def _save_curves(figure: Figure, path: Path) -> Optional[Path]:
    """Save with a legend, unless nothing is drawn."""
    plot = figure.axes[0]
    if not any(np.size(line.get_xdata()) for line in plot.lines):
        return None
    if plot.get_legend_handles_labels()[0]:
        plot.legend(fontsize=7)
    return _save(figure, path)


def _picture(horizontal: str, vertical: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, 4), layout="constrained")
    plot = figure.add_subplot()
    plot.set_xlabel(horizontal)
    plot.set_ylabel(vertical)
    plot.grid(alpha=0.3)
    return figure, plot


def _save(figure: Figure, path: Path) -> Path:
    with files.atomic(path) as file:
        figure.savefig(file, format="png", dpi=150)
    return path
