"""The objective in plain torch: its definition, and the oracle that the fused implementation is tested against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rdrop_fairseq.loss.weights import ViewWeights


def eager_loss(
    logits: Tensor, target: Tensor, weights: ViewWeights, label_smoothing: float, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, nll and kl of m stacked views, summed over the positions whose target is not `ignore_index`.

    logits: [m*N, V], rows of view i at i*N..(i+1)*N; target: [N], int64. Returns three scalars in nats, fp32 (float64
    for float64 logits): the objective of ViewWeights; the negative log-likelihood without smoothing, averaged over
    views by their c_i; the divergences averaged by their weights. Only the first carries a gradient.

    Label smoothing is fairseq's: 1 - eps on the reference and eps / (V - 1) on each other class.
    """
    m, classes = weights.views, logits.size(-1)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    kept = target.ne(ignore_index)
    lp = torch.log_softmax(logits.view(m, -1, classes)[:, kept].to(dtype), dim=-1)  # m x n x V
    p = lp.exp()
    nll = -lp.gather(-1, target[kept].expand(m, -1).unsqueeze(-1)).squeeze(-1).sum(-1)  # m
    smooth = -lp.sum(dim=(-2, -1))  # m
    eps_other = label_smoothing / (classes - 1)
    ce = (1 - label_smoothing - eps_other) * nll + eps_other * smooth
    c = ce.new_tensor(weights.ce)

    divergence = ce.new_zeros(())
    for i in range(m):
        for j in range(m):
            if weights.kl[i][j]:
                divergence = divergence + weights.kl[i][j] * (p[i] * (lp[i] - lp[j])).sum()
    if weights.js:
        log_mean = torch.logsumexp(lp, dim=0) - math.log(m)  # n x V
        divergence = divergence + weights.js * (p * (lp - log_mean)).sum() / m

    loss = (c * ce).sum() + divergence
    shares = c / c.sum() if sum(weights.ce) else torch.full_like(c, 1 / m)
    kl = divergence / weights.kl_total if weights.kl_total else divergence
    return loss, (shares * nll).sum().detach(), kl.detach()
