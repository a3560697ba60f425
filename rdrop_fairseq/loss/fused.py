"""The chunked autograd functions: loss and gradient of a chunk of positions come out of one sweep over its logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rdrop_fairseq.loss.half import HalfLinearSweep
from rdrop_fairseq.loss.rows import Chunk, RowSweep

# Bytes of fp32 logits of one chunk, all views together, and the most positions that are worth their memory. Measured
# with two threads, time over that of the bare matrix products: V 8,000, d 256: 1.41 with 128 positions, 1.20 with 256,
# 1.17 with 512; V 32,768, d 512: 1.24 with 64, 1.16 with 128, 1.09 with 256, 1.12 with 512. A GPU wants to be filled.
CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 512 << 20}
TALLEST_CHUNK = {"cpu": 512, "cuda": 4096}
# In half precision a gradient chunk is scaled so that its largest entry is HALF_TOP, and unscaled after the product: an
# entry 4e-6 of the largest is still a normal fp16 number. It is less where a sum over all rows could come near the
# largest fp16 number (65504): with few classes a chunk has many rows, and frequent references add up.
HALF_TOP = 16.0
HALF_SUM = 32768.0


def chunk_rows(positions: int, views: int, classes: int, device: str) -> int:
    """Positions per chunk: chunks of even height within both bounds."""
    kind = device if device in CHUNK_BYTES else "cuda"
    most = min(TALLEST_CHUNK[kind], max(1, CHUNK_BYTES[kind] // (4 * views * classes)))
    chunks = max(1, -(-positions // most))
    return max(1, -(-positions // chunks))


def spans(positions: int, step: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each chunk."""
    for start in range(0, positions, step):
        yield start, min(start + step, positions)


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any input is, else float32: half precision is only ever storage here."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


class Totals:
    """Running sums of the chunks' loss, nll and kl."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.values = torch.zeros(3, device=device, dtype=torch.float64 if device.type == "cpu" else dtype)

    def add(self, chunk: Chunk) -> None:
        """Add one chunk's scalars."""
        self.values += torch.stack((chunk.loss, chunk.nll, chunk.kl))

    def results(self) -> tuple[Tensor, Tensor, Tensor]:
        """loss, nll and kl as separate scalars of the working dtype."""
        loss, nll, kl = self.values.to(self.dtype)
        return loss.clone(), nll.clone(), kl.clone()


class LogitsLoss(torch.autograd.Function):
    """The loss of logits that somebody else made. They are only read; backward sweeps over them once more.

    Nothing of size [m*N, V] is kept between forward and backward but the logits themselves.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, index: Tensor, target: Tensor, kernel: RowSweep) -> tuple[Tensor, ...]:
        """logits: [m, N, V]; index: [n] positions that count; target: [n], their classes."""
        ctx.kernel = kernel
        ctx.save_for_backward(logits, index, target)
        totals = Totals(logits.device, working_dtype(logits))
        for _, chunk in LogitsLoss.sweep(logits, index, target, kernel, want_grad=False):
            totals.add(chunk)
        kernel.release()  # it lives on in ctx; its memory need not
        loss, nll, kl = totals.results()
        ctx.mark_non_differentiable(nll, kl)
        return loss, nll, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Optional[Tensor], ...]:
        """grad_loss is known here, so that the gradient is scaled before it is stored in a half precision."""
        logits, index, target = ctx.saved_tensors
        grad = torch.zeros_like(logits) if index.numel() < logits.size(1) else torch.empty_like(logits)
        for span, chunk in LogitsLoss.sweep(logits, index, target, ctx.kernel, want_grad=True):
            assert chunk.grad is not None
            for i, (scale, constant) in enumerate(zip(chunk.scale, chunk.constant)):
                rows = chunk.grad[i].mul_(scale * grad_loss).add_(constant * grad_loss)
                grad[i].index_copy_(0, span, rows.to(grad.dtype))
        ctx.kernel.release()
        return grad, None, None, None

    @staticmethod
    def sweep(
        logits: Tensor, index: Tensor, target: Tensor, kernel: RowSweep, want_grad: bool
    ) -> Iterator[tuple[Tensor, Chunk]]:
        """(positions, what they contribute) of each chunk."""
        views, _, classes = logits.shape
        dtype = working_dtype(logits)
        for start, end in spans(index.numel(), chunk_rows(index.numel(), views, classes, logits.device.type)):
            span = index[start:end]
            z = kernel.scratch("z", (views, end - start, classes), logits.device, dtype)
            for i in range(views):
                z[i].copy_(logits[i].index_select(0, span))
            yield span, kernel(z, target[start:end], z.sum(-1), want_grad)


class LinearLoss(torch.autograd.Function):
    """Projection and loss together: [m*n, V] exists one chunk at a time, gradients are ready when forward returns.

    They stay in the working dtype until grad_output is known (fp16 loss scaling would otherwise come too late).
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Optional[Tensor],
        target: Tensor,
        kernel: RowSweep,
        operand: torch.dtype,
        wanted: tuple[bool, bool, bool],
    ) -> tuple[Tensor, ...]:
        """features: [m, n, d]; weight: [V, d]; bias: [V] or None; target: [n]; operand: dtype of the products."""
        half = kernel.takes_half and operand in (torch.float16, torch.bfloat16)
        sweep = (HalfLinearSweep if half else _LinearSweep)(features, weight, bias, kernel, operand, wanted)
        totals = Totals(features.device, sweep.dtype)
        rows = chunk_rows(target.numel(), features.size(0), weight.size(0), features.device.type)
        for start, end in spans(target.numel(), rows):
            totals.add(sweep.chunk(start, end, target[start:end]))
        sweep.add_constants()
        ctx.save_for_backward(*sweep.grads)
        ctx.dtypes = (features.dtype, weight.dtype, None if bias is None else bias.dtype)
        loss, nll, kl = totals.results()
        ctx.mark_non_differentiable(nll, kl)
        return loss, nll, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Optional[Tensor], ...]:
        """Scale what forward computed; out of place, so that a retained graph can be walked again."""
        # On a CPU looking at the value is free and saves a copy of the weight's gradient.
        unit = grad_loss.device.type == "cpu" and grad_loss.item() == 1.0
        grads = [
            None if grad is None else (grad if unit else grad * grad_loss).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes)
        ]
        return (*grads, None, None, None, None)


