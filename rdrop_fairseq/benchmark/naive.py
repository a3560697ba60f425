"""The objectives as public code writes them, from logits on: softmax, log_softmax and kl_div of whole tensors, in fp32.

R-Drop: the code of its paper and fairseq's; SimCut and Cutoff likewise, with their own divergences. These are what the
benchmark of the objectives compares with; `rdrop_fairseq.loss.eager` is the leaner definition.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from rdrop_fairseq.loss import ViewWeights


def naive_loss(logits: Tensor, target: Tensor, weights: ViewWeights, label_smoothing: float, padding: int) -> Tensor:
    """The objective of `weights` for logits [m*N, V] and targets [N]: a scalar in nats."""
    from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss

    log_probabilities = torch.log_softmax(logits, dim=-1, dtype=torch.float32).chunk(weights.views)
    probabilities = torch.softmax(logits, dim=-1, dtype=torch.float32).chunk(weights.views)
    ignored = target.eq(padding).unsqueeze(-1)  # N x 1
    loss = probabilities[0].new_zeros(())
    for weight, view in zip(weights.ce, log_probabilities):
        if weight:
            loss = loss + weight * label_smoothed_nll_loss(view, target, label_smoothing, ignore_index=padding)[0]
    for i, row in enumerate(weights.kl):
        for j, weight in enumerate(row):
            if weight:
                loss = loss + weight * _kl(probabilities[i], log_probabilities[j], ignored)
    if weights.js:
        log_mean = (sum(probabilities[1:], probabilities[0]) / weights.views).log()
        for view in probabilities:
            loss = loss + weights.js / weights.views * _kl(view, log_mean, ignored)
    return loss


def _kl(p: Tensor, log_q: Tensor, ignored: Tensor) -> Tensor:
    return kl_div(log_q, p, reduction="none").masked_fill(ignored, 0.0).sum()
