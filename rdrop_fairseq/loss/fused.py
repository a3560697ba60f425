"""The chunked autograd functions: one sweep over the logits of a chunk of positions gives its loss and gradient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Optional

import torch
from torch import Tensor

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss import positions as places
from rdrop_fairseq.loss.half import HalfLinearSweep, LinearSweep, add_product, multiply
from rdrop_fairseq.loss.positions import DEAD, Positions
from rdrop_fairseq.loss.rows import Chunk, RowSweep

# Most bytes of fp32 logits of one chunk, all views together, and most positions: more of them gain nothing. Measured
# with two threads, time over that of the bare matrix products: V 8,000, d 256: 1.41 with 128 positions, 1.20 with 256,
# 1.17 with 512; V 32,768, d 512: 1.24 with 64, 1.16 with 128, 1.09 with 256, 1.12 with 512. A GPU needs larger chunks.
CHUNK_BYTES = {"cpu": 64 << 20, "cuda": 512 << 20}
TALLEST_CHUNK = {"cpu": 512, "cuda": 4096}
# In fp16 the gradient of a chunk is scaled so that its largest entry is HALF_TOP, and unscaled after the product: an
# entry of 4e-6 times the largest is still a normal number, and none overflows. The scale is lower where a sum over all
# rows could exceed HALF_SUM, half the largest fp16 number: with few classes a chunk has many rows with one reference.
HALF_TOP = 16.0
HALF_SUM = 32768.0
# Divisors are at least this, so that a chunk whose gradient is 0 is not scaled by infinity.
NOTHING = 1e-30


def chunk_rows(positions: int, views: int, classes: int, device: str) -> int:
    """Positions per chunk, the same for all chunks but the last one, within both bounds."""
    kind = device if device in CHUNK_BYTES else "cuda"
    most = min(TALLEST_CHUNK[kind], max(1, CHUNK_BYTES[kind] // (4 * views * classes)))
    chunks = max(1, -(-positions // most))
    return max(1, -(-positions // chunks))


def spans(positions: int, step: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each chunk."""
    for start in range(0, positions, step):
        yield start, min(start + step, positions)


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype of sums and gradients: float64 if any input has it, else float32, for half-precision inputs too."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def totals(ctx: Any, chunks: Iterable[Chunk], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The chunks' loss, nll and kl, summed in float64 on a CPU: scalars of this dtype, of which only the loss has a
    gradient."""
    values = torch.zeros(3, device=device, dtype=torch.float64 if device.type == "cpu" else dtype)
    for chunk in chunks:
        values += torch.stack((chunk.loss, chunk.nll, chunk.kl))
    loss, nll, kl = (value.clone() for value in values.to(dtype))
    ctx.mark_non_differentiable(nll, kl)
    return loss, nll, kl


def refuse_second_derivative() -> None:
    """Raises UserError in a backward that is itself to be differentiated.

    torch's once_differentiable notices only a second derivative through the incoming gradient, which is a constant 1
    here: a Hessian or a gradient penalty would take the gradient for a constant, and come out wrong or 0.
    """
    if torch.is_grad_enabled():  # in a backward only with create_graph=True
        raise UserError("the fused loss has no second derivative (create_graph=True): use impl='eager'")


class LogitsLoss(torch.autograd.Function):
    """The loss of given logits, which are not changed. Backward sweeps over them once more: between forward and
    backward, the logits are the only tensor of their size."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, positions: Positions, kernel: RowSweep) -> tuple[Tensor, ...]:
        """(loss, nll, kl) of logits [m, N, V] at the positions."""
        ctx.kernel, ctx.positions = kernel, positions
        ctx.save_for_backward(logits)
        chunks = (chunk for _, chunk in LogitsLoss.sweep(logits, positions, kernel, want_grad=False))
        found = totals(ctx, chunks, logits.device, working_dtype(logits))
        kernel.release()  # ctx keeps the kernel until backward
        return found

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Optional[Tensor], ...]:
        """The gradient of the logits, times grad_loss before it is rounded to half precision."""
        refuse_second_derivative()
        (logits,) = ctx.saved_tensors
        positions = ctx.positions
        grad = torch.zeros_like(logits) if positions.index.numel() < logits.size(1) else torch.empty_like(logits)
        for (start, end), chunk in LogitsLoss.sweep(logits, positions, ctx.kernel, want_grad=True):
            assert chunk.grad is not None
            factor = grad_loss * positions.target[start:end].ne(DEAD).unsqueeze(-1)  # r x 1
            for i, (scale, constant) in enumerate(zip(chunk.scale, chunk.constant)):
                rows = chunk.grad[i].mul_(scale * factor).add_(constant * factor)
                grad[i].index_copy_(0, positions.index[start:end], rows.to(grad.dtype))
        ctx.kernel.release()
        return grad, None, None

    @staticmethod
    def sweep(
        logits: Tensor, positions: Positions, kernel: RowSweep, want_grad: bool
    ) -> Iterator[tuple[tuple[int, int], Chunk]]:
        """Yields (start, end) among the positions and the result of each chunk."""
        views, _, classes = logits.shape
        dtype, count = working_dtype(logits), positions.index.numel()
        for start, end in spans(count, chunk_rows(count, views, classes, logits.device.type)):
            target = positions.target[start:end]
            z = kernel.scratch("z", (views, end - start, classes), logits.device, dtype)
            for i in range(views):
                z[i].copy_(logits[i].index_select(0, positions.index[start:end]))
            if positions.maybe_dead:
                z.masked_fill_(target.eq(DEAD).unsqueeze(-1), 0.0)
            yield (start, end), kernel(z, target, z.sum(-1) if kernel.needs_sum else None, want_grad)


