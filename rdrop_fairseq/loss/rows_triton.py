"""The sweep of rows.py as one Triton kernel, for one view or two: one program per position, two passes over V.

The formulas are those of rows.py. The first pass keeps for every lane (a thread and its VEC neighbouring classes) a
running maximum and, relative to it, the sums of exp z_i and of exp z_i (z_0 - z_1); the lanes are reduced once, after
the pass. The results give lse_i, k_i and all loss terms. The second pass goes through V backwards, to begin with what
is still in cache, and overwrites the logits with the whole gradient, in their dtype.

Each logits element is read twice and written once; the torch sweep moves fifteen times as many bytes. Padding aligns
the start of each row to 16 bytes (`padded`), which keeps loads wide; it may hold anything, and the kernel sets it to 0.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from typing import Optional

import torch
import triton
import triton.language as tl
from torch import Tensor

from rdrop_fairseq.loss.rows import Chunk, RowSweep
from rdrop_fairseq.loss.weights import ViewWeights

# Below every logit that fp32, bf16 or fp16 training produces, yet finite: infinity minus itself would be NaN.
NOTHING = tl.constexpr(-1.0e30)
ALIGNED = 64  # elements; a row starts at a multiple of this
# fp16 gradients are stored times 2^8: smoothing's 3e-6 per class becomes 8e-4, a normal number, and 65504 is far away.
# A larger gradient becomes infinity, and fairseq's loss scaling skips the update.
LIFT = {torch.float16: 256.0}
# Warps of a program: with 8, four programs share an SM (57 to 62 registers); a longer row has an SM to itself, so that
# the second pass finds it in L2.
LONG_ROW, FEW_WARPS, MANY_WARPS = 16384, 8, 32
# One compilation for chunks that begin anywhere in `target`; Triton 3.1 (torch 2.5) lacks the option and makes two.
OPTION = "do_not_specialize_on_alignment"
ONE_ALIGNMENT = {OPTION: ["target"]} if OPTION in inspect.signature(triton.jit).parameters else {}


@triton.jit
def _larger(a, b, x, y):
    return tl.maximum(a, x), tl.maximum(b, y)


@triton.jit
def _sums(a, b, c, d, e, f, u, v, w, x, y, z):
    return a + u, b + v, c + w, d + x, e + y, f + z


@triton.jit
def _load(z, column, classes, width, RAGGED: tl.constexpr):
    if RAGGED:
        read = tl.load(z + column, mask=column < width, other=0.0).to(tl.float32)
        return tl.where(column < classes, read, NOTHING)
    else:
        return tl.load(z + column).to(tl.float32)


@triton.jit
def _take_in(z, gap, top, mass, moment, total, there, RAGGED: tl.constexpr):
    """One block of one view: updates each lane's maximum, sum of exp, sum of exp * gap, and sum of logits."""
    higher = tl.maximum(top, tl.max(z, 1))
    weight = tl.exp(z - higher[:, None])
    shrink = tl.exp(top - higher)
    mass = mass * shrink + tl.sum(weight, 1)
    moment = moment * shrink + tl.sum(weight * gap, 1)
    if RAGGED:
        z = tl.where(there, z, 0.0)
    return higher, mass, moment, total + tl.sum(z, 1)


@triton.jit
def _smoothing(other, total):
    # without smoothing the total does not count, which is infinite where classes are masked by the lowest finite logit
    return tl.where(other > 0.0, other * total, 0.0)


@triton.jit
def _store(out, column, value, classes, width, RAGGED: tl.constexpr):
    value = value.to(out.dtype.element_ty)
    if RAGGED:
        tl.store(out + column, tl.where(column < classes, value, 0.0), mask=column < width)
    else:
        tl.store(out + column, value)


@triton.jit
def _statistics(za, zb, column, classes, width, ta, ma, ka, qa, tb, mb, kb, qb, VIEWS: tl.constexpr,
                RAGGED: tl.constexpr):
    a = _load(za, column, classes, width, RAGGED)
    there = column < classes
    if VIEWS == 2:
        b = _load(zb, column, classes, width, RAGGED)
        gap = a - b
        ta, ma, ka, qa = _take_in(a, gap, ta, ma, ka, qa, there, RAGGED)
        tb, mb, kb, qb = _take_in(b, gap, tb, mb, kb, qb, there, RAGGED)
    else:
        ta, ma, ka, qa = _take_in(a, a * 0.0, ta, ma, ka, qa, there, RAGGED)
    return ta, ma, ka, qa, tb, mb, kb, qb


