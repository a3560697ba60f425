"""Is the difference between two systems more than chance? sacreBLEU's paired tests, for any convention and any number
of training seeds.

The score of a system is the mean of its seeds' corpus scores. Every test resamples sentences, and takes a sentence in
all seeds of a system together; with one seed the p-values are those of `sacrebleu --paired-bs` and `--paired-ar`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rdrop_fairseq.scoring.conventions import Scorer

RESAMPLES = 1000
TRIALS = 10000
PARTS = 10  # in which the trials are computed, for memory: trials x sentences x 8 bytes


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


def compare(
    convention: str,
    title: str,
    scorer: Scorer,
    baseline: Sequence[Sequence[str]],
    system: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
) -> Comparison:
    """Compares the translations of `baseline` with those of `system`: one list of sentences per seed, as many seeds."""
    statistics = [
        np.stack([scorer.statistics(seed, references) for seed in seeds], axis=1) for seeds in (baseline, system)
    ]  # each [sentences, seeds, columns]
    by_seed = [[scorer.value(sums) for sums in values.sum(0)] for values in statistics]
    means = [float(np.mean(scores)) for scores in by_seed]
    resampled = _resample(scorer, statistics)
    gaps = np.abs(resampled[1] - resampled[0])
    p_values = [_p_value(gaps - gaps.mean(), means), _p_value(_swap(scorer, statistics), means)]
    if means[0] == means[1]:
        p_values = [1.0, 1.0]  # only larger differences are counted, and texts that score alike show none
    return Comparison(
        convention,
        title,
        f"{scorer.signature(len(references))}|seed:{_seed()}|bs:{RESAMPLES}|ar:{TRIALS}",
        baseline_seeds=by_seed[0],
        system_seeds=by_seed[1],
        baseline=means[0],
        system=means[1],
        difference=means[1] - means[0],
        baseline_interval=_interval(resampled[0]),
        system_interval=_interval(resampled[1]),
        difference_interval=_interval(resampled[1] - resampled[0]),
        p_bootstrap=p_values[0],
        p_randomization=p_values[1],
    )


def _seed() -> int | None:
    """The random seed that sacreBLEU's tests take, too."""
    seed = os.environ.get("SACREBLEU_SEED", "12345")
    return None if seed.lower() == "none" else int(seed)


def _mean(scorer: Scorer, sums: np.ndarray) -> float:
    """The mean score of all seeds, from statistics [seeds, columns] summed over sentences."""
    return float(np.mean([scorer.value(seed) for seed in sums]))


def _resample(scorer: Scorer, statistics: Sequence[np.ndarray]) -> np.ndarray:
    """Scores [systems, RESAMPLES] on the same resamples of sentences for every system."""
    sentences = len(statistics[0])
    drawn = np.random.default_rng(_seed()).choice(sentences, size=(RESAMPLES, sentences), replace=True)
    return np.array([[_mean(scorer, values[chosen].sum(0)) for chosen in drawn] for values in statistics])


def _swap(scorer: Scorer, statistics: Sequence[np.ndarray]) -> np.ndarray:
    """Absolute differences [TRIALS] of two systems that swap each sentence's translations or not, at random."""
    baseline, system = (values.astype(float) for values in statistics)
    swapped = np.random.default_rng(_seed()).integers(2, size=(TRIALS, len(system)), dtype=bool)
    ours = [np.tensordot(part, baseline - system, 1) for part in np.array_split(swapped, PARTS)]
    found = []
    for moved in np.concatenate(ours):  # [seeds, columns] that the system gains and the baseline loses
        first, second = system.sum(0) + moved, baseline.sum(0) - moved
        found.append(abs(_mean(scorer, first) - _mean(scorer, second)))
    return np.array(found)


def _p_value(differences: np.ndarray, means: Sequence[float]) -> float:
    """The share of differences above that of the two means."""
    return float(np.sum(differences > abs(means[1] - means[0])) + 1) / (len(differences) + 1)


def _interval(scores: np.ndarray) -> tuple[float, float]:
    """What is left when the lowest and the highest fortieth are cut off, as sacreBLEU does."""
    ordered, cut = np.sort(scores), len(scores) // 40
    return float(ordered[cut]), float(ordered[-cut - 1])
