"""Which implementation of the loss runs: the only place that decides."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from typing import Optional

import torch

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.loss.rows import RowSweep
from rdrop_fairseq.loss.weights import ViewWeights, plain_weights

# fused: the best sweep for the device; fused-torch and fused-triton: that one, for comparison.
IMPLEMENTATIONS = ("auto", "fused", "fused-torch", "fused-triton", "eager")
# One unit in the last place of a gradient in this dtype, relative.
ROUNDING = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def choose_impl(impl: str, device: torch.device) -> str:
    """The implementation that `impl` means on this device, never "auto". Raises UserError for an unknown one."""
    if impl not in IMPLEMENTATIONS:
        raise UserError(f"impl must be one of {', '.join(IMPLEMENTATIONS)}, got {impl!r}")
    if impl != "auto":
        return impl
    return "fused" if device.type in ("cpu", "cuda") else "eager"


def make_sweep(
    impl: str, weights: ViewWeights, label_smoothing: float, classes: int, device: torch.device, dtype: torch.dtype
) -> RowSweep:
    """The sweep for logits of this dtype. Triton's serves one or two views without a Jensen-Shannon term, not float64.

    Raises UserError where "fused-triton" is asked for by name and cannot be had.
    """
    fits = weights.views <= 2 and not weights.js and dtype in ROUNDING
    if impl == "fused-triton" and not fits:
        raise UserError("fused-triton takes one or two views, no JS divergence, and no float64: use fused")
    if impl == "fused-triton" and importlib.util.find_spec("triton") is None:
        raise UserError("fused-triton needs triton: pip install 'rdrop-fairseq[triton]', or use fused")
    triton = impl == "fused-triton" or (
        impl == "fused" and fits and device.type == "cuda" and works(device, dtype, weights.views)
    )
    if not triton:
        return RowSweep(weights, label_smoothing, classes)
    from rdrop_fairseq.loss.rows_triton import TritonSweep

    return TritonSweep(weights, label_smoothing, classes)


@functools.cache
def works(device: torch.device, dtype: torch.dtype, views: int) -> bool:
    """Whether the kernel runs on this device and agrees with the torch sweep; found out once, on a tiny input.

    If not, one warning says what is wrong, and training goes on with the torch sweep. This is the only place that waits
    for the device.
    """
    try:
        with torch.autocast(device.type, enabled=False):  # --amp would round what is compared with
            fault = compare(device, dtype, views)
    except Exception as error:  # whatever the compiler or driver raises, there is another way
        fault = f"{type(error).__name__}: {error}"
    if fault is not None:
        warnings.warn(f"the Triton sweep is not used on {device} for {dtype}: {fault}", stacklevel=2)
    return fault is None


def compare(device: torch.device, dtype: torch.dtype, views: int) -> Optional[str]:
    """What differs between the Triton and the torch sweep, or between a product in half precision and one in fp32;
    None if nothing does. Both numbers of warps, two whole blocks of classes and a ragged one."""
    from rdrop_fairseq.loss.half import check_products
    from rdrop_fairseq.loss.rows_triton import FEW_WARPS, MANY_WARPS, TritonSweep, padded

    weights = ViewWeights((1.0, 0.5), ((0.0, 0.7), (2.0, 0.0))) if views == 2 else plain_weights()
    for warps in (FEW_WARPS, MANY_WARPS):
        classes = 2 * 32 * warps * (16 // dtype.itemsize) + 91
        row = torch.linspace(-333, 333, views * 3 * classes, device=device).sin().mul(4).view(views, 3, classes)
        target = torch.arange(3, device=device) * (classes // 2)  # the first class, one inside, the last but one or so
        buffer = torch.full((views, 3, padded(classes)), float("nan"), dtype=dtype, device=device)
        logits = buffer[..., :classes]
        logits.copy_(row)
        exact = logits.float().contiguous()
        expected = RowSweep(weights, 0.1, classes)(exact, target, exact.sum(-1), True)
        sweep = TritonSweep(weights, 0.1, classes)
        sweep.warps = warps
        found = sweep(logits, target, None, True)
        for name in ("loss", "nll", "kl"):
            if not torch.allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-4):
                return f"the {name} is off with {warps} warps"
        assert found.grad is not None
        assert expected.grad is not None
        for i in range(views):
            right = expected.grad[i] * expected.scale[i] + expected.constant[i]
            off = (found.grad[i].float() * found.scale[i] + found.constant[i] - right).abs()
            if not bool((off <= ROUNDING[dtype] * right.abs() + 1e-5).all()):  # NaN is not smaller
                return f"the gradient of view {i + 1} is off by up to {off.max():.1e} with {warps} warps"
    return None if dtype == torch.float32 else check_products(device, dtype)