@triton.jit
def _gradient(za, zb, column, classes, width, y, ta, tb, na, nb, oa, ob, ca, cb, wab, wba, lift, spike, other,
              VIEWS: tl.constexpr, RAGGED: tl.constexpr):
    a = _load(za, column, classes, width, RAGGED)
    smoothed = lift * (other + tl.where(column == y, spike, 0.0))
    p = tl.exp(a - ta) * na
    if VIEWS == 2:
        b = _load(zb, column, classes, width, RAGGED)
        q = tl.exp(b - tb) * nb
        gap = a - b
        _store(za, column, p * (oa + wab * gap) + wba * (p - q) - ca * smoothed, classes, width, RAGGED)
        _store(zb, column, q * (ob - wba * gap) + wab * (q - p) - cb * smoothed, classes, width, RAGGED)
    else:
        _store(za, column, ca * (p - smoothed), classes, width, RAGGED)


@triton.jit(do_not_specialize=["classes", "terms_stride"], **ONE_ALIGNMENT)
def sweep_rows(
    logits,  # [views, r, >= width], overwritten by `lift` times the gradient if GRAD
    target,  # [r] int64, negative where a position does not count
    terms,  # [3, r] fp32: loss, nll, weighted divergence of each position
    classes,
    width,
    view_stride,
    row_stride,
    terms_stride,
    ca,
    cb,
    wab,
    wba,
    share_a,
    share_b,
    spike,
    other,
    lift,
    VIEWS: tl.constexpr,
    GRAD: tl.constexpr,
    LANES: tl.constexpr,
    VEC: tl.constexpr,
):
    """Loss terms and gradient of one position, all 0 at a dead one."""
    r = tl.program_id(0)
    za = logits + r.to(tl.int64) * row_stride  # 64 bits: rows times V passes 2^31
    zb = za + tl.cast(view_stride, tl.int64)
    given = tl.load(target + r).to(tl.int32)
    y = tl.maximum(given, 0)
    reference_a = tl.load(za + y).to(tl.float32)
    reference_b = reference_a
    if VIEWS == 2:
        reference_b = tl.load(zb + y).to(tl.float32)
    BLOCK: tl.constexpr = LANES * VEC
    columns = tl.arange(0, LANES)[:, None] * VEC + tl.arange(0, VEC)[None, :]
    whole = classes // BLOCK
    ta = tl.full([LANES], NOTHING, tl.float32)
    tb = tl.full([LANES], NOTHING, tl.float32)
    ma = tl.zeros([LANES], tl.float32)
    ka = tl.zeros([LANES], tl.float32)
    qa = tl.zeros([LANES], tl.float32)
    mb = tl.zeros([LANES], tl.float32)
    kb = tl.zeros([LANES], tl.float32)
    qb = tl.zeros([LANES], tl.float32)
    for block in range(whole):
        ta, ma, ka, qa, tb, mb, kb, qb = _statistics(
            za, zb, block * BLOCK + columns, classes, width, ta, ma, ka, qa, tb, mb, kb, qb, VIEWS, False
        )
    ta, ma, ka, qa, tb, mb, kb, qb = _statistics(
        za, zb, whole * BLOCK + columns, classes, width, ta, ma, ka, qa, tb, mb, kb, qb, VIEWS, True
    )

    top_a, top_b = tl.reduce((ta, tb), 0, _larger)
    fa = tl.exp(ta - top_a)
    fb = tl.exp(tb - top_b)
    mass_a, moment_a, sum_a, mass_b, moment_b, sum_b = tl.reduce(
        (ma * fa, ka * fa, qa, mb * fb, kb * fb, qb), 0, _sums
    )
    lse_a = top_a + tl.log(mass_a)
    nll_a = lse_a - reference_a
    loss = ca * (spike * nll_a + _smoothing(other, classes * lse_a - sum_a))
    nll = share_a * nll_a
    divergence = 0.0
    alive = tl.where(given < 0, 0.0, 1.0)
    lift *= alive  # every term of the gradient has this factor
    offset_a = ca
    offset_b = ca
    norm_a = lift / mass_a
    norm_b = norm_a
    if VIEWS == 2:
        lse_b = top_b + tl.log(mass_b)
        nll_b = lse_b - reference_b
        dot_a = wab * (moment_a / mass_a)
        dot_b = -wba * (moment_b / mass_b)
        divergence = dot_a + dot_b - (wab - wba) * (lse_a - lse_b)
        loss += cb * (spike * nll_b + _smoothing(other, classes * lse_b - sum_b)) + divergence
        nll += share_b * nll_b
        offset_a = ca - dot_a
        offset_b = cb - dot_b
        norm_b = lift / mass_b
    tl.store(terms + r, loss * alive)
    tl.store(terms + terms_stride + r, nll * alive)
    tl.store(terms + 2 * terms_stride + r, divergence * alive)

    if GRAD:
        _gradient(za, zb, whole * BLOCK + columns, classes, width, y, top_a, top_b, norm_a, norm_b, offset_a, offset_b,
                  ca, cb, wab, wba, lift, spike, other, VIEWS, True)
        for step in range(whole):
            _gradient(za, zb, (whole - 1 - step) * BLOCK + columns, classes, width, y, top_a, top_b, norm_a, norm_b,
                      offset_a, offset_b, ca, cb, wab, wba, lift, spike, other, VIEWS, False)