class LinearLoss(torch.autograd.Function):
    """Projection and loss together: the logits exist one chunk at a time, and forward computes all gradients.

    Gradients stay in the working dtype until backward knows grad_loss: fp16 loss scaling would otherwise come too late.
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
        """(loss, nll, kl). features: [m, n, d], 0 at dead positions. weight: [V, d]. bias: [V] or None. target: [n],
        DEAD at dead positions. operand: dtype of the products. wanted: which of the first three need a gradient."""
        half = kernel.takes_half and operand in (torch.float16, torch.bfloat16)
        dtype = torch.float32 if half else working_dtype(features, weight)
        sweep = (HalfLinearSweep if half else _LinearSweep)(features, weight, bias, kernel, operand, dtype, wanted)
        rows = chunk_rows(target.numel(), features.size(0), weight.size(0), features.device.type)
        chunks = (sweep.chunk(start, end, target[start:end]) for start, end in spans(target.numel(), rows))
        found = totals(ctx, chunks, features.device, sweep.dtype)
        sweep.add_constants()
        ctx.save_for_backward(*sweep.grads)
        ctx.dtypes = (features.dtype, weight.dtype, None if bias is None else bias.dtype)
        return found

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Optional[Tensor], ...]:
        """The gradients of forward times grad_loss; out of place, so that a retained graph can be used again."""
        refuse_second_derivative()
        # On a CPU a look at the value saves a copy of the weight's gradient; on a GPU the host would wait for it.
        unit = not places.waits(grad_loss) and grad_loss.item() == 1.0
        grads = [
            None if grad is None else (grad if unit else grad * grad_loss).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes)
        ]
        return (*grads, None, None, None, None)


class _LinearSweep(LinearSweep):
    """One forward of LinearLoss with logits in the working dtype."""

    def prepare(self, weight: Tensor, bias: Optional[Tensor]) -> None:
        """What all chunks need."""
        self.bias = None if bias is None else bias.to(self.dtype)
        self.weight_sum = weight.sum(0, dtype=self.dtype)  # [d], for the sum of a row's logits and for gradients
        self.constant_features = weight.new_zeros(weight.size(1), dtype=self.dtype)
        self.constant_rows = weight.new_zeros((), dtype=self.dtype)

    def chunk(self, start: int, end: int, target: Tensor) -> Chunk:
        """The loss terms of the positions start..end, whose gradients are added to `grads`."""
        views, rows, classes = self.features.size(0), end - start, self.weight.size(0)
        x = self.features[:, start:end].to(self.operand).reshape(views * rows, -1)  # m*r x d
        if self.operand == self.dtype:
            z = self.kernel.scratch("z", (views * rows, classes), x.device, self.dtype)
            torch.mm(x, self.weight.t(), out=z)
        else:
            z = multiply(x, self.weight.t())
        if self.bias is not None:
            z.add_(self.bias)
        z_sum = self._row_sums(x).view(views, rows) if self.kernel.needs_sum else None
        want_grad = any(grad is not None for grad in self.grads)
        result = self.kernel(z.view(views, rows, classes), target, z_sum, want_grad)
        if result.grad is not None:
            self._accumulate(result, x.view(views, rows, -1), start, target.ne(DEAD))
        return result

    def _row_sums(self, x: Tensor) -> Tensor:
        """The sum over V of the logits of each row of x, without a look at them."""
        sums = x.to(self.dtype) @ self.weight_sum
        return sums if self.bias is None else sums + self.bias.sum()

    def _accumulate(self, chunk: Chunk, x: Tensor, start: int, alive: Tensor) -> None:
        """For G the chunk's gradient, s_i and e_i its scale and constant (both per view):
        dX_i = s_i G_i W + e_i 1^T W,  dW += sum_i G_i^T (s_i X_i) + e_i 1 1^T X_i,  db += sum_i s_i G_i^T 1 + e_i r.

        x: [m, r, d], 0 at dead positions, which therefore add nothing to dW. alive: [r], bool. No tensor is made from
        Python numbers here: the host would wait for the copy to the device.
        """
        grad_x, grad_weight, grad_bias = self.grads
        grad = chunk.grad
        assert grad is not None
        if grad_bias is not None:
            if places.waits(alive):  # only then some may be dead
                grad.mul_(alive.unsqueeze(-1))
            for part, scale in zip(grad, chunk.scale):
                grad_bias.add_(part.sum(0), alpha=scale)
        grad, unlift = (grad, None) if self.operand == self.dtype else self._in_half(grad, x)
        if grad_x is not None:
            product = multiply(grad.flatten(0, 1), self.weight).view(x.shape)
            if unlift is not None:
                product.mul_(unlift)
            for into, part, scale, constant in zip(grad_x, product, chunk.scale, chunk.constant):
                torch.mul(part, scale, out=into[start : start + len(part)]).add_(self.weight_sum, alpha=constant)
        if grad_weight is not None:
            self._add_to_weight(grad_weight, grad, x, chunk.scale, unlift)
        for features, constant in zip(x, chunk.constant):
            self.constant_features.add_(features.sum(0, dtype=self.dtype), alpha=constant)
        self.constant_rows.add_(alive.sum(), alpha=sum(chunk.constant))

    def _add_to_weight(
        self, total: Tensor, grad: Tensor, x: Tensor, scales: list[float], unlift: Optional[Tensor]
    ) -> None:
        """total += sum_i s_i G_i^T X_i. The results are scaled, not X, which might leave the range of fp16."""
        parts = zip(grad, x, scales)
        if len(set(scales)) == 1:  # one product for all views
            parts = zip([grad.flatten(0, 1)], [x.flatten(0, 1)], scales)
        for part, features, scale in parts:
            add_product(total, part.t(), features, scale, unlift)

    def _in_half(self, grad: Tensor, x: Tensor) -> tuple[Tensor, Optional[Tensor]]:
        """The gradient in half precision, and the factor that undoes its scaling (a scalar, or None if unscaled)."""
        half = self.kernel.scratch("half", grad.shape, grad.device, self.operand)
        if self.operand == torch.bfloat16:  # it has the range of fp32
            return half.copy_(grad), None
        top = (HALF_SUM / (x.size(1) * _largest(x).to(self.dtype)).clamp_min(NOTHING)).clamp_max(HALF_TOP)
        lift = top / _largest(grad).clamp_min(NOTHING)
        return torch.mul(grad, lift, out=half), 1 / lift

    def add_constants(self) -> None:
        """Adds the gradient of the smoothed target's constant part, which is the same for all rows of dW and db."""
        _, grad_weight, grad_bias = self.grads
        if grad_weight is not None:
            grad_weight.add_(self.constant_features)
        if grad_bias is not None:
            grad_bias.add_(self.constant_rows)


def _largest(values: Tensor) -> Tensor:
    """The largest absolute value, a scalar; NaN if any value is NaN."""
    low, high = values.aminmax()
    return torch.maximum(-low, high)
