"""Chooses each system's settings: one axis after the other, by mean validation over tuning seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from rdrop_fairseq.experiments.trials import Experiment, Settings, run


def tuned(experiment: Experiment, system: str, seeds: Sequence[int], out: Path) -> Settings:
    """Starts with the first value of each axis and takes the best value of one axis after the other.

    R-Drop skips dropout 0, where its views would be equal.
    """
    settings = {axis: values[0] for axis, values in experiment.axes.items() if axis != "alpha" or system == "rdrop"}
    for axis in settings:
        values = [each for each in experiment.axes[axis] if (system, axis, each) != ("rdrop", "dropout", "0")]
        choices = [{**settings, axis: value} for value in values]
        settings = max(choices, key=lambda each: merit(experiment, system, each, seeds, out))
    return settings


def merit(
    experiment: Experiment, system: str, settings: Settings, seeds: Sequence[int], out: Path
) -> tuple[float, float]:
    """Mean validation accuracy, then lower nll; lower nll alone where that is the metric."""
    found = [run(experiment, system, settings, seed, out) for seed in seeds]
    nll = -statistics.mean(each["valid_nll"] for each in found)
    accuracy = experiment.metric == "accuracy"
    return (statistics.mean(each["valid_accuracy"] for each in found) if accuracy else nll, nll)
