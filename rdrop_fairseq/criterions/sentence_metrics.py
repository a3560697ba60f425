"""GLUE's metrics of a whole validation set.

All lie between -1 and 1, and are 0 where they are undefined (a constant prediction, a class without a hit).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def f1(hits: float, predicted: float, true: float) -> float:
    """F1 of one class, from the numbers of its true positives, of its predictions, and of its members."""
    return 2 * hits / (predicted + true) if hits else 0.0


def matthews(correct: float, predicted: Sequence[float], true: Sequence[float]) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004), from the number of correct predictions and, for
    each class, the numbers of its predictions and of its members."""
    total = sum(true)
    covariance = correct * total - sum(p * t for p, t in zip(predicted, true))
    spread = (total**2 - sum(p * p for p in predicted)) * (total**2 - sum(t * t for t in true))
    return covariance / math.sqrt(spread) if spread > 0 else 0.0


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation of two arrays [n], in float64."""
    a, b = (values - values.mean() for values in (np.asarray(x, np.float64), np.asarray(y, np.float64)))
    # A smaller spread is rounding: all values are the same.
    for deviations, values in ((a, x), (b, y)):
        if np.square(deviations).sum() <= 1e-24 * np.square(values).sum():
            return 0.0
    return float(np.clip((a * b).sum() / math.sqrt(np.square(a).sum() * np.square(b).sum()), -1, 1))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman correlation of two arrays [n]: Pearson's of the ranks, equal values having their mean rank."""
    return pearson(_ranks(x), _ranks(y))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[place.reshape(-1)]
