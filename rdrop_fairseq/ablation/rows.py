"""What an ablation found: the scores of each finished system, and the comparison with the baseline."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from rdrop_fairseq.ablation.curves import read_curve
from rdrop_fairseq.ablation.grid import System
from rdrop_fairseq.ablation.trial import Trial
from rdrop_fairseq.scoring import conventions, results
from rdrop_fairseq.scoring.significance import Comparison, compare

BREVITY = re.compile(r"BP ?= ?([\d.]+)")


@dataclass(frozen=True)
class Row:
    """One system: its score per seed under one convention, and the comparison with the baseline (None for itself)."""

    system: System
    scores: list[float]
    brevity: Optional[float]
    updates: int
    cpu_seconds: float
    comparison: Optional[Comparison]

    @property
    def mean(self) -> float:
        """Of the seeds."""
        return statistics.mean(self.scores)

    @property
    def deviation(self) -> Optional[float]:
        """Standard deviation over seeds, None for one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


def make_rows(systems: Sequence[System], trials: Mapping[str, Sequence[Trial]], convention: str) -> list[Row]:
    """One row per system all of whose trials are finished, the first being the baseline."""
    done = [system for system in systems if all(trial.finished for trial in trials[system.name])]
    texts = {system.name: [results.read(trial.test) for trial in trials[system.name]] for system in done}
    rows = []
    for system in done:
        records = [trial.record() for trial in trials[system.name]]
        scored = [_scored(trial, convention) for trial in trials[system.name]]
        brevity = [float(found[1]) for found in (BREVITY.search(each["line"]) for each in scored) if found]
        comparison = None
        if system is not systems[0] and systems[0].name in texts:
            comparison = _compare(convention, texts[systems[0].name], texts[system.name])
        curves = [read_curve(trial.log) for trial in trials[system.name]]
        rows.append(
            Row(
                system,
                [each["score"] for each in scored],
                statistics.mean(brevity) if brevity else None,
                round(statistics.mean(curve[-1].updates if curve else 0 for curve in curves)),
                statistics.mean(record["cpu_seconds"] for record in records),
                comparison,
            )
        )
    return rows


def _scored(trial: Trial, convention: str) -> dict[str, Any]:
    content = json.loads((trial.test / results.SCORES).read_text(encoding="utf-8"))
    return next(score for score in content["scores"] if score["convention"] == convention)


def _compare(convention: str, baseline: Sequence[results.Texts], system: Sequence[results.Texts]) -> Comparison:
    first = baseline[0]
    scorer = conventions.scorer(convention, first.language, first.lowercases(convention))
    theirs, ours = ([text.pair(convention)[0] for text in texts] for texts in (baseline, system))
    return compare(convention, conventions.TITLES[convention], scorer, theirs, ours, first.pair(convention)[1])
