"""One chunk of positions: from logits to loss terms and d loss / d logits, in closed form and in place.

For one position, lp_i = z_i - lse_i, t the smoothed target, W_i = sum_j w_ji:

    d/dz_i  c_i CE(p_i, y)                 = c_i (p_i - t)
    d/dz_i  sum_j w_ij KL(p_i || p_j)      = p_i (U_i - k_i),   U_i = sum_j w_ij (z_i - z_j),  k_i = <p_i, U_i>
    d/dz_i  sum_j w_ji KL(p_j || p_i)      = W_i p_i - sum_j w_ji p_j
    d/dz_i  js JS(p_1, ..., p_m)           = js/m p_i (lp_i - lM - KL(p_i || M)),   M = mean of the p_i

The log-normalizers lse cancel in U_i - k_i, so U is computed from raw logits, and p = q gives exactly 0.
With T_i = c_i + W_i + U_i - k_i the gradient is p_i T_i - sum_j w_ji p_j - c_i t. The part of t that is the same for
every class, e = eps / (V - 1), stays out of the V-wide sweep: the caller adds its sums (see `Chunk.constant`).

For two views, -gradient / w_ji = p_j - p_i T_i / w_ji is a single addcmul; the caller applies the factor -w_ji on the
narrow side of its matrix products. The number of V-wide passes decides the cost of this file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from rdrop_fairseq.loss.eager import weighted
from rdrop_fairseq.loss.positions import DEAD
from rdrop_fairseq.loss.weights import ViewWeights

# (weighted divergence of each position [r], gradient before scaling, scale of each view), see Chunk
Divergence = tuple[Tensor, Optional[Tensor], list[float]]

# If w_ji is below this share of c_i, the gradient is not divided by it: T_i / w_ji would overflow a half.
SMALLEST_DIVISOR = 1e-2


@dataclass
class Chunk:
    """Loss and gradient of one chunk of r positions.

    loss, nll, kl: scalars in nats, summed over the chunk. grad: [m, r, V] or None. The gradient of the logits of view i
    is scale[i] * grad[i] + constant[i]; at dead positions grad is finite but meaningless, and callers leave it out.
    """

    loss: Tensor
    nll: Tensor
    kl: Tensor
    grad: Optional[Tensor]
    scale: list[float]
    constant: list[float]


class RowSweep:
    """The sweep over the chunks of one loss: its weights, and scratch memory that all chunks use."""

    takes_half = False  # whether logits may be in half precision

    def __init__(self, weights: ViewWeights, label_smoothing: float, classes: int) -> None:
        self.weights = weights
        self.other = label_smoothing / (classes - 1)  # e: the smoothed target of each class
        self.spike = 1 - label_smoothing - self.other  # and what the reference has beyond it
        self._scratch: dict[str, Tensor] = {}

    def scratch(self, name: str, shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
        """Uninitialized memory of this shape, the same memory at every call with this name."""
        size = math.prod(shape)
        buffer = self._scratch.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._scratch[name] = torch.empty(size, device=device, dtype=dtype)
        return buffer[:size].view(*shape)

    def release(self) -> None:
        """Frees the scratch memory."""
        self._scratch.clear()

    @property
    def needs_sum(self) -> bool:
        """Whether the loss needs the sum of each row's logits, as it does with label smoothing."""
        return self.other != 0

    def __call__(self, z: Tensor, target: Tensor, z_sum: Optional[Tensor], want_grad: bool) -> Chunk:
        """z: logits [m, r, V], finite, fp32 or float64, overwritten. target: [r], int64, DEAD at dead positions. z_sum:
        [m, r], the sum of z over V, or None if not `needs_sum`."""
        alive = target.ne(DEAD)
        index = target.clamp_min(0).expand(self.weights.views, -1).unsqueeze(-1)  # m x r x 1
        p = torch.softmax(z, -1, out=self.scratch("p", z.shape, z.device, z.dtype))
        lse = z.amax(-1) - p.amax(-1).log()  # the largest p is at least 1/V: its log is safe at any logit gap
        nll = (lse - z.gather(-1, index).squeeze(-1)) * alive  # m x r
        ce = self.spike * nll
        if z_sum is not None:
            ce = ce + self.other * (z.size(-1) * lse - z_sum) * alive
        loss = weighted(ce.sum(-1), self.weights.ce)

        rows, grad, scale = self._divergence(z, p, lse, want_grad)
        divergence = (rows * alive).sum()
        if grad is not None:
            for i, (weight, factor) in enumerate(zip(self.weights.ce, scale)):
                spike = grad.new_full((), -weight * self.spike / factor).expand(index[i].shape)
                grad[i].scatter_add_(-1, index[i], spike)
        total = self.weights.kl_total
        return Chunk(
            loss=loss + divergence,
            nll=weighted(nll.sum(-1), self.weights.shares),
            kl=divergence / total if total else divergence,
            grad=grad,
            scale=scale,
            constant=[-weight * self.other for weight in self.weights.ce],
        )

    def _divergence(self, z: Tensor, p: Tensor, lse: Tensor, want_grad: bool) -> Divergence:
        if self.weights.views == 1:
            return torch.zeros_like(lse[0]), (p if want_grad else None), [self.weights.ce[0]]
        if self.weights.views == 2 and not self.weights.js:
            return self._pair(z, p, lse, want_grad)
        weights = {w for i, row in enumerate(self.weights.kl) for j, w in enumerate(row) if i != j}
        if len(weights) == 1 and not self.weights.js:
            return self._uniform(z, p, lse, weights.pop(), want_grad)
        return self._general(z, p, lse, want_grad)

    def _pair(self, z: Tensor, p: Tensor, lse: Tensor, want_grad: bool) -> Divergence:
        (_, w01), (w10, _) = self.weights.kl
        d = torch.sub(z[0], z[1], out=z[1])  # r x V
        k0, k1 = w01 * row_dot(p[0], d), -w10 * row_dot(p[1], d)  # r
        divergence = k0 + k1 - (w01 - w10) * (lse[0] - lse[1])
        if not want_grad:
            return divergence, None, [1.0, 1.0]
        c0, c1 = self.weights.ce
        scale0 = self._finish(z[0], d, w01, c0 + w10 - k0, p[0], p[1], w10, c0)
        scale1 = self._finish(d, d, -w10, c1 + w01 - k1, p[1], p[0], w01, c1)  # d is z[1]
        return divergence, z, [scale0, scale1]

    @staticmethod
    def _finish(
        out: Tensor, d: Tensor, slope: float, offset: Tensor, mine: Tensor, other: Tensor, w: float, c: float
    ) -> float:
        """out <- (mine * (slope * d + offset) - w * other) / factor; returns factor."""
        factor = -w if w > SMALLEST_DIVISOR * c else 1.0
        unit = abs(factor)
        torch.add((offset / unit).unsqueeze(-1), d, alpha=slope / unit, out=out)
        if factor == 1.0:
            out.mul_(mine)
            if w:
                out.sub_(other, alpha=w)
        else:
            torch.addcmul(other, mine, out, value=-1, out=out)
        return factor

    def _uniform(self, z: Tensor, p: Tensor, lse: Tensor, w: float, want_grad: bool) -> Divergence:
        """m views, every KL with weight w. With d_i = z_i - z_0 and D their sum, U_i = w (m d_i - D)."""
        m, ce = self.weights.views, self.weights.ce
        total = self.scratch("total", z.shape[1:], z.device, z.dtype)  # r x V
        torch.sub(z[1], z[0], out=z[1])
        total.copy_(z[1])
        for i in range(2, m):
            torch.sub(z[i], z[0], out=z[i])
            total.add_(z[i])
        torch.mul(total, -w, out=z[0])
        for i in range(1, m):
            torch.add(z[0], z[i], alpha=w * m, out=z[i])
        k = torch.stack([row_dot(p[i], z[i]) for i in range(m)])  # m x r
        divergence = (k - w * (lse.unsqueeze(1) - lse).sum(1)).sum(0)
        if not want_grad:
            return divergence, None, [1.0] * m
        torch.sum(p, 0, out=total).mul_(-w)
        for i in range(m):  # `total` contains -w p_i, too: T_i, with w m in place of w (m - 1), makes up for it
            z[i].add_((ce[i] + w * m - k[i]).unsqueeze(-1))
            torch.addcmul(total, p[i], z[i], out=z[i])
        return divergence, z, [1.0] * m

    def _general(self, z: Tensor, p: Tensor, lse: Tensor, want_grad: bool) -> Divergence:
        """Any number of views, any weights, JS: m sweeps per view instead of one."""
        m, kl = self.weights.views, self.weights.kl
        u = self.scratch("u", z.shape, z.device, z.dtype)
        row = self.scratch("row", z.shape[1:], z.device, z.dtype)  # r x V
        offset = torch.zeros_like(lse)  # m x r: sum_j w_ij (lse_i - lse_j), subtracted from <p_i, U_i>
        js = self.weights.js / m
        if js:  # z becomes lp: in <p, z - lM>, a sum over V, lse would cost digits
            z.sub_(lse.unsqueeze(-1))
            lse = torch.zeros_like(lse)
            row.copy_(z[0])
            for i in range(1, m):  # lM + log m, from logs, since p may have underflowed
                torch.logaddexp(row, z[i], out=row)
            row.sub_(math.log(m)).mul_(-js)
            for i in range(m):
                torch.add(row, z[i], alpha=js, out=u[i])
        else:
            u.zero_()
        for i in range(m):
            for j in range(m):
                if kl[i][j]:
                    u[i].add_(torch.sub(z[i], z[j], out=row), alpha=kl[i][j])
                    offset[i] += kl[i][j] * (lse[i] - lse[j])
        k = row_dot(p.view(-1, p.size(-1)), u.view(-1, u.size(-1))).view_as(lse)  # m x r
        divergence = (k - offset).sum(0)
        if not want_grad:
            return divergence, None, [1.0] * m
        for i in range(m):
            into = sum(kl[j][i] for j in range(m))
            u[i].add_((self.weights.ce[i] + into - k[i]).unsqueeze(-1)).mul_(p[i])
            for j in range(m):
                if kl[j][i]:
                    u[i].sub_(p[j], alpha=kl[j][i])
        return divergence, u, [1.0] * m


def row_dot(a: Tensor, b: Tensor) -> Tensor:
    """<a_r, b_r> for each row of two [r, V] tensors: [r]. A batched product writes no V-wide result."""
    with torch.autocast(a.device.type, enabled=False):  # autocast would round both to half precision
        return torch.bmm(a.unsqueeze(1), b.unsqueeze(2)).view(-1)
