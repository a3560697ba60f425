"""The R-Drop loss of logits, or of features and their projection; usable in any torch training loop.

    rdrop_loss(logits, target, alpha=5)                    for existing logits
    linear_rdrop_loss(features, weight, target, alpha=5)   never builds the logits: less time, a fraction of the memory

Both take m stacked views (view i is rows i*N..(i+1)*N) and return (loss, nll, kl), sums over positions in nats.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss.choose import IMPLEMENTATIONS, choose_impl, make_sweep
from rdrop_fairseq.loss.eager import eager_loss
from rdrop_fairseq.loss.fused import LinearLoss, LogitsLoss, working_dtype
from rdrop_fairseq.loss.positions import Positions, check_targets, find_positions
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
    positions: Optional[int] = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """R-Drop loss (Liang et al. 2021, eq. 4) of logits. For two views without label smoothing it equals

        lp = log_softmax(logits); p, q = lp.chunk(2)
        nll_loss(lp, cat([target, target]), reduction="sum") + alpha / 2 * (kl_div(p, q) + kl_div(q, p))

    logits: [m*N, V] or [m*B, T, V], finite. target: [N] or [B, T], int64; positions with the target `ignore_index` are
    ignored. Give `alpha` (and `views`, m) for R-Drop, or `weights` for another objective on the same views.
    label_smoothing: fairseq's eps, 1 - eps on the reference and eps / (V - 1) on each other class (in torch's
    convention eps V / (V - 1)). positions: an upper bound on the number of positions that are not ignored, if the
    caller has one (fairseq's ntokens); with it, the host never waits for a GPU, and a batch without such a position
    gives 0. impl: "fused" (chunked, gradient in closed form; on a GPU a Triton kernel where it works; "fused-triton"
    and "fused-torch" select one), "eager" (plain torch, about ten tensors of the logits' size; needed for a second
    derivative and under torch.func), or "auto" (fused on CPU and CUDA, else eager).

    Returns (loss, nll, kl): fp32 scalars (float64 for float64 logits) in nats, summed over positions. nll: without
    smoothing, mean over views. kl: weighted mean over pairs of views, 0 if none has a weight (alpha 0: it is not
    computed). Only loss has a gradient.

    Raises UserError (a ValueError) for bad weights or shapes, an unknown impl, a target outside the vocabulary, more
    positions than `positions`, or, without that bound, a batch whose positions are all ignored; in backward, for
    create_graph=True with a fused impl. Targets on a GPU are checked by the device, with a RuntimeError.
    """
    impl = choose_impl(impl, logits.device)
    weights = _weights(alpha, views, weights)
    _check_batch_first(logits, target, weights.views)
    logits, target = logits.reshape(-1, logits.size(-1)), target.reshape(-1)
    found = _positions(logits, target, logits.size(-1), weights, label_smoothing, ignore_index, positions)
    stacked = logits.view(weights.views, -1, logits.size(-1))
    if impl == "eager":
        return eager_loss(found.rows(stacked), found.target, weights, label_smoothing)
    kernel = make_sweep(impl, weights, label_smoothing, logits.size(-1), logits.device, working_dtype(logits))
    return LogitsLoss.apply(stacked, found, kernel)


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
    positions: Optional[int] = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """`rdrop_loss(linear(features, weight, bias), target, ...)` without the [m*N, V] logits in memory.

    features: [m*N, d] or [m*B, T, d]. weight: [V, d]. bias: [V]. The rest, results and errors are those of
    `rdrop_loss`. Ignored positions are not projected. The gradients of features, weight and bias are computed in
    forward, in fp32 (float64 for float64 inputs); backward scales them and casts each to the dtype of its input.
    """
    impl = choose_impl(impl, features.device)
    weights = _weights(alpha, views, weights)
    _check_batch_first(features, target, weights.views)
    features, target = features.reshape(-1, features.size(-1)), target.reshape(-1)
    if weight.dim() != 2 or weight.size(1) != features.size(1) or hasattr(weight, "full_tensor"):  # a DTensor
        raise UserError(
            f"weight must be [V, {features.size(1)}], not sharded, for these features, got {type(weight).__name__} "
            f"{list(weight.shape)}: where parameters are sharded (FSDP, ZeRO), use rdrop_loss on the model's logits"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise UserError(f"bias must be [{weight.size(0)}] for this weight, got {list(bias.shape)}")
    found = _positions(features, target, weight.size(0), weights, label_smoothing, ignore_index, positions)
    rows = found.rows(features.view(weights.views, -1, features.size(-1)))
    if impl == "eager":
        return eager_loss(torch.nn.functional.linear(rows, weight, bias), found.target, weights, label_smoothing)
    operand = _product_dtype(features, weight)
    kernel = make_sweep(impl, weights, label_smoothing, weight.size(0), features.device, operand)
    grad = torch.is_grad_enabled()
    wanted = tuple(grad and t is not None and t.requires_grad for t in (rows, weight, bias))
    with torch.autocast(features.device.type, enabled=False):
        return LinearLoss.apply(rows, weight, bias, found.target, kernel, operand, wanted)


def _weights(alpha: Optional[float], views: int, weights: Optional[ViewWeights]) -> ViewWeights:
    if (alpha is None) == (weights is None):
        raise UserError("give either alpha (R-Drop) or weights (another objective), exactly one of the two")
    return weights if weights is not None else rdrop_weights(float(alpha), views)  # type: ignore[arg-type]


def _check_batch_first(rows: Tensor, target: Tensor, views: int) -> None:
    """Raises UserError for rows [T, m*B, ...] of targets with two dimensions, such as nn.Transformer makes by default:
    they may be as many as is right, but view i would not be the i-th part of them."""
    if rows.dim() == target.dim() + 1 > 2 and rows.shape[:-1] != (views * target.size(0), *target.shape[1:]):
        expected = [views * target.size(0), *target.shape[1:]]
        raise UserError(
            f"{views} views of targets {list(target.shape)} need rows {expected}, got {list(rows.shape[:-1])}: "
            "stack the views along the first dimension, which is the batch, not time"
        )


def _positions(
    rows: Tensor,
    target: Tensor,
    classes: int,
    weights: ViewWeights,
    label_smoothing: float,
    ignore_index: int,
    most: Optional[int],
) -> Positions:
    """The positions that are not ignored. Raises UserError for rows, targets and classes that do not match."""
    if rows.size(0) != weights.views * target.numel():
        raise UserError(
            f"{weights.views} views of {target.numel()} targets need {weights.views * target.numel()} rows, "
            f"got {rows.size(0)}: stack the views along the first dimension"
        )
    if not 0 <= label_smoothing < 1:
        raise UserError(f"label smoothing must be in [0, 1), got {label_smoothing}")
    if classes < 2:
        raise UserError(f"the vocabulary needs at least 2 classes, got {classes}")
    found = find_positions(target, ignore_index, most)
    check_targets(target, found, classes, ignore_index, most)
    return found


def _product_dtype(features: Tensor, weight: Tensor) -> torch.dtype:
    """dtype of the operands of matrix products. On a GPU, half precision if the inputs or autocast use it; on a CPU,
    where half-precision products are slow, the working dtype."""
    device = features.device.type
    if device != "cpu":
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        if features.dtype in (torch.float16, torch.bfloat16):
            return features.dtype
    return working_dtype(features, weight)
