"""What an experiment found: mean, deviation and paired difference over seeds, cost, and the curves."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rdrop_fairseq import files
from rdrop_fairseq.experiments.trials import CURVE, SYSTEMS, Experiment, Settings

Results = Mapping[str, Sequence[Mapping[str, Any]]]  # of each system, by seed
MEASURES = {"test_accuracy": ("test accuracy, %", 100, 2), "test_nll": ("test nll", 1, 3)}  # title, scale, decimals


def compare(found: Results, what: str) -> dict[str, Any]:
    """Mean and standard deviation of each system; mean difference, its 95 % interval (paired t) and p (sign flips)."""
    from scipy.stats import permutation_test, ttest_rel  # scikit-learn brings it

    values = {system: [float(each[what]) for each in group] for system, group in found.items()}
    plain, ours = (values[system] for system in SYSTEMS)
    differences = [b - a for a, b in zip(plain, ours)]
    interval = ttest_rel(ours, plain).confidence_interval(0.95)
    # of up to 16 seeds every choice of signs
    flips = permutation_test((differences,), statistics.mean, permutation_type="samples", n_resamples=1 << 16)
    return {
        "values": values,
        "mean": {system: statistics.mean(group) for system, group in values.items()},
        "deviation": {system: statistics.stdev(group) for system, group in values.items()},
        "difference": statistics.mean(differences),
        "interval": [float(interval.low), float(interval.high)],
        "p_sign_flips": float(flips.pvalue),
    }


def edges(experiment: Experiment, chosen: Mapping[str, Settings]) -> list[str]:
    """Which settings lie at the edge of what was tried, where another value might be better still."""
    found = []
    for system, settings in chosen.items():
        for axis, value in settings.items():
            tried = sorted(map(float, experiment.axes[axis]))
            if float(value) in (tried[0], tried[-1]) and (axis, float(value)) != ("dropout", 0.0):
                found.append(f"{system}'s {axis} {value}")
    return found


def write(experiment: Experiment, chosen: Mapping[str, Settings], found: Results, out: Path) -> str:
    """report.json, report.md and curves.png in `out`; returns the table."""
    measures = [name for name in MEASURES if name in found["rdrop"][0]]
    tables = {what: compare(found, what) for what in (*measures, "updates", "cpu_seconds")}
    outer = edges(experiment, chosen)
    with files.atomic(out / "report.json", "w") as file:
        json.dump({"title": experiment.title, "settings": chosen, "at_the_edge": outer, **tables}, file, indent=1)
    head = [experiment.title, "settings", *(word for name in measures for word in (MEASURES[name][0], "s.d."))]
    lines = [f"| {' | '.join([*head, 'updates', 'CPU s'])} |", "|---|---" + "|---:" * (len(head)) + "|"]
    for system in SYSTEMS:
        row = [system, ", ".join(f"{axis} {value}" for axis, value in chosen[system].items())]
        for name in measures:
            _, scale, places = MEASURES[name]
            row += [f"{scale * tables[name][each][system]:.{places}f}" for each in ("mean", "deviation")]
        updates, seconds = (tables[name]["mean"][system] for name in ("updates", "cpu_seconds"))
        lines.append(f"| {' | '.join(row)} | {updates:,.0f} | {seconds:.1f} |")
    lines += ["", f"{len(found['rdrop'])} seeds. {'; '.join(difference(name, tables[name]) for name in measures)}."]
    lines += [f"At the edge of what was tried: {', '.join(outer)}."] if outer else []
    with files.atomic(out / "report.md", "w") as file:
        file.write("\n".join(lines) + "\n")
    plot(experiment, found, out)
    return "\n".join(lines)


def difference(name: str, compared: Mapping[str, Any]) -> str:
    """One measure of R-Drop less that of plain training, in words."""
    title, scale, places = MEASURES[name]
    value, low, high = (scale * number for number in (compared["difference"], *compared["interval"]))
    interval = f"95 % interval {low:+.{places}f} to {high:+.{places}f}"
    return f"{title} {value:+.{places}f} ({interval}, p {compared['p_sign_flips']:.4f})"


def plot(experiment: Experiment, found: Results, out: Path) -> None:
    """Losses of train and valid over updates, a line per seed; nothing without matplotlib (extra `plots`)."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for number, system in enumerate(SYSTEMS):
        for seed, each in enumerate(found[system]):
            with open(Path(each["folder"]) / CURVE, encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            for name, style in (("train_nll", ":"), ("valid_nll", "-")):
                label = f"{system}, {name.replace('_nll', '')}" if seed == 0 else None
                points = [int(row["update"]) for row in rows], [float(row[name]) for row in rows]
                axes.plot(*points, style, color=f"C{number}", label=label, alpha=0.6, linewidth=0.8)
    axes.set_title(experiment.title, fontsize="small")
    axes.set_xlabel("updates")
    axes.set_ylabel(f"nll, nats ({experiment.unit})")
    axes.legend(fontsize="small")
    with files.atomic(out / "curves.png") as file:
        figure.savefig(file, format="png", dpi=90)
