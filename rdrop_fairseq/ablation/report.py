"""An ablation's report: report.json with all numbers, table.md to read, curves.csv, and plots. The same trainings give
the same bytes."""

from __future__ import annotations

import csv
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from rdrop_fairseq import files
from rdrop_fairseq.ablation.curves import CLOCKS, Point
from rdrop_fairseq.ablation.envelope import envelope
from rdrop_fairseq.ablation.rows import Curves, Ensemble, Row, Values
from rdrop_fairseq.errors import install
from rdrop_fairseq.scoring import conventions
from rdrop_fairseq.scoring.bootstrap import RESAMPLES

COMPARED = ["difference", "95 % interval", "p (sentences)", "p (sentences and seeds)"]
Axes = Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Report:
    """The content of a report. subset: the data scored; average: checkpoints per average; curves: unfinished trainings
    included; remarks: what is missing and why; axes: as in grid.py."""

    rows: Sequence[Row]
    curves: Curves
    convention: str
    clock: str
    subset: str
    average: int
    ensemble: Optional[Ensemble]
    remarks: Sequence[str]
    axes: Axes

    @property
    def finished(self) -> dict[str, list[Sequence[Point]]]:
        """The curves of finished trainings, by system."""
        return {row.system.name: [self.curves[row.system.name][seed] for seed in row.seeds] for row in self.rows}

    @property
    def drawn(self) -> Curves:
        """The curves to plot: of finished seeds; of all seeds if a system has none finished. An unfinished seed would
        cut the mean over seeds short."""
        done = {row.system.name: set(row.seeds) for row in self.rows}
        return {name: {seed: curve for seed, curve in group.items() if curve and seed in done.get(name, group)}
                for name, group in self.curves.items()}  # fmt: skip

    def write(self, out: Path) -> list[Path]:
        """Write all files into `out`; returns their paths."""
        out.mkdir(parents=True, exist_ok=True)
        with files.atomic(out / "report.json", "w") as file:
            file.write(json.dumps(self.as_json(), indent=1) + "\n")
        with files.atomic(out / "table.md", "w") as file:
            file.write(self.text() + "\n")
        with files.atomic(out / "curves.csv", "w") as file:
            csv.writer(file, lineterminator="\n").writerows(curve_lines(self.curves))
        return [out / "table.md", out / "report.json", out / "curves.csv", *self._pictures(out)]

    def as_json(self) -> dict[str, object]:
        """The numbers, unrounded."""
        within = envelope(self.finished, self.clock)
        return {
            "convention": conventions.TITLES[self.convention],
            "subset": self.subset,
            "clock": CLOCKS[self.clock],
            "averaged_checkpoints": self.average,
            "systems": [row.as_json() for row in self.rows],
            "ensemble_of_baselines": self.ensemble and self.ensemble.as_json(),
            "envelope": within and within.as_json(),
            "remarks": list(self.remarks),
        }

    def text(self) -> str:
        """The tables as Markdown."""
        title = conventions.TITLES[self.convention]
        tables = [score_table(self.rows, f"{title}, {self.subset}", self.clock), nll_table(self.rows, self.subset)]
        tables.append(average_table(self.rows, f"{title}, {self.subset}", self.average))
        within = envelope(self.finished, self.clock)
        parts = [markdown(lines) for lines in [*tables, within.table() if within else []] if len(lines) > 1]
        if self.ensemble:
            seeds, nll = len(self.ensemble.seeds), self.ensemble.nll
            bits = "" if nll is None else f", nll {nll:.3f} bits"
            parts.append(f"Ensemble of the baseline's {seeds} seeds: {self.ensemble.score:.2f}{bits}.")
        if any(row.scores.against for row in self.rows):
            parts.append(
                "Differences are from the baseline (of averages: from its average), by a paired bootstrap: "
                f"{RESAMPLES:,} resamples of sentences, and of seeds where both systems have several."
            )
        return "\n\n".join([*parts, *("\n".join(f"- {remark}" for remark in self.remarks),) * bool(self.remarks)])

    def _pictures(self, out: Path) -> list[Path]:
        """One plot per axis, curves of score and gap over updates and seconds, and the envelope. Without matplotlib
        none, and a message on stderr."""
        logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq sets all loggers to DEBUG
        try:
            from rdrop_fairseq.ablation import plots
        except ImportError:
            print(f"no plots: {install('plots')}", file=sys.stderr)
            return []
        title = conventions.TITLES[self.convention]
        written = [plots.axis_plot(self.rows, axis, values, title, out / f"axis-{axis}.png")
                   for axis, values in self.axes]  # fmt: skip
        for clock, name in (("updates", "updates"), (self.clock, "seconds")):
            written.append(plots.curve_plot(self.drawn, clock, out / f"curves-{name}.png"))
            written.append(plots.gap_plot(self.drawn, clock, out / f"nll-{name}.png"))
        written.append(plots.envelope_plot(self.finished, self.clock, out / "envelope.png"))
        return [path for path in written if path is not None]


