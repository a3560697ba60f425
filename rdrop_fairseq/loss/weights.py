"""The weights of an objective: c_i of each view's cross entropy, w_ij of each KL(p_i || p_j)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rdrop_fairseq.errors import UserError


@dataclass(frozen=True)
class ViewWeights:
    """Weights of L = sum_i ce[i] CE(p_i, y) + sum_{i != j} kl[i][j] KL(p_i || p_j) + js JS(p_1, ..., p_m).

    ce: m weights, one per view. kl: m x m weights with 0 on the diagonal. js: weight of the Jensen-Shannon divergence
    of all views (1/m each). Raises UserError for a weight that is negative or not finite, for sizes that do not match,
    or if all weights are 0.
    """

    ce: tuple[float, ...]
    kl: tuple[tuple[float, ...], ...]
    js: float = 0.0

    def __post_init__(self) -> None:
        m = len(self.ce)
        if m < 1 or len(self.kl) != m or any(len(row) != m for row in self.kl):
            raise UserError(f"m views need m cross-entropy weights and m x m KL weights, got {self.ce} and {self.kl}")
        for value in (*self.ce, *(w for row in self.kl for w in row), self.js):
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"weights of the loss must be finite and not negative, got {value}")
        if not (any(self.ce) or (m > 1 and self.kl_total)):  # one view does not diverge from itself
            raise UserError("all weights of the loss are 0: nothing would be trained")
        if any(self.kl[i][i] for i in range(m)):
            raise UserError(f"KL(p_i || p_i) is 0: its weight must be 0, got {self.kl}")

    @property
    def views(self) -> int:
        """m, the number of views."""
        return len(self.ce)

    @property
    def shares(self) -> list[float]:
        """The weights of the views in the reported nll: c_i over their sum, or 1/m if all c_i are 0."""
        total = sum(self.ce)
        return [c / total if total else 1 / self.views for c in self.ce]

    @property
    def kl_total(self) -> float:
        """Sum of all divergence weights. The reported kl is the weighted sum of the divergences divided by it."""
        return sum(map(sum, self.kl)) + self.js


def rdrop_weights(alpha: float, views: int = 2) -> ViewWeights:
    """R-Drop of m views (Liang et al. 2021, eq. 4 and section 4.3): c_i = 1, w_ij = alpha / (m (m - 1)).

    Raises UserError for alpha < 0 or fewer than 2 views.
    """
    check_alpha(alpha)
    if views < 2:
        raise UserError(f"R-Drop compares at least 2 views of a batch, got {views}")
    w = alpha / (views * (views - 1))
    return ViewWeights((1.0,) * views, tuple(tuple(0.0 if i == j else w for j in range(views)) for i in range(views)))


def simcut_weights(alpha: float) -> ViewWeights:
    """SimCut (Gao et al. 2022): CE of the whole view, and alpha KL(whole || cut) with a gradient through both."""
    check_alpha(alpha)
    return ViewWeights((1.0, 0.0), ((0.0, alpha), (0.0, 0.0)))


def cutoff_weights(ce_cut: Sequence[float], js: float) -> ViewWeights:
    """Cutoff (Shen et al. 2020): CE of the whole view with weight 1, of the cut views with `ce_cut`; JS with `js`."""
    m = 1 + len(ce_cut)
    return ViewWeights((1.0, *ce_cut), ((0.0,) * m,) * m, js)


def plain_weights(ce: float = 1.0) -> ViewWeights:
    """One view without divergence: `ce` times its label-smoothed cross entropy."""
    return ViewWeights((ce,), ((0.0,),))


def check_alpha(alpha: float) -> None:
    """Raises UserError for an alpha that is negative or not finite."""
    if not (math.isfinite(alpha) and alpha >= 0):
        raise UserError(f"alpha must be a finite number >= 0, got {alpha}")