class _LinearSweep:
    """Operands and gradients of one forward of LinearLoss."""

    def __init__(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Optional[Tensor],
        kernel: RowSweep,
        operand: torch.dtype,
        wanted: tuple[bool, bool, bool],
    ) -> None:
        self.dtype = dtype = working_dtype(features, weight)
        self.kernel, self.operand = kernel, operand
        self.features, self.weight = features, weight.to(operand)
        self.bias = None if bias is None else bias.to(dtype)
        self.weight_sum = weight.sum(0, dtype=dtype)  # d; makes the sum of a row's logits, and a gradient
        self.constant_features = features.new_zeros(features.size(-1), dtype=dtype)
        self.constant_rows = 0.0
        self.grads: list[Optional[Tensor]] = [
            features.new_empty(features.shape, dtype=dtype) if wanted[0] else None,
            weight.new_zeros(weight.shape, dtype=dtype) if wanted[1] else None,
            bias.new_zeros(bias.shape, dtype=dtype) if bias is not None and wanted[2] else None,
        ]

    def chunk(self, start: int, end: int, target: Tensor) -> Chunk:
        """Loss terms of positions start..end; their gradients are added up."""
        views, rows, classes = self.features.size(0), end - start, self.weight.size(0)
        x = self.features[:, start:end].to(self.operand).reshape(views * rows, -1)  # m*r x d
        z = self.kernel.scratch("z", (views * rows, classes), x.device, self.dtype)
        if self.operand == self.dtype:
            torch.mm(x, self.weight.t(), out=z)
        else:
            z.copy_(x @ self.weight.t())
        z_sum = x.to(self.dtype) @ self.weight_sum
        if self.bias is not None:
            z.add_(self.bias)
            z_sum = z_sum + self.bias.sum()
        want_grad = any(grad is not None for grad in self.grads)
        result = self.kernel(z.view(views, rows, classes), target, z_sum.view(views, rows), want_grad)
        if result.grad is not None:
            self._accumulate(result.grad, result.scale, result.constant, x.view(views, rows, -1), start)
        return result

    def _accumulate(self, grad: Tensor, scale: list[float], constant: list[float], x: Tensor, start: int) -> None:
        """For G the chunk's gradient, s_i and e_i its scale and constant (both per view):
        dX_i = s_i G_i W + e_i 1^T W,  dW += sum_i G_i^T (s_i X_i) + e_i 1 1^T X_i,  db += sum_i s_i G_i^T 1 + e_i r.
        """
        grad_x, grad_weight, grad_bias = self.grads
        rows = x.size(1)
        s = x.new_tensor(scale, dtype=self.dtype).view(-1, 1, 1)
        e = x.new_tensor(constant, dtype=self.dtype).view(-1, 1, 1)
        if grad_bias is not None:
            grad_bias.add_((grad.sum(1) * s.squeeze(-1)).sum(0))
        if self.operand != self.dtype:
            tiny = torch.finfo(self.dtype).tiny
            top = (HALF_SUM / (rows * x.abs().amax().to(self.dtype)).clamp_min(tiny)).clamp_max(HALF_TOP)
            lift = top / grad.abs().amax().clamp_min(tiny)
            grad = grad.mul_(lift).to(self.operand)
            s = s / lift
        if grad_x is not None:
            product = (grad.flatten(0, 1) @ self.weight).view(x.shape).to(self.dtype)
            grad_x[:, start : start + rows] = product.mul_(s).add_(e * self.weight_sum)
        if grad_weight is not None:
            if self.operand == self.dtype:
                grad_weight.addmm_(grad.flatten(0, 1).t(), (x * s).flatten(0, 1))
            else:  # the factors may leave the range of a half: they go on the results
                for i in range(x.size(0)):
                    grad_weight.add_((grad[i].t() @ x[i]).to(self.dtype).mul_(s[i]))
        self.constant_features += (e.squeeze(-1) * x.sum(1, dtype=self.dtype)).sum(0)
        self.constant_rows += rows * sum(constant)

    def add_constants(self) -> None:
        """The part of the smoothed target that is the same for every class reaches every row of dW and db alike."""
        _, grad_weight, grad_bias = self.grads
        if grad_weight is not None:
            grad_weight.add_(self.constant_features)
        if grad_bias is not None:
            grad_bias.add_(self.constant_rows)
