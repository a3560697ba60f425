"""An ablation's report: a table with significance, one plot per axis, learning curves over updates and seconds."""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rdrop_fairseq import files
from rdrop_fairseq.ablation.curves import Point, best_within, read_curve
from rdrop_fairseq.ablation.rows import Row
from rdrop_fairseq.ablation.trial import Trial
from rdrop_fairseq.scoring import conventions

# For the question what to do with a given time: budgets in multiples of what the baseline took to its end.
BUDGETS = (0.25, 0.5, 1.0, 2.0, 3.0)


def table(rows: Sequence[Row], convention: str) -> list[list[str]]:
    """Head and lines, as text."""
    head = [conventions.TITLES[convention], "mean", "s.d.", "difference", "95 % interval", "p (bootstrap)"]
    lines = [[*head, "brevity", "updates", "CPU minutes"]]
    for row in rows:
        deviation = "" if row.deviation is None else f"{row.deviation:.2f}"
        line = [row.system.name, f"{row.mean:.2f}", deviation, "", "", ""]
        if row.comparison is not None:
            low, high = row.comparison.difference_interval
            line[3:] = [f"{row.comparison.difference:+.2f}", f"{low:+.2f} to {high:+.2f}"]
            line.append(f"{row.comparison.p_bootstrap:.4f}")
        brevity = "" if row.brevity is None else f"{row.brevity:.3f}"
        lines.append([*line, brevity, str(row.updates), f"{row.cpu_seconds / 60:.1f}"])
    return lines


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """The table as Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]])


def write_table(rows: Sequence[Row], convention: str, seeds: int, out: Path) -> str:
    """table.md and table.csv in `out`; returns the former."""
    lines = table(rows, convention)
    seeds_told = f"{seeds} seeds" if seeds > 1 else "1 seed"
    text = f"{markdown(lines)}\n\n{seeds_told}; differences from the baseline by paired bootstrap over sentences."
    with files.atomic(out / "table.md", "w") as file:
        file.write(text + "\n")
    with files.atomic(out / "table.csv", "w") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    return text


def write_curves(trials: Mapping[str, Sequence[Trial]], out: Path) -> dict[str, list[list[Point]]]:
    """curves.csv in `out`, of finished and unfinished trials; returns the curves by system, one per seed."""
    curves: dict[str, list[list[Point]]] = {}
    rows: list[list[object]] = [["system", "seed", "updates", "seconds", "cpu_seconds", "metric", "value"]]
    for name, group in trials.items():
        curves[name] = [read_curve(trial.log) for trial in group if trial.log.is_file()]
        for trial in group:
            for point in read_curve(trial.log) if trial.log.is_file() else []:
                for metric, value in point.metrics.items():
                    cpu = "" if point.cpu_seconds is None else f"{point.cpu_seconds:.0f}"
                    rows.append([name, trial.seed, point.updates, point.seconds, cpu, metric, value])
    with files.atomic(out / "curves.csv", "w") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return curves


def budget_table(rows: Sequence[Row], curves: Mapping[str, Sequence[Sequence[Point]]]) -> list[list[str]]:
    """Best validation score of each system within the same CPU seconds, mean over seeds; head and lines, as text.

    Empty where the baseline is not finished or no CPU seconds were recorded; a cell is, where a seed has no validation
    by then.
    """
    if not rows or rows[0].system.name != "baseline":
        return []
    points = [point for row in rows for curve in curves[row.system.name] for point in curve]
    if not points or any(point.cpu_seconds is None for point in points):
        return []
    metric = "bleu" if any("bleu" in point.metrics for point in points) else "nll_loss"
    budgets = [round(share * rows[0].cpu_seconds) for share in BUDGETS]
    lines = [[f"best validation {metric} within CPU seconds", *map(str, budgets)]]
    for row in rows:
        best = [[best_within(curve, budget, metric) for curve in curves[row.system.name]] for budget in budgets]
        means = [None if None in values else statistics.mean(v for v in values if v is not None) for values in best]
        lines.append([row.system.name, *("" if mean is None else f"{mean:.2f}" for mean in means)])
    return lines


def write_budgets(lines: Sequence[Sequence[str]], out: Path) -> str:
    """budgets.csv in `out`, and the table as Markdown."""
    with files.atomic(out / "budgets.csv", "w") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    return markdown(lines)


def plots(
    rows: Sequence[Row],
    axes: Sequence[tuple[str, Sequence[str]]],
    curves: Mapping[str, Sequence[Sequence[Point]]],
    convention: str,
    out: Path,
) -> list[Path]:
    """One picture per axis and three of learning curves; none, and a word on stderr, without matplotlib."""
    try:
        from rdrop_fairseq.ablation import plots
    except ImportError:
        print("no plots: pip install 'rdrop-fairseq[plots]'", file=sys.stderr)
        return []
    written = [
        plots.axis_plot(rows, axis, values, conventions.TITLES[convention], out / f"axis-{axis}.png")
        for axis, values in axes
    ]
    for horizontal in ("updates", "seconds", "cpu_seconds"):
        name = f"curves-{horizontal.replace('_', '-')}.png"
        written.append(plots.curve_plot(curves, horizontal, out / name))
    return [path for path in written if path is not None]
