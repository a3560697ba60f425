"""R-Drop for regression: squared distances in place of cross entropy and KL (Liang et al. 2021, A.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss.weights import check_alpha


def rdrop_regression_loss(
    values: Tensor, target: Tensor, alpha: float, views: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """Equations 7 and 8 of the paper. For two views the loss equals

        y1, y2 = values.chunk(2)
        ((y1 - y) ** 2 + (y2 - y) ** 2 + alpha * (y1 - y2) ** 2).sum()

    With m views each ordered pair has the weight alpha / (m (m - 1)), as in `rdrop_loss`. values: [m*N], view i at
    i*N..(i+1)*N. target: [N]. Returns (loss, error, distance), scalars summed over N, in fp32 (float64 for float64
    values): the objective; the squared error, mean over views; the squared distance, mean over pairs of views. Only
    loss has a gradient. Raises UserError for a bad alpha or sizes that do not match.
    """
    check_alpha(alpha)
    if views < 1 or values.numel() != views * target.numel() or not target.numel():
        raise UserError(f"{views} views of {target.numel()} targets do not match {values.numel()} values: stack views")
    dtype = torch.promote_types(values.dtype, torch.float32)
    stacked = values.view(views, -1).to(dtype)  # m x N
    error = (stacked - target.view(-1).to(dtype)).square().sum()
    # Over ordered pairs i != j: sum (y_i - y_j)^2 = 2 m sum (y_i - mean)^2, without an m x m x N tensor.
    spread = (stacked - stacked.mean(0)).square().sum() * 2 * views
    distance = spread / (views * (views - 1)) if views > 1 else spread
    loss = error + alpha * distance
    return loss, error.detach() / views, distance.detach()