def score_table(rows: Sequence[Row], title: str, clock: str) -> list[list[str]]:
    """Head and lines, as text: the score of the best checkpoint."""
    unit = CLOCKS[clock].replace("seconds", "minutes")
    lines = [[title, "seeds", "mean", "s.d.", *COMPARED, "brevity", "updates", unit]]
    for row in rows:
        brevity = "" if row.brevity is None else f"{row.brevity:.3f}"
        cells = [row.system.name, str(len(row.seeds)), *_spread(row.scores, 2), *_compared(row.scores, 2)]
        lines.append([*cells, brevity, f"{row.updates:,}", f"{row.seconds / 60:.1f}"])
    return without_empty(lines)


def nll_table(rows: Sequence[Row], subset: str) -> list[list[str]]:
    """Likewise the nll of each system whose seeds all have it, and the lowest nll of all validations."""
    lines = [["nll, bits per token", "valid, lowest", "valid", *[subset] * (subset != "valid"), "s.d.", *COMPARED]]
    for row in rows:
        if row.nll is not None and row.valid_nll is not None:
            lowest = "" if row.lowest_nll is None else f"{row.lowest_nll.mean:.3f}"
            valid = [f"{row.valid_nll.mean:.3f}"] * (subset != "valid")
            lines.append([row.system.name, lowest, *valid, *_spread(row.nll, 3), *_compared(row.nll, 3)])
    return without_empty(lines)


def average_table(rows: Sequence[Row], title: str, count: int) -> list[list[str]]:
    """Likewise the score of the average of the last checkpoints."""
    lines = [[title, "best checkpoint", f"last {count} averaged", "s.d.", *COMPARED, "nll of the average"]]
    for row in rows:
        if row.average is not None:
            nll = "" if row.average_nll is None else f"{row.average_nll.mean:.3f}"
            cells = [row.system.name, f"{row.scores.mean:.2f}", *_spread(row.average, 2), *_compared(row.average, 2)]
            lines.append([*cells, nll])
    return without_empty(lines)


def _spread(values: Values, digits: int) -> list[str]:
    deviation = "" if values.deviation is None else f"{values.deviation:.{digits}f}"
    return [f"{values.mean:.{digits}f}", deviation]


def _compared(values: Values, digits: int) -> list[str]:
    found = values.against
    if found is None:
        return [""] * len(COMPARED)
    low, high = found.interval
    seeds = "" if found.p_seeds is None else f"{found.p_seeds:.3f}"
    interval = f"{low:+.{digits}f} to {high:+.{digits}f}"
    return [f"{found.difference:+.{digits}f}", interval, f"{found.p_sentences:.3f}", seeds]


def without_empty(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """The table without empty columns, such as the deviation of a single seed."""
    kept = [place for place in range(len(lines[0])) if any(line[place] for line in lines[1:])]
    return [[line[place] for place in kept] for line in lines]


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table as Markdown, numbers aligned to the right."""
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def curve_lines(curves: Curves) -> list[list[object]]:
    """The lines of curves.csv: one per system, seed, validation and metric."""
    lines: list[list[object]] = [["system", "seed", "updates", "seconds", "cpu_seconds", "metric", "value"]]
    points = ((name, seed, point) for name, group in curves.items() for seed, curve in group.items() for point in curve)
    for name, seed, point in points:
        cpu = "" if point.cpu_seconds is None else f"{point.cpu_seconds:.0f}"
        for metric, value in point.metrics.items():
            lines.append([name, seed, point.updates, point.seconds, cpu, metric, f"{value:.6g}"])
    return lines
