"""A paired bootstrap for any score that is a function of statistics summed over sentences: BLEU, nll per token.

In each resample both systems get the same sentences, drawn with replacement. With several trainings (seeds), seeds are
resampled as well, independently for each system: `p_seeds` and the interval then tell whether other seeds would show
the difference too; `p_sentences` is about these models on other sentences only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Callable, Optional

import numpy as np

RESAMPLES, SEED = 1000, 12345


@dataclass(frozen=True)
class Difference:
    """System minus baseline, each the mean of its seeds. interval: 95 % of the resamples, of sentences and seeds where
    there are several seeds. p: two-sided; the share of resampled differences that deviate from their mean by at least
    the observed difference (as in sacreBLEU's paired bootstrap). p_seeds: None with one seed on either side.
    """

    difference: float
    interval: tuple[float, float]
    p_sentences: float
    p_seeds: Optional[float]

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "resamples": RESAMPLES, "seed": SEED}


def bootstrap(
    value: Callable[[np.ndarray], float], baseline: Sequence[np.ndarray], system: Sequence[np.ndarray]
) -> Difference:
    """Compares two systems on one test set.

    value: the score of statistics summed over sentences, [columns] -> float. baseline, system: per seed the statistics
    of each sentence, [sentences, columns]; the numbers of seeds may differ.
    """
    random = np.random.default_rng(SEED)
    sentences = len(baseline[0])
    drawn = random.integers(sentences, size=(RESAMPLES, sentences))
    times = np.stack([np.bincount(row, minlength=sentences) for row in drawn]).astype(float)  # [resamples, sentences]
    found, fixed, varied = [], [], []
    for seeds in (baseline, system):
        found.append(np.mean([value(each.sum(0)) for each in seeds]))
        scores = np.stack([[value(sums) for sums in times @ each] for each in seeds])  # [seeds, resamples]
        chosen = random.integers(len(seeds), size=(len(seeds), RESAMPLES))
        fixed.append(scores.mean(0))
        varied.append(np.take_along_axis(scores, chosen, 0).mean(0))
    difference = float(found[1] - found[0])
    several = min(len(baseline), len(system)) > 1
    differences = varied[1] - varied[0] if several else fixed[1] - fixed[0]
    low, high = np.quantile(differences, (0.025, 0.975))
    return Difference(
        difference,
        (float(low), float(high)),
        _p_value(fixed[1] - fixed[0], difference),
        _p_value(differences, difference) if several else None,
    )


def _p_value(differences: np.ndarray, found: float) -> float:
    stray = np.abs(differences - differences.mean()) >= abs(found)
    return float((stray.sum() + 1) / (len(differences) + 1))
