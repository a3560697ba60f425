"""Products of half matrices with sums in fp32, and the fused loss with logits that stay in half precision.

The sweep overwrites the logits with their gradient, in fp16 times a fixed power of two (`Chunk.scale` undoes it after
the products). The products themselves add up the weight's gradient in fp32, without a temporary of its size.
"""

from __future__ import annotations

import functools
from typing import Any, Optional

import torch
from torch import Tensor

from rdrop_fairseq.loss.rows import Chunk


class LinearSweep:
    """Operands and gradients of one forward of LinearLoss."""

    def __init__(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Optional[Tensor],
        kernel: Any,
        operand: torch.dtype,
        dtype: torch.dtype,
        wanted: tuple[bool, bool, bool],
    ) -> None:
        """features: [m, n, d]. weight: [V, d]. bias: [V] or None. kernel: a RowSweep. operand: dtype of the products.
        dtype: of sums and gradients. wanted: which of the first three need a gradient."""
        self.kernel, self.operand, self.dtype = kernel, operand, dtype
        self.features, self.weight, self.bias = features, weight.to(operand), bias
        self.grads: list[Optional[Tensor]] = [
            features.new_empty(features.shape, dtype=dtype) if wanted[0] else None,
            weight.new_zeros(weight.shape, dtype=dtype) if wanted[1] else None,
            bias.new_zeros(bias.shape, dtype=dtype) if bias is not None and wanted[2] else None,
        ]
        self.prepare(weight, bias)

    def prepare(self, weight: Tensor, bias: Optional[Tensor]) -> None:
        """Sets what further all chunks need."""

    def add_constants(self) -> None:
        """Adds what is the same for all rows to the gradients, after the last chunk."""


class HalfLinearSweep(LinearSweep):
    """The same with logits in half precision, by a TritonSweep, which writes the whole gradient."""

    def prepare(self, weight: Tensor, bias: Optional[Tensor]) -> None:
        """The bias is added by the product."""
        self.bias = None if bias is None else bias.to(self.operand)

    def chunk(self, start: int, end: int, target: Tensor) -> Chunk:
        """The loss terms of the positions start..end, whose gradients are added to `grads`."""
        views, rows, classes = self.features.size(0), end - start, self.weight.size(0)
        x = self.features[:, start:end].to(self.operand).reshape(views * rows, -1)  # m*r x d
        buffer = self.kernel.scratch("half", (views * rows, self.kernel.padded(classes)), x.device, self.operand)
        z = buffer[:, :classes]
        if self.bias is None:
            torch.mm(x, self.weight.t(), out=z)
        else:
            torch.addmm(self.bias, x, self.weight.t(), out=z)
        stacked = buffer.view(views, rows, -1)[..., :classes]
        result: Chunk = self.kernel(stacked, target, None, any(grad is not None for grad in self.grads))
        if result.grad is not None:
            self._accumulate(z, result.scale[0], x, start, rows)
        return result

    def _accumulate(self, grad: Tensor, scale: float, x: Tensor, start: int, rows: int) -> None:
        """grad: [m*r, V], the gradient of the logits divided by `scale`."""
        grad_x, grad_weight, grad_bias = self.grads
        if grad_x is not None:
            product = multiply(grad, self.weight).mul_(scale)
            grad_x[:, start : start + rows] = product.view(grad_x.size(0), rows, -1)
        if grad_weight is not None:
            add_product(grad_weight, grad.t(), x, scale)
        if grad_bias is not None:
            grad_bias.add_(grad.sum(0, dtype=self.dtype), alpha=scale)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, in fp32 for half matrices."""
    if a.dtype not in (torch.float16, torch.bfloat16):
        return a @ b
    if a.device.type == "cpu":  # half-precision products are slow there
        return a.float() @ b.float()
    if _product(a.device, a.dtype) == "rounded":
        return (a @ b).float()
    return torch.mm(a, b, out_dtype=torch.float32)


def add_product(total: Tensor, a: Tensor, b: Tensor, scale: float, factor: Optional[Tensor] = None) -> None:
    """total += scale * factor * a @ b. total: in the dtype of a and b, fp32 for half matrices. factor: a scalar tensor,
    only for half matrices."""
    if a.dtype == total.dtype:
        total.addmm_(a, b, alpha=scale)
    elif factor is None and a.device.type != "cpu" and _product(a.device, a.dtype) == "added":
        torch.addmm(total, a, b, out_dtype=torch.float32, alpha=scale, out=total)
    else:
        product = multiply(a, b)
        total.add_(product if factor is None else product.mul_(factor), alpha=scale)


@functools.cache
def _product(device: torch.device, dtype: torch.dtype) -> str:
    """Which products of half matrices this torch has on the device, by trying: "added" (added to an fp32 matrix),
    "fp32" (an fp32 result), or "rounded" (only half-precision results)."""
    half = torch.ones(16, 16, dtype=dtype, device=device)
    total = torch.ones(16, 16, device=device)
    try:
        torch.addmm(total, half.t(), half, out_dtype=torch.float32, alpha=0.5, out=total)
        if bool(total.eq(9.0).all()):
            return "added"
    except (TypeError, RuntimeError):
        pass
    try:
        if bool(torch.mm(half.t(), half, out_dtype=torch.float32).eq(16.0).all()):
            return "fp32"
    except (TypeError, RuntimeError):
        pass
    return "rounded"


def check_products(device: torch.device, dtype: torch.dtype) -> Optional[str]:
    """What is wrong with products of this dtype, or None. In fp16 the weight's gradient can leave the range, so it
    needs products with fp32 results."""
    if device.type != "cpu" and dtype == torch.float16 and _product(device, dtype) == "rounded":
        return "this torch has no product of fp16 matrices in fp32"
    draw = torch.linspace(-3, 3, 40 * 24, device=device).sin()
    a, b = draw.view(40, 24).to(dtype), draw.flip(0).view(40, 24).to(dtype)
    total = torch.ones(24, 24, device=device)
    add_product(total, a.t(), b, 0.25)
    if not torch.allclose(total, 1 + 0.25 * (a.float().t() @ b.float()), rtol=2e-2, atol=2e-2):
        return "products of half matrices are off"
    return None