def padded(classes: int) -> int:
    """The length of a row of logits with its padding."""
    return -(-classes // ALIGNED) * ALIGNED


def lift_of(dtype: torch.dtype, weights: ViewWeights) -> float:
    """The power of two that multiplies stored gradients: lower for large weights, which make large gradients."""
    heaviest = max(*weights.ce, weights.kl_total, 8.0)
    return LIFT[dtype] / 2.0 ** math.ceil(math.log2(heaviest / 8)) if dtype in LIFT else 1.0


class TritonSweep(RowSweep):
    """RowSweep on a GPU, for logits in fp32 or half precision, one or two views, no Jensen-Shannon term."""

    takes_half = True
    needs_sum = False
    padded = staticmethod(padded)
    warps: Optional[int] = None  # the self-check sets it to try both

    def __call__(
        self, z: Tensor, target: Tensor, z_sum: Optional[Tensor], want_grad: bool
    ) -> Chunk:
        """As RowSweep. z: [m, r, V] with column stride 1; the gradient is 0 at dead positions. z_sum is not used."""
        views, rows, classes = z.shape
        lift = lift_of(z.dtype, self.weights)
        terms = torch.empty(3, rows, dtype=torch.float32, device=z.device)
        warps = self.warps or (FEW_WARPS if classes <= LONG_ROW else MANY_WARPS)
        ce, kl = self.weights.ce, self.weights.kl
        shares = self.weights.shares
        width = z.stride(1) if z.stride(1) == padded(classes) else classes
        with _on(z.device):
            sweep_rows[(rows,)](
                z, target, terms, classes, width, z.stride(0), z.stride(1), terms.stride(0),
                float(ce[0]), float(ce[-1]),
                float(kl[0][1]) if views == 2 else 0.0, float(kl[1][0]) if views == 2 else 0.0,
                float(shares[0]), float(shares[-1]), float(self.spike), float(self.other), lift,
                VIEWS=views, GRAD=want_grad, LANES=32 * warps, VEC=16 // z.element_size(),
                num_warps=warps,
            )  # fmt: skip
        loss, nll, divergence = terms.sum(1)
        total = self.weights.kl_total
        return Chunk(
            loss=loss,
            nll=nll,
            kl=divergence / total if total else divergence,
            grad=z if want_grad else None,
            scale=[1 / lift] * views,
            constant=[0.0] * views,
        )


def _on(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The device's context, in which Triton launches; an empty one for CPU tensors, which its interpreter takes."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
