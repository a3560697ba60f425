"""The objective under an adaptive softmax (Grave et al. 2017): cluster by cluster, never [positions, vocabulary].

    log p(y) = log head(cluster of y) + log tail(y)        in the head, each frequent word is a class of its own

The head's objective is summed over all positions, and each tail's over the positions whose target lies in it, as in the
R-Drop paper's code. The cross entropies add up to that of the whole distribution. The divergences do not: the exact one
(adaptive_exact.py) weighs every tail by its probability in the head, at every position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from rdrop_fairseq.loss import ViewWeights, linear_rdrop_loss, rdrop_loss

# One cluster: features [m*n, d] and their projection's weight [C, d], or logits [m*n, C] and None; and the targets [n]
# as classes of the cluster.
Cluster = tuple[Tensor, Optional[Tensor], Tensor]


def adaptive_rdrop_loss(
    clusters: Sequence[Cluster], weights: ViewWeights, ignore_index: int, impl: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, nll, kl) of `rdrop_loss`, summed over clusters: three scalars in nats. The first cluster is the head.

    ignore_index: target of the head's ignored positions; a tail has none. Raises UserError as `rdrop_loss` does.
    """
    totals = []
    for number, (rows, weight, target) in enumerate(clusters):
        ignored = ignore_index if number == 0 else -100
        if weight is None:
            totals.append(rdrop_loss(rows, target, weights=weights, ignore_index=ignored, impl=impl))
        else:
            totals.append(linear_rdrop_loss(rows, weight, target, weights=weights, ignore_index=ignored, impl=impl))
    loss, nll, kl = (torch.stack(parts).sum() for parts in zip(*totals))
    return loss, nll, kl
