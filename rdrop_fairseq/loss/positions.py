"""Finds the positions of a batch that are not ignored, without a host wait if the caller knows a bound on their number.

Reading a value of a GPU tensor makes the host wait until the device has finished all earlier work, and the number of
positions that `nonzero` finds is such a value. With a bound the host takes as many positions as the bound says, those
that are not ignored first. Ignored positions among them are dead: their class is DEAD, their row is set to 0, and they
add nothing to any sum or gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from rdrop_fairseq.errors import UserError

DEAD = -1


def waits(tensor: Tensor) -> bool:
    """True if reading a value of this tensor makes the host wait for a device. All code asks here."""
    return tensor.device.type == "cuda"


@dataclass(frozen=True)
class Positions:
    """Positions of a batch, dead ones last.

    index: [n], int64, ascending among those that are not dead. target: [n], their classes, DEAD for dead ones.
    maybe_dead: False if none can be dead.
    """

    index: Tensor
    target: Tensor
    maybe_dead: bool

    def rows(self, stacked: Tensor) -> Tensor:
        """[m, N, ...] -> [m, n, ...]: the rows at these positions, 0 at dead ones, even where they held NaN."""
        chosen = stacked if self.index.numel() == stacked.size(1) else stacked.index_select(1, self.index)
        return chosen.masked_fill(self.target.eq(DEAD).unsqueeze(-1), 0.0) if self.maybe_dead else chosen


def find_positions(target: Tensor, ignore_index: int, most: Optional[int] = None) -> Positions:
    """The positions of `target` [N] whose class is not `ignore_index`.

    most: an upper bound on their number. On a GPU the result then has min(most, N) positions, some of them perhaps
    dead; on a CPU, or without `most`, it has exactly those that are not ignored.
    """
    if most is None or not waits(target):
        index = target.ne(ignore_index).nonzero().view(-1)
        return Positions(index, target[index], maybe_dead=False)
    ignored = target.eq(ignore_index)
    target = target.masked_fill(ignored, DEAD)
    if most >= target.numel():
        return Positions(torch.arange(target.numel(), device=target.device), target, maybe_dead=True)
    index = ignored.byte().argsort(stable=True)[:most]
    return Positions(index, target[index], maybe_dead=True)


def check_targets(target: Tensor, found: Positions, classes: int, ignore_index: int, most: Optional[int]) -> None:
    """Raises UserError for a class outside the vocabulary, more than `most` positions, or, without `most`, none at all.

    On a GPU the device checks the values, and a failure ends the run with a RuntimeError.
    """
    n = found.index.numel()
    if not n and most is None:
        raise UserError(f"this batch has no targets but padding ({target.numel()}): leave it out")
    if waits(target):
        ignored = target.eq(ignore_index)
        known = ignored | ((target >= 0) & (target < classes))
        torch._assert_async(known.all(), "a target is outside the vocabulary: check the dictionary")
        if most is not None:
            torch._assert_async((~ignored).sum() <= most, "a batch has more targets than its ntokens")
        return
    if most is not None and n > most:
        raise UserError(f"this batch has {n} targets, but its ntokens is {most}: count every target but padding")
    low, high = (int(bound) for bound in found.target.aminmax()) if n else (0, 0)
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise UserError(f"target {wrong} is outside the vocabulary of {classes} classes: check the dictionary")
