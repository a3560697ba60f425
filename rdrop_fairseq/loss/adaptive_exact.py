"""The objective under an adaptive softmax with the divergences of the whole distributions.

Let h be the head, over frequent words and clusters, and t_k the tails. A word of tail k has the probability
P(w) = h(k) t_k(w), so at every position

    KL(P || Q) = KL(h_P || h_Q) + sum_k h_P(k) KL(t_k,P || t_k,Q)

Every tail is therefore computed at every position, while `adaptive_rdrop_loss` computes it only where the target lies
in it. Plain torch computes chunks of positions, and each chunk again in backward, so that at most CHUNK_BYTES of
log-probabilities of the whole vocabulary exist at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rdrop_fairseq.loss.eager import weighted
from rdrop_fairseq.loss.weights import ViewWeights

CHUNK_BYTES = 1 << 28  # 120 positions of two views at 267,744 words
Layer = Callable[[Tensor], Tensor]  # [..., d] -> logits


def exact_adaptive_loss(
    rows: Tensor, target: Tensor, head: Layer, tails: Sequence[Layer], cutoffs: Sequence[int], weights: ViewWeights,
    ignore_index: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, nll, kl) of `rdrop_loss`, without label smoothing and Jensen-Shannon divergence: three scalars in nats.

    rows: features [m*n, d]. target: words [n], int64; positions with the target `ignore_index` are ignored. head: makes
    logits of cutoffs[0] words and one class per tail. tails: tail k makes logits of the words cutoffs[k] to
    cutoffs[k + 1]; the last cutoff is the size of the vocabulary.
    """
    views = rows.view(weights.views, -1, rows.size(-1))  # m x n x d
    size = max(1, CHUNK_BYTES // (4 * weights.views * cutoffs[-1]))

    def sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return chunk_sums(x, y, head, tails, cutoffs, weights, ignore_index)

    parts = [
        checkpoint(sums, x, y, use_reentrant=False) for x, y in zip(views.split(size, dim=1), target.split(size))
    ]
    nll, divergence = (torch.stack(each).sum(0) for each in zip(*parts))
    kl = divergence / weights.kl_total if weights.kl_total else divergence
    return weighted(nll, weights.ce) + divergence, weighted(nll, weights.shares).detach(), kl.detach()


def chunk_sums(
    x: Tensor, y: Tensor, head: Layer, tails: Sequence[Layer], cutoffs: Sequence[int], weights: ViewWeights,
    ignore_index: int,
) -> tuple[Tensor, Tensor]:
    """Sums over the positions x [m, n, d] with the words y [n]: negative log-likelihood [m], weighted divergence []."""
    alive = y.ne(ignore_index)
    classes = y.clone()
    for number, start in enumerate(cutoffs[:-1]):
        classes = torch.where(y.ge(start), cutoffs[0] + number, classes)
    clusters = log_probabilities(head, x)  # m x n x (shortlist + tails)
    likelihood = pick(clusters, classes)  # m x n
    divergence = pairs(clusters, weights)  # m x n; entry i sums the pairs (i, j)
    for number, tail in enumerate(tails):
        words = log_probabilities(tail, x)
        inside = y.ge(cutoffs[number]) & y.lt(cutoffs[number + 1])
        found = pick(words, (y - cutoffs[number]).clamp(0, words.size(-1) - 1))
        likelihood = likelihood + torch.where(inside, found, 0)
        divergence = divergence + clusters[..., cutoffs[0] + number].exp() * pairs(words, weights)
    return -(likelihood * alive).sum(-1), (divergence * alive).sum()


def log_probabilities(layer: Layer, x: Tensor) -> Tensor:
    """Log-probabilities [m, n, classes] of x [m, n, d], at least in fp32, under autocast too."""
    logits = layer(x.reshape(-1, x.size(-1))).view(*x.shape[:-1], -1)
    with torch.autocast(logits.device.type, enabled=False):
        return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)


def pick(log_probs: Tensor, classes: Tensor) -> Tensor:
    """The log-probabilities [m, n] of the classes [n], out of [m, n, C]."""
    return log_probs.gather(-1, classes.expand(log_probs.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def pairs(lp: Tensor, weights: ViewWeights) -> Tensor:
    """sum_j w_ij KL(p_i || p_j) for each view i: [m, n], from log-probabilities [m, n, C]."""
    p = lp.exp()
    found = []
    for i, row in enumerate(weights.kl):
        terms = [w * (p[i] * (lp[i] - lp[j])).sum(-1) for j, w in enumerate(row) if w]
        found.append(torch.stack(terms).sum(0) if terms else lp.new_zeros(lp.size(1)))
    return torch.stack(found)
