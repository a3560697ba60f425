"""The bootstrap over sentences and seeds: against sacreBLEU's, against normal theory, and with nothing to find."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from rdrop_fairseq.scoring import conventions
from rdrop_fairseq.scoring.bootstrap import bootstrap
from rdrop_fairseq.scoring.significance import compare

WORDS = ["the", "cat", "dog", "sat", "saw", "on", "a", "mat", "red", "big", "old"]


def mean(sums: np.ndarray) -> float:
    """Of values [value, 1]."""
    return float(sums[0] / sums[1])


def values(seed: int, centre: float, spread: float = 1.0, count: int = 500) -> np.ndarray:
    """Statistics whose mean is exactly `centre`, whose standard deviation is exactly `spread`."""
    drawn = np.random.default_rng(seed).normal(size=count)
    drawn = (drawn - drawn.mean()) / drawn.std() * spread + centre
    return np.stack([drawn, np.ones(count)], axis=1)


def test_as_sacrebleu_over_sentences() -> None:
    """Same score, difference and, within the noise of 1,000 resamples each, the same p and interval."""
    draw = random.Random(1)
    reference = [draw.choices(WORDS, k=draw.randint(6, 12)) for _ in range(150)]
    systems = []
    for noise in (0.30, 0.25):
        texts = [[word if draw.random() > noise else draw.choice(WORDS) for word in line] for line in reference]
        systems.append([" ".join(line) for line in texts])
    references = [[" ".join(line) for line in reference]]
    scorer = conventions.scorer("tokenized")
    theirs = compare("tokenized", "", scorer, systems[:1], systems[1:], references)
    ours = bootstrap(scorer.value, *([scorer.statistics(system, references)] for system in systems))
    assert ours.difference == pytest.approx(theirs.difference)
    assert 0.005 < theirs.p_bootstrap < 0.9
    assert ours.p_sentences == pytest.approx(theirs.p_bootstrap, abs=0.05)
    assert ours.interval == pytest.approx(theirs.difference_interval, abs=0.5)
    assert ours.p_seeds is None


def test_the_width_over_sentences_is_that_of_the_mean_of_differences() -> None:
    base = values(1, 5.0)
    other = base + np.stack([values(2, -0.1, 0.5)[:, 0], np.zeros(len(base))], axis=1)
    found = bootstrap(mean, [base], [other])
    error = 0.5 / math.sqrt(len(base))
    assert found.difference == pytest.approx(-0.1)
    assert found.interval == pytest.approx((-0.1 - 1.96 * error, -0.1 + 1.96 * error), abs=0.15 * error)
    assert found.p_sentences < 0.01


def test_seeds_that_differ_more_than_the_systems() -> None:
    """Means 5 and 5.2, seeds 0.3 apart: sentences alone are sure, sentences and seeds are not."""
    noise = values(3, 0.0, 0.2)
    baseline = [noise + np.array([centre, 0]) for centre in (4.7, 5.0, 5.3)]
    system = [noise + np.array([centre, 0]) for centre in (4.9, 5.2, 5.5)]
    found = bootstrap(mean, baseline, system)
    assert found.difference == pytest.approx(0.2)
    assert found.p_sentences == pytest.approx(1 / 1001)
    assert found.p_seeds is not None
    assert found.p_seeds > 0.2
    # the mean of three draws from three seeds has a third of their variance (0.06); the difference of two such, twice
    spread = math.sqrt(2 * 0.06 / 3)
    assert found.interval == pytest.approx((0.2 - 1.96 * spread, 0.2 + 1.96 * spread), abs=0.1)


def test_seeds_may_be_of_different_number_and_equal_systems_have_no_difference() -> None:
    one, two = values(1, 5.0), values(2, 5.0)
    found = bootstrap(mean, [one, two, one], [two, one])
    assert found.difference == pytest.approx(0.0)
    assert found.p_seeds == 1.0
    assert bootstrap(mean, [one], [one]).p_sentences == 1.0
