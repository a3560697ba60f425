"""The fused loss with logits that stay in half precision: products of halves, sums in fp32, no look at values.

The sweep writes each gradient in place of its logits, times a fixed power of two in fp16 (`Chunk.scale` undoes it in
the products). The weight's gradient is added up in fp32 by the product itself, without a copy of its size.
"""

from __future__ import annotations

import functools
from typing import Any, Optional

import torch
from torch import Tensor

from rdrop_fairseq.loss.rows import Chunk


class HalfLinearSweep:
    """Operands and gradients of one forward of LinearLoss, for a sweep that takes half-precision logits."""

    def __init__(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Optional[Tensor],
        kernel: Any,
        operand: torch.dtype,
        wanted: tuple[bool, bool, bool],
    ) -> None:
        """features: [m, n, d]; weight: [V, d]; bias: [V] or None; kernel: a TritonSweep; operand: a half dtype."""
        self.dtype = torch.float32
        self.kernel, self.operand, self.features = kernel, operand, features
        self.weight = weight.to(operand)
        self.bias = None if bias is None else bias.to(operand)
        self.grads: list[Optional[Tensor]] = [
            features.new_empty(features.shape, dtype=self.dtype) if wanted[0] else None,
            weight.new_zeros(weight.shape, dtype=self.dtype) if wanted[1] else None,
            bias.new_zeros(bias.shape, dtype=self.dtype) if bias is not None and wanted[2] else None,
        ]

    def chunk(self, start: int, end: int, target: Tensor) -> Chunk:
        """Loss terms of positions start..end; their gradients are added up."""
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
        """grad: [m*r, V], 1 / scale times the gradient with respect to the logits."""
        grad_x, grad_weight, grad_bias = self.grads
        if grad_x is not None:
            product = multiply(grad, self.weight).mul_(scale)
            grad_x[:, start : start + rows] = product.view(grad_x.size(0), rows, -1)
        if grad_weight is not None:
            add_product(grad_weight, grad.t(), x, scale)
        if grad_bias is not None:
            grad_bias.add_(grad.sum(0, dtype=self.dtype), alpha=scale)

    def add_constants(self) -> None:
        """Nothing: the sweep writes the whole gradient."""


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """a @ b of half matrices, in fp32."""
    if a.device.type == "cpu":  # half-precision products are slow there
        return a.float() @ b.float()
    if _product(a.device, a.dtype) == "rounded":
        return (a @ b).float()
    return torch.mm(a, b, out_dtype=torch.float32)


def add_product(total: Tensor, a: Tensor, b: Tensor, scale: float) -> None:
    """total += scale * a @ b for half matrices a and b and an fp32 total."""
    if a.device.type != "cpu" and _product(a.device, a.dtype) == "added":
        torch.addmm(total, a, b, out_dtype=torch.float32, alpha=scale, out=total)
    else:
        total.add_(multiply(a, b), alpha=scale)


@functools.cache
def _product(device: torch.device, dtype: torch.dtype) -> str:
    """What this torch can do here, by trying: "added" (product added to an fp32 matrix), "fp32" (product in fp32), or
    "rounded" (product in half precision only)."""
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
    """What is wrong with products of this dtype, or None. In fp16 the weight's gradient leaves its range, so that a
    product in fp32 is needed."""
    if device.type != "cpu" and dtype == torch.float16 and _product(device, dtype) == "rounded":
        return "this torch has no product of fp16 matrices in fp32"
    draw = torch.linspace(-3, 3, 40 * 24, device=device).sin()
    a, b = draw.view(40, 24).to(dtype), draw.flip(0).view(40, 24).to(dtype)
    total = torch.ones(24, 24, device=device)
    add_product(total, a.t(), b, 0.25)
    if not torch.allclose(total, 1 + 0.25 * (a.float().t() @ b.float()), rtol=2e-2, atol=2e-2):
        return "products of half matrices are off"
    return None
