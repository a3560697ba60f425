"""The results of an ablation: scores of each system with a finished training, compared with the baseline."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from rdrop_fairseq.ablation.curves import Point
from rdrop_fairseq.ablation.further import Further
from rdrop_fairseq.ablation.grid import System
from rdrop_fairseq.ablation.trial import Trial
from rdrop_fairseq.scoring import conventions, perplexity, results
from rdrop_fairseq.scoring.bootstrap import Difference, bootstrap

BREVITY = re.compile(r"BP ?= ?([\d.]+)")
Curves = Mapping[str, Mapping[int, Sequence[Point]]]  # by system and seed
Statistics = list[np.ndarray]  # per seed: [sentences, columns], whose sum gives the score (see bootstrap)


@dataclass(frozen=True)
class Values:
    """A score of each seed, compared with the baseline's (None for the baseline, and without one)."""

    seeds: list[float]
    against: Optional[Difference] = None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.mean(self.seeds)

    @property
    def deviation(self) -> Optional[float]:
        """Standard deviation over seeds, None for one."""
        return statistics.stdev(self.seeds) if len(self.seeds) > 1 else None

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {"mean": self.mean, "deviation": self.deviation, "seeds": self.seeds,
                "against_baseline": self.against and self.against.as_json()}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One system over its finished seeds. scores: under one convention; nll: bits per token of the scored data, ends of
    sentences counted; valid_nll: of valid; lowest_nll: lowest of all validations; average, average_nll: of the
    average of the last checkpoints. None if a seed lacks it. seconds: of training, by the report's clock."""

    system: System
    seeds: list[int]
    scores: Values
    brevity: Optional[float]
    updates: int
    seconds: float
    valid_nll: Optional[Values] = None
    nll: Optional[Values] = None
    average: Optional[Values] = None
    average_nll: Optional[Values] = None
    lowest_nll: Optional[Values] = None

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        values = {name: value.as_json() for name, value in vars(self).items() if isinstance(value, Values)}
        others = {name: value for name, value in vars(self).items() if value is not None and name not in values}
        return {**others, "system": self.system.name, "settings": dict(self.system.settings), **values}


@dataclass(frozen=True)
class Ensemble:
    """The baseline's seeds, translating together."""

    seeds: list[int]
    score: float
    nll: Optional[float]

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)


def make_rows(
    systems: Sequence[System],
    trials: Mapping[str, Sequence[Trial]],
    curves: Curves,
    convention: str,
    clock: str,
    further: Further,
) -> list[Row]:
    """One row per system with a finished trial, compared with the baseline, the first, if that has one."""
    rows: list[Row] = []
    measures = _Measures(convention, further)
    for system in systems:
        done = [trial for trial in trials[system.name] if trial.finished]
        if not done:
            continue
        measures.compares = bool(rows) and rows[0].system is systems[0]
        scored = [results.read(trial.test).score(convention) for trial in done]
        brevity = [float(found[1]) for found in (BREVITY.search(each.line) for each in scored) if found]
        ends = [curves[system.name][trial.seed][-1:] for trial in done]
        records = [trial.record() for trial in done]
        wall = [record.get("seconds", points[0].seconds if points else 0.0) for record, points in zip(records, ends)]
        seconds = [record["cpu_seconds"] for record in records] if clock == "cpu" else wall
        rows.append(
            Row(
                system,
                [trial.seed for trial in done],
                measures.scores("best", [trial.test for trial in done]),
                statistics.mean(brevity) if brevity else None,
                round(statistics.mean(points[0].updates if points else 0 for points in ends)),
                statistics.mean(seconds),
                measures.nll("valid", [further.nll(trial.directory, "valid") for trial in done]),
                measures.nll("test", [further.nll(trial.directory) for trial in done]),
                measures.average([further.averaged(trial) for trial in done]),
                measures.nll("average", [further.nll(further.averaged(trial)) for trial in done]),
                _lowest([curves[system.name][trial.seed] for trial in done]),
            )
        )
    return rows


def _lowest(group: Sequence[Sequence[Point]]) -> Optional[Values]:
    nll = [[point.metrics["nll_loss"] for point in curve if "nll_loss" in point.metrics] for curve in group]
    return Values([min(each) for each in nll]) if all(nll) else None


class _Measures:
    """Reads measurements and compares them with the baseline's, which are read first."""

    def __init__(self, convention: str, further: Further) -> None:
        self.convention, self.further = convention, further
        self.compares = False
        self.baseline: dict[str, Statistics] = {}

    def scores(self, kind: str, folders: Sequence[Path]) -> Values:
        """The score of each seed's translation."""
        texts = [results.read(folder) for folder in folders]
        scorer = conventions.scorer(self.convention, texts[0].language, texts[0].lowercases(self.convention))
        return self._values(kind, [scorer.statistics(*text.pair(self.convention)) for text in texts], scorer.value)

    def average(self, folders: Sequence[Path]) -> Optional[Values]:
        """The score of each seed's averaged checkpoint; None if a seed lacks it."""
        wanted = self.further.average and all((folder / results.SCORES).is_file() for folder in folders)
        return self.scores("averaged", folders) if wanted else None

    def nll(self, kind: str, paths: Sequence[Path]) -> Optional[Values]:
        """Bits per token of each seed; None if a seed lacks it."""
        if not all(path.is_file() for path in paths):
            return None
        found = [perplexity.read(path) for path in paths]
        bits = [np.array(each["block_nll"]) / math.log(2) for each in found]
        return self._values(
            f"nll {kind}",
            [np.stack([nll, each["block_words"]], axis=1) for nll, each in zip(bits, found)],
            lambda sums: float(sums[0] / sums[1]),
        )

    def _values(self, kind: str, seeds: Statistics, value: Callable[[np.ndarray], float]) -> Values:
        against = None
        if not self.compares:
            self.baseline[kind] = seeds
        elif kind in self.baseline:
            against = bootstrap(value, self.baseline[kind], seeds)
        return Values([value(each.sum(0)) for each in seeds], against)


def make_ensemble(baselines: Sequence[Trial], out: Path, convention: str, further: Further) -> Optional[Ensemble]:
    """The ensemble's scores, None if it was not made."""
    folder = further.together(baselines, out)
    if not further.ensemble or not (folder / results.SCORES).is_file():
        return None
    nll = further.nll(folder)
    bits = float(perplexity.read(nll)["bits_per_word"]) if nll.is_file() else None
    return Ensemble([trial.seed for trial in baselines], results.read(folder).score(convention).score, bits)
