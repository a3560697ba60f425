"""Chooses the implementation of the loss; no other place does."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from typing import Optional

import torch

from rdrop_fairseq.errors import UserError, install
from rdrop_fairseq.loss.rows import RowSweep
from rdrop_fairseq.loss.weights import ViewWeights, plain_weights

# fused: the best sweep for the device; fused-torch, fused-triton: this sweep, for comparisons.
IMPLEMENTATIONS = ("auto", "fused", "fused-torch", "fused-triton", "eager")
# Relative rounding of a gradient stored in this dtype: two units in the last place, more in fp32.
ROUNDING = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def choose_impl(impl: str, device: torch.device) -> str:
    """The implementation that "auto" stands for on this device; any other `impl` itself. Raises UserError for an
    unknown one."""
    if impl not in IMPLEMENTATIONS:
        raise UserError(f"impl must be one of {', '.join(IMPLEMENTATIONS)}, got {impl!r}")
    if impl != "auto":
        return impl
    return "fused" if device.type in ("cpu", "cuda") else "eager"


def make_sweep(
    impl: str, weights: ViewWeights, label_smoothing: float, classes: int, device: torch.device, dtype: torch.dtype
) -> RowSweep:
    """The sweep for logits of this dtype. Triton's takes one or two views, no Jensen-Shannon term, and no float64.

    Raises UserError if `impl` is "fused-triton" and it cannot run.
    """
    fits = weights.views <= 2 and not weights.js and dtype in ROUNDING
    if impl == "fused-triton" and not fits:
        raise UserError("fused-triton takes one or two views, no JS divergence, and no float64: use fused")
    if impl == "fused-triton" and importlib.util.find_spec("triton") is None:
        raise UserError(f"fused-triton needs triton: {install('triton')}, or use fused")
    triton = impl == "fused-triton" or (
        impl == "fused" and fits and device.type == "cuda" and works(device, dtype, weights.views)
    )
    if not triton:
        return RowSweep(weights, label_smoothing, classes)
    from rdrop_fairseq.loss.rows_triton import TritonSweep

    return TritonSweep(weights, label_smoothing, classes)


@functools.cache
def works(device: torch.device, dtype: torch.dtype, views: int) -> bool:
    """Whether the kernel runs on this device and agrees with the torch sweep, tested once, on a tiny input.

    If not, a warning gives the reason, and the torch sweep is used. The test waits for the device, as does the first
    half-precision product (half.py): in the first training step only.
    """
    try:
        with torch.autocast(device.type, enabled=False):  # --amp would round what is compared with
            fault = compare(device, dtype, views)
    except Exception as error:  # whatever the compiler or driver raises, the torch sweep remains
        fault = f"{type(error).__name__}: {error}"
    if fault is not None:
        warnings.warn(f"the Triton sweep is not used on {device} for {dtype}: {fault}", stacklevel=2)
    return fault is None


def compare(device: torch.device, dtype: torch.dtype, views: int) -> Optional[str]:
    """The first difference found between the Triton sweep and the torch sweep in float64, or between products in half
    precision and in fp32; None if there is none. Tries both numbers of warps, on two whole blocks of classes and a
    partial one."""
    from rdrop_fairseq.loss.half import check_products
    from rdrop_fairseq.loss.rows_triton import FEW_WARPS, MANY_WARPS, TritonSweep, padded

    weights = ViewWeights((1.0, 0.5), ((0.0, 0.7), (2.0, 0.0))) if views == 2 else plain_weights()
    for warps in (FEW_WARPS, MANY_WARPS):
        classes = 2 * 32 * warps * (16 // dtype.itemsize) + 91
        # squared, or the views would have nearly one distribution, and a wrong divergence would not show
        row = torch.linspace(0, 333, views * 3 * classes, device=device).square().sin().mul(4).view(views, 3, classes)
        target = torch.arange(3, device=device) * (classes // 2)  # the first class, one inside, one near the end
        buffer = torch.full((views, 3, padded(classes)), float("nan"), dtype=dtype, device=device)
        logits = buffer[..., :classes]
        logits.copy_(row)
        exact = logits.double().contiguous()  # where TF32 is allowed, fp32 would be further off than the kernel
        expected = RowSweep(weights, 0.1, classes)(exact, target, exact.sum(-1), True)
        sweep = TritonSweep(weights, 0.1, classes)
        sweep.warps = warps
        found = sweep(logits, target, None, True)
        for name in ("loss", "nll", "kl"):
            if not torch.allclose(getattr(found, name).double(), getattr(expected, name), rtol=1e-4, atol=1e-4):
                return f"the {name} is off with {warps} warps"
        assert found.grad is not None
        assert expected.grad is not None
        for i in range(views):
            right = expected.grad[i] * expected.scale[i] + expected.constant[i]
            off = (found.grad[i].float() * found.scale[i] + found.constant[i] - right).abs()
            if not bool((off <= ROUNDING[dtype] * right.abs() + 1e-5).all()):  # NaN fails, too
                return f"the gradient of view {i + 1} is off by up to {off.max():.1e} with {warps} warps"
    return None if dtype == torch.float32 else check_products(device, dtype)
