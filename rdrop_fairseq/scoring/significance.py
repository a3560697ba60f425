"""Is the difference between two systems more than chance? sacreBLEU's paired tests, for any convention and any number
of training seeds.

The score of a system is the mean of its seeds' corpus scores. Every test resamples sentences, and takes a sentence in
all seeds of a system together; with one seed the p-values are those of `sacrebleu --paired-bs` and `--paired-ar`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from sacrebleu.significance import PairedTest

from rdrop_fairseq.scoring.conventions import Scorer

RESAMPLES = 1000
TRIALS = 10000
# Sums of whole numbers below this are exact in fp32, which takes half the memory of the resampling.
_EXACT_IN_FP32 = 1 << 24


@dataclass(frozen=True)
class Comparison:
    """Two systems under one convention. Intervals hold 95 % of the bootstrap resamples; p_*: two-sided."""

    convention: str
    title: str
    signature: str
    baseline_seeds: list[float]
    system_seeds: list[float]
    baseline: float
    system: float
    difference: float
    baseline_interval: tuple[float, float]
    system_interval: tuple[float, float]
    difference_interval: tuple[float, float]
    p_bootstrap: float
    p_randomization: float

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


class SeedMean:
    """A metric as PairedTest wants it, on sentences that are tuples: one translation per seed."""

    def __init__(self, scorer: Scorer, seeds: int) -> None:
        self.scorer = scorer
        self.seeds = seeds

    def _extract_corpus_statistics(
        self, hypotheses: Sequence[tuple[str, ...]], references: Sequence[Sequence[str]]
    ) -> np.ndarray:
        by_seed = [self.scorer.statistics(list(seed), references) for seed in zip(*hypotheses)]
        statistics = np.concatenate(by_seed, axis=1)
        return statistics.astype(np.float32 if statistics.sum(0).max() < _EXACT_IN_FP32 else np.float64)

    def seed_scores(self, sums: np.ndarray) -> list[float]:
        """The score of each seed, from statistics summed over sentences."""
        return [self.scorer.value(part) for part in np.split(np.asarray(sums), self.seeds)]

    def _compute_score_from_stats(self, sums: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(name="mean", score=float(np.mean(self.seed_scores(sums))))

    def _aggregate_and_compute(self, statistics: np.ndarray) -> SimpleNamespace:
        return self._compute_score_from_stats(np.asarray(statistics).sum(0))

    def get_signature(self) -> dict[str, Any]:
        """PairedTest adds its own entries here; the convention has a signature of its own."""
        return _Entries()


class _Entries(dict[str, Any]):
    def update(self, key: str, value: Any) -> None:  # type: ignore[override]
        self[key] = value


def compare(
    convention: str,
    title: str,
    scorer: Scorer,
    baseline: Sequence[Sequence[str]],
    system: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
) -> Comparison:
    """Compares the translations of `baseline` with those of `system`: one list of sentences per seed, as many seeds."""
    metric = SeedMean(scorer, len(baseline))
    named = [("baseline", list(zip(*baseline))), ("system", list(zip(*system)))]
    tests = {"bs": RESAMPLES, "ar": TRIALS}
    p_values = {}
    paired: Any = PairedTest  # metric and sentences only look like what it declares
    for test, samples in tests.items():
        _, scores = paired(named, {"mean": metric}, references, test_type=test, n_samples=samples)()
        p_values[test] = float(scores["mean"][1].p_value)
    if list(baseline) == list(system):
        p_values = dict.fromkeys(tests, 1.0)  # sacreBLEU counts larger differences only, and so finds none
    statistics = [metric._extract_corpus_statistics(hypotheses, references) for _, hypotheses in named]
    seeds = [metric.seed_scores(values.sum(0)) for values in statistics]
    mean_baseline, mean_system = (float(np.mean(values)) for values in seeds)
    resampled = _resample(metric, statistics)
    return Comparison(
        convention,
        title,
        f"{scorer.signature(len(references))}|seed:{_seed()}|bs:{RESAMPLES}|ar:{TRIALS}",
        baseline_seeds=seeds[0],
        system_seeds=seeds[1],
        baseline=mean_baseline,
        system=mean_system,
        difference=mean_system - mean_baseline,
        baseline_interval=_interval(resampled[0]),
        system_interval=_interval(resampled[1]),
        difference_interval=_interval(resampled[1] - resampled[0]),
        p_bootstrap=p_values["bs"],
        p_randomization=p_values["ar"],
    )


def _seed() -> int | None:
    """The random seed that sacreBLEU's tests take, too."""
    seed = os.environ.get("SACREBLEU_SEED", "12345")
    return None if seed.lower() == "none" else int(seed)


def _resample(metric: SeedMean, statistics: Sequence[np.ndarray]) -> np.ndarray:
    """Scores [systems, RESAMPLES] on the same resamples of sentences for every system."""
    random, sentences = np.random.default_rng(_seed()), len(statistics[0])
    scores = np.empty((len(statistics), RESAMPLES))
    for sample, chosen in enumerate(random.choice(sentences, size=(RESAMPLES, sentences), replace=True)):
        for number, values in enumerate(statistics):
            scores[number, sample] = metric._compute_score_from_stats(values[chosen].sum(0)).score
    return scores


def _interval(scores: np.ndarray) -> tuple[float, float]:
    """What is left when the lowest and the highest fortieth are cut off, as sacreBLEU does."""
    ordered, cut = np.sort(scores), len(scores) // 40
    return float(ordered[cut]), float(ordered[-cut - 1])
