"""The objective in plain torch: its definition, and the reference for tests of the fused implementation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rdrop_fairseq.loss.positions import DEAD
from rdrop_fairseq.loss.weights import ViewWeights


def eager_loss(
    logits: Tensor, target: Tensor, weights: ViewWeights, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, nll, kl) of m views, summed over positions.

    logits: [m, n, V], finite. target: [n], int64, DEAD at ignored positions. Returns three scalars in nats, fp32
    (float64 for float64 logits): the objective of ViewWeights; the negative log-likelihood without smoothing, averaged
    over views with the weights c_i; the divergence averaged with its weights. Only the first has a gradient.

    Label smoothing is fairseq's: 1 - eps on the reference and eps / (V - 1) on each other class.
    """
    m, classes = weights.views, logits.size(-1)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    alive = target.ne(DEAD)
    lp = torch.log_softmax(logits.to(dtype), dim=-1)  # m x n x V
    p = lp.exp()
    nll = -lp.gather(-1, target.clamp_min(0).expand(m, -1).unsqueeze(-1)).squeeze(-1) * alive  # m x n
    eps_other = label_smoothing / (classes - 1)
    ce = (1 - label_smoothing - eps_other) * nll
    if eps_other:  # or two classes masked by the lowest finite logit would add 0 * infinity
        ce = ce + eps_other * (-lp.sum(-1) * alive)

    divergence = torch.zeros_like(ce[0])  # n
    for i in range(m):
        for j in range(m):
            if weights.kl[i][j]:
                divergence = divergence + weights.kl[i][j] * (p[i] * (lp[i] - lp[j])).sum(-1)
    if weights.js:
        log_mean = torch.logsumexp(lp, dim=0) - math.log(m)  # n x V
        divergence = divergence + weights.js * (p * (lp - log_mean)).sum((0, -1)) / m

    total = (divergence * alive).sum()
    loss = weighted(ce.sum(-1), weights.ce) + total
    kl = total / weights.kl_total if weights.kl_total else total
    return loss, weighted(nll.sum(-1), weights.shares).detach(), kl.detach()


def weighted(values: Tensor, factors: Sequence[float]) -> Tensor:
    """sum_i factors[i] * values[i]. A tensor of the factors would make the host wait for its copy to the device."""
    total = values[0] * factors[0]
    for value, factor in zip(values[1:], factors[1:]):
        total = total.add(value, alpha=factor)
    return total
