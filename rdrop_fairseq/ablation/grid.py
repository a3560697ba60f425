"""The systems of an ablation: a baseline, and R-Drop with options that vary one at a time or all together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from rdrop_fairseq.criterions import NAMES

# Short names of the options that the R-Drop paper varies, and of the two that say how long a learning rate falls; any
# other axis is an option of fairseq-train.
AXES = {
    "alpha": ("--rdrop-alpha",),
    "passes": ("--rdrop-passes",),
    "every": ("--rdrop-every",),
    "start": ("--rdrop-start-updates",),
    "warmup": ("--rdrop-warmup-updates",),
    "rates": ("--rdrop-dropout-rates",),
    "cutoff": ("--rdrop-cutoff",),
    "cutoff-rate": ("--rdrop-cutoff-rate",),
    "cutoff-views": ("--rdrop-cutoff-views",),
    "forward": ("--rdrop-forward",),
    "mode": ("--rdrop-mode",),
    "updates": ("--max-update", "--total-num-update"),
}
_SMOOTHED = "label_smoothed_cross_entropy_"
CRITERIA = {
    "plain": "label_smoothed_cross_entropy",
    **{name.removeprefix(_SMOOTHED): name for name in NAMES if name.startswith(_SMOOTHED)},
}


@dataclass(frozen=True)
class System:
    """One way of training: its name, and its settings by axis."""

    name: str
    settings: Mapping[str, str]

    @property
    def words(self) -> list[str]:
        """Its options for fairseq-train."""
        words = ["--criterion", CRITERIA.get(self.criterion, self.criterion)]
        for axis, value in self.settings.items():
            if axis != "criterion":
                words += [f"{option}={value}" for option in AXES.get(axis, (f"--{axis}",))]
        return words

    @property
    def criterion(self) -> str:
        """Short name of its criterion."""
        return self.settings.get("criterion", "rdrop")


BASELINE = System("baseline", {"criterion": "plain"})


def make_systems(
    axes: Sequence[tuple[str, Sequence[str]]], fixed: Optional[Mapping[str, str]] = None, crossed: bool = False
) -> list[System]:
    """The baseline and what it is compared with: the values of each axis beside the `fixed` settings, one axis at a
    time, or with `crossed` every combination; without axes, the fixed settings alone. No two systems are the same."""
    fixed = dict(fixed or {})
    choices = [[{axis: value} for value in values] for axis, values in axes]
    if crossed:
        varied = [{axis: value for each in combination for axis, value in each.items()}
                  for combination in itertools.product(*choices)]  # fmt: skip
    else:
        varied = [choice for axis in choices for choice in axis] or [{}]
    found = [BASELINE]
    for settings in varied:
        name = ",".join(f"{axis}={value}" for axis, value in settings.items()) or fixed.get("criterion", "rdrop")
        system = System(name, {**fixed, **settings})
        if all(dict(system.settings) != dict(other.settings) for other in found):
            found.append(system)
    return found
