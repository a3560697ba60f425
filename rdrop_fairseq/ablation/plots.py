"""The pictures of an ablation; needs matplotlib (the extra `plots`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from matplotlib.figure import Figure

from rdrop_fairseq import files
from rdrop_fairseq.ablation.curves import Point
from rdrop_fairseq.ablation.rows import Row


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
            [row.mean for _, row in points],
            yerr=[row.deviation or 0.0 for _, row in points],
            marker="o",
            capsize=3,
            label=label,
        )
    for row in rows:
        if row.system.name == "baseline":
            plot.axhline(row.mean, linestyle="--", color="gray", label="baseline")
    plot.set_xticks([places[value] for value in values], values)
    plot.legend()
    return _save(figure, path)


def _places(values: Sequence[str]) -> dict[str, float]:
    """Where each value stands: at its number if all are numbers, else in the order given."""
    try:
        return {value: float(value) for value in values}
    except ValueError:
        return {value: float(place) for place, value in enumerate(values)}


def curve_plot(curves: Mapping[str, Sequence[Sequence[Point]]], horizontal: str, path: Path) -> Optional[Path]:
    """Validation BLEU (without it: the loss) over "updates", "seconds" or "cpu_seconds", a line per seed, a colour per
    system. None if nothing of the kind is known."""
    curves = {
        name: [[point for point in curve if getattr(point, horizontal) is not None] for curve in group]
        for name, group in curves.items()
    }
    points = [point for group in curves.values() for curve in group for point in curve]
    if not points:
        return None
    metric = "bleu" if any("bleu" in point.metrics for point in points) else "nll_loss"
    figure, plot = _picture(horizontal.replace("cpu_", "CPU "), f"validation {metric}")
    for number, (name, group) in enumerate(curves.items()):
        for seed, curve in enumerate(group):
            seen = [point for point in curve if metric in point.metrics]
            x, y = [getattr(point, horizontal) for point in seen], [point.metrics[metric] for point in seen]
            plot.plot(x, y, color=f"C{number % 10}", linewidth=1, label=None if seed else name)
    plot.legend()
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
