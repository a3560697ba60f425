"""The R-Drop loss, on logits and on features with their projection; usable in any torch training loop.

    rdrop_loss(logits, target, alpha=5)                      when the logits are there already
    linear_rdrop_loss(features, weight, target, alpha=5)     when they need not be: less time, a fraction of the memory

Both take m stacked views (rows of view i at i*N..(i+1)*N) and return (loss, nll, kl), sums over positions in nats.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss.choose import IMPLEMENTATIONS, choose_impl, make_sweep
from rdrop_fairseq.loss.eager import eager_loss
from rdrop_fairseq.loss.fused import LinearLoss, LogitsLoss, working_dtype
from rdrop_fairseq.loss.weights import ViewWeights, cutoff_weights, plain_weights, rdrop_weights, simcut_weights

__all__ = [
    "IMPLEMENTATIONS",
    "ViewWeights",
    "choose_impl",
    "cutoff_weights",
    "linear_rdrop_loss",
    "plain_weights",
    "rdrop_loss",
    "rdrop_weights",
    "simcut_weights",
]


def rdrop_loss(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: Optional[float] = None,
    views: int = 2,
    weights: Optional[ViewWeights] = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    impl: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """R-Drop (Liang et al. 2021, eq. 4) of logits; for two views and eps = 0 the same as

        lp = log_softmax(logits); p, q = lp.chunk(2)
        nll_loss(lp, cat([target, target]), reduction="sum") + alpha / 2 * (kl_div(p, q) + kl_div(q, p))

    logits: [m*N, V] or [m*B, T, V], finite; target: [N] or [B, T], int64; positions whose target is `ignore_index` do
    not count. Give `alpha` (and `views`, m) for R-Drop, or `weights` for another objective on the same views.
    label_smoothing: 1 - eps on the reference, eps / (V - 1) on each other class (fairseq's; torch's eps is
    eps V / (V - 1)). impl: "fused" (chunked, closed-form gradient; on a GPU by a Triton kernel where that works;
    "fused-triton" and "fused-torch" name one), "eager" (plain torch, about ten tensors of the logits' size), "auto"
    (fused on CPU and CUDA, else eager).

    Returns (loss, nll, kl): fp32 scalars (float64 for float64 logits) in nats, summed over positions. nll: without
    smoothing, mean over views. kl: mean over the weighted pairs of views. Only loss carries a gradient.

    Raises UserError (a ValueError) for bad weights, shapes, an unknown impl, a target outside the vocabulary, or a
    batch in which no position counts.
    """
    impl = choose_impl(impl, logits.device)
    weights = _weights(alpha, views, weights)
    logits, target = logits.reshape(-1, logits.size(-1)), target.reshape(-1)
    index = _positions(logits, target, logits.size(-1), weights, label_smoothing, ignore_index)
    if impl == "eager":
        return eager_loss(logits, target, weights, label_smoothing, ignore_index)
    kernel = make_sweep(impl, weights, label_smoothing, logits.size(-1), logits.device, working_dtype(logits))
    stacked = logits.view(weights.views, -1, logits.size(-1))
    return LogitsLoss.apply(stacked, index, target[index], kernel)


def linear_rdrop_loss(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Optional[Tensor] = None,
    *,
    alpha: Optional[float] = None,
    views: int = 2,
    weights: Optional[ViewWeights] = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    impl: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """`rdrop_loss(linear(features, weight, bias), target, ...)` without ever holding the [m*N, V] logits.

    features: [m*N, d] or [m*B, T, d]; weight: [V, d]; bias: [V]; the rest as in `rdrop_loss`. Positions that do not
    count are never projected. Gradients of features, weight and bias are computed during forward, in fp32 (float64
    for float64 inputs), and cast to the dtype of each input in backward.
    """
    impl = choose_impl(impl, features.device)
    weights = _weights(alpha, views, weights)
    features, target = features.reshape(-1, features.size(-1)), target.reshape(-1)
    if weight.dim() != 2 or weight.size(1) != features.size(1):
        raise UserError(f"weight must be [V, {features.size(1)}] for these features, got {list(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise UserError(f"bias must be [{weight.size(0)}] for this weight, got {list(bias.shape)}")
    index = _positions(features, target, weight.size(0), weights, label_smoothing, ignore_index)
    if impl == "eager":
        logits = torch.nn.functional.linear(features, weight, bias)
        return eager_loss(logits, target, weights, label_smoothing, ignore_index)
    operand = _product_dtype(features, weight)
    kernel = make_sweep(impl, weights, label_smoothing, weight.size(0), features.device, operand)
    stacked = features.view(weights.views, -1, features.size(-1))
    if index.numel() < target.numel():
        stacked, target = stacked.index_select(1, index), target[index]
    grad = torch.is_grad_enabled()
    wanted = tuple(grad and t is not None and t.requires_grad for t in (stacked, weight, bias))
    with torch.autocast(features.device.type, enabled=False):
        return LinearLoss.apply(stacked, weight, bias, target, kernel, operand, wanted)


def _weights(alpha: Optional[float], views: int, weights: Optional[ViewWeights]) -> ViewWeights:
    if (alpha is None) == (weights is None):
        raise UserError("give either alpha (R-Drop) or weights (any other objective), not both and not neither")
    return weights if weights is not None else rdrop_weights(float(alpha), views)  # type: ignore[arg-type]


def _positions(
    rows: Tensor, target: Tensor, classes: int, weights: ViewWeights, label_smoothing: float, ignore_index: int
) -> Tensor:
    """Indices of the positions that count: [n]; UserError where rows, targets and classes do not fit together."""
    if rows.size(0) != weights.views * target.numel():
        raise UserError(
            f"{weights.views} views of {target.numel()} targets need {weights.views * target.numel()} rows, "
            f"got {rows.size(0)}: stack the views along the first dimension"
        )
    if not 0 <= label_smoothing < 1:
        raise UserError(f"label smoothing must be in [0, 1), got {label_smoothing}")
    if classes < 2:
        raise UserError(f"the vocabulary needs at least 2 classes, got {classes}")
    index = target.ne(ignore_index).nonzero().view(-1)
    if not index.numel():
        raise UserError(f"no position of this batch counts ({target.numel()} targets, all padding): leave it out")
    kept = target[index]
    if kept.device.type == "cuda":  # looking at values would stop the host until the device has caught up
        torch._assert_async(((kept >= 0) & (kept < classes)).all())
        return index
    worst = int(kept.min()) if int(kept.min()) < 0 else int(kept.max())
    if not 0 <= worst < classes:
        raise UserError(f"target {worst} is outside the vocabulary of {classes} classes: check the dictionary")
    return index


def _product_dtype(features: Tensor, weight: Tensor) -> torch.dtype:
    """dtype of the matrix products' operands: half precision on a GPU where the inputs or autocast say so; on a CPU,
    where half-precision products are slow, the working dtype."""
    device = features.device.type
    if device != "cpu":
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        if features.dtype in (torch.float16, torch.bfloat16):
            return features.dtype
    return working_dtype(features, weight)
