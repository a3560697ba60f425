"""The objective under an adaptive softmax (Grave et al. 2017): cluster by cluster, never [positions, vocabulary].

    log p(y) = log head(cluster of y) + log tail(y)        words of the head are classes of their own there

The head's objective is summed over all positions, that of each tail over the positions whose target lies in it, as in
the code of the R-Drop paper. The cross entropies add up to that of the whole distribution. The divergences do not: the
exact one would weigh every tail by its probability in the head, at every position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from rdrop_fairseq.loss import ViewWeights, linear_rdrop_loss, rdrop_loss

# Input and output of one cluster: features [m*n, d] and the weight [C, d] that makes its logits, or, with None for the
# weight, the logits [m*n, C] themselves; and the targets [n], as classes of the cluster.
Cluster = tuple[Tensor, Optional[Tensor], Tensor]


def adaptive_rdrop_loss(
    clusters: Sequence[Cluster], weights: ViewWeights, ignore_index: int, impl: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, nll, kl) as of `rdrop_loss`, summed over clusters; the first one is the head.

    ignore_index: target of positions that do not count, in the head; every position of a tail counts.
    Raises UserError as `rdrop_loss` does.
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
