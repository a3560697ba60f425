"""The error budget: against float64 truth, fused is no worse than eager in the same dtype, plus a small tolerance."""

from __future__ import annotations

import pytest
import torch
from fairseq.optim.dynamic_loss_scaler import DynamicLossScaler
from loss_cases import KINDS, OBJECTIVES, PAD, Case, make_case

from rdrop_fairseq.loss import fused, linear_rdrop_loss, rdrop_loss, rdrop_weights
from rdrop_fairseq.loss.fused import LinearLoss
from rdrop_fairseq.loss.rows import RowSweep

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
HALVES = pytest.mark.parametrize("operand", [torch.bfloat16, torch.float16], ids=str)
NAMES = pytest.mark.parametrize("name", ["rdrop", "simcut", "js-three-views", "plain", "rdrop-weak"])
SMOOTHING = 0.1


def big_case(views, bias=True):
    """Sizes at which sums are long, and logits of a spread of about 6."""
    return make_case(views, positions=60, width=24, classes=400, bias=bias)


def kind_of_case(kind, views):
    """The same; with logits for features if `kind` is "logits"."""
    case = big_case(views)
    if kind == "logits":
        case.features = case.logits
    return case


def results(kind, case, weights, impl):
    """[loss, nll, kl, gradients...] in float64."""
    options = {"weights": weights, "label_smoothing": SMOOTHING, "impl": impl}
    if kind == "linear":
        return [value.double() for value in case.solve(kind, **options)]
    found = rdrop_loss(case.features, case.target, ignore_index=PAD, **options)
    return [value.double() for value in (*found, *torch.autograd.grad(found[0], case.features))]


def errors(found, truth):
    """Relative error of each, by the 2-norm."""
    return [((a - b).norm() / b.norm().clamp_min(1e-3)).item() for a, b in zip(found, truth)]


def over_budget(found, reference, truth, scalars, factor=1.0, tolerance=1e-6):
    """{what: (its error, the largest allowed)} of what is worse than the reference.

    `scalars`: tolerance of loss, nll and kl, which are sums of errors of either sign; a ratio of them says little.
    """
    names = ["loss", "nll", "kl", "gradient of features or logits", "gradient of weight", "gradient of bias"]
    budget = [
        error + scalars if i < 3 else factor * error + tolerance for i, error in enumerate(errors(reference, truth))
    ]
    return {name: (e, most) for name, e, most in zip(names, errors(found, truth), budget) if not e <= most}


@DTYPES
@NAMES
@KINDS
def test_fused_is_no_worse_than_eager(kind, name, dtype):
    weights = OBJECTIVES[name]
    case = kind_of_case(kind, weights.views).to(dtype)
    truth = results(kind, case.to(torch.float64), weights, "eager")
    found, reference = (results(kind, case, weights, impl) for impl in ("fused", "eager"))
    assert not over_budget(found, reference, truth, scalars=1e-6)


def half_operands(case, weights, operand):
    """What `linear_rdrop_loss` does on a GPU: operands of the matrix products in half precision, the rest in fp32."""
    kept = case.target.ne(PAD).nonzero().view(-1)
    stacked = case.features.view(weights.views, case.target.numel(), -1)[:, kept]
    kernel = RowSweep(weights, SMOOTHING, case.weight.size(0))
    wanted = (True, True, case.bias is not None)
    found = LinearLoss.apply(stacked, case.weight, case.bias, case.target[kept], kernel, operand, wanted)
    return [value.double() for value in (*found, *torch.autograd.grad(found[0], case.leaves()))]


@HALVES
@NAMES
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("storage", ["half", "fp32"])
def test_half_precision_operands(name, operand, storage, bias, monkeypatch):
    """The path of a GPU, here on the CPU; eager in the same dtype is what autocast makes of it. Several chunks.

    Logits stay in fp32, and the gradient is rounded once: half of eager's error at most.
    """
    monkeypatch.setitem(fused.TALLEST_CHUNK, "cpu", 30)
    weights = OBJECTIVES[name]
    case = big_case(weights.views, bias).to(operand)
    truth = results("linear", case.to(torch.float64), weights, "eager")
    reference = results("linear", case, weights, "eager")
    found = half_operands(case if storage == "half" else case.to(torch.float32), weights, operand)
    half_ulp = torch.finfo(operand).eps / 2
    assert not over_budget(found, reference, truth, scalars=half_ulp, factor=0.5, tolerance=1e-4)


@pytest.mark.parametrize("positions", [500, 5000])
def test_half_precision_sums_over_many_rows_stay_in_range(positions):
    """Most rows have one class for reference and features that point one way: the sum over rows is what it can be."""
    case = make_case(2, positions=positions, width=4, classes=5, bias=False, padding=False)
    with torch.no_grad():
        case.features.copy_(case.features * 0.1 + 6.0)
    case.target.fill_(3)
    case = case.to(torch.float16)
    weights = OBJECTIVES["rdrop"]
    truth = results("linear", case.to(torch.float64), weights, "eager")
    found = half_operands(case.to(torch.float32), weights, torch.float16)
    assert max(errors(found, truth)) < 5e-3


@HALVES
def test_half_precision_of_no_gradient_at_all(operand):
    """Equal views under a divergence alone: every entry is 0, and so is every gradient."""
    case = make_case(1, positions=4, padding=False).to(operand)
    case.features = torch.cat([case.features.detach()] * 2).requires_grad_()
    loss, *_, dx, dw, db = half_operands(case, OBJECTIVES["divergence-only"], operand)
    assert loss == 0.0
    assert not any(grad.any() for grad in (dx, dw, db))


@KINDS
@pytest.mark.parametrize("scale", [128.0, 65536.0])
def test_fp16_loss_scaling_keeps_the_smallest_gradients(kind, scale):
    """eps / (V - 1) = 3e-6 at V = 32768 is subnormal in fp16 (steps of 6e-8): it must be scaled before it is stored."""
    classes, positions = 32768, 2
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2 * positions, 8, generator=generator).half()
    weight = torch.zeros(classes, 8).half()
    weight[:2] = 8 * torch.randn(2, 8, generator=generator).half()
    target = torch.tensor([0, 1])
    with torch.no_grad():
        logits = features.float() @ weight.float().t()
    logits[:, 2:] = -40.0  # their probability is nothing: what is left is the smoothing term
    found = {}
    for dtype in (torch.float16, torch.float64):
        if kind == "logits":
            leaf = logits.to(dtype, copy=True).requires_grad_()
            loss, *_ = rdrop_loss(leaf, target, alpha=5.0, label_smoothing=SMOOTHING)
        else:
            bias = torch.cat([torch.zeros(2), torch.full((classes - 2,), -40.0)]).to(dtype)
            leaf = weight.detach().to(dtype, copy=True).requires_grad_()
            loss, *_ = linear_rdrop_loss(
                features.to(dtype), leaf, target, bias, alpha=5.0, label_smoothing=SMOOTHING
            )
        (loss * scale).backward()
        found[dtype] = leaf.grad.double() / scale
    small = found[torch.float64].abs() < 1e-4
    assert small.sum() > classes  # nearly all of them
    error = (found[torch.float16] - found[torch.float64])[small].norm() / found[torch.float64][small].norm()
    assert error < 1e-3


@KINDS
@pytest.mark.parametrize("name", ["rdrop", "js-three-views"])
def test_autocast_bf16(kind, name):
    """Forward and backward within autocast give what they give without it: nothing inside is cast behind its back."""
    weights = OBJECTIVES[name]
    case = kind_of_case(kind, weights.views).to(torch.float32)
    expected = results(kind, case, weights, "fused")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = results(kind, case, weights, "fused")
    assert max(errors(found, expected)) == 0.0


@DTYPES
def test_dtypes_of_what_comes_back(dtype):
    case = make_case(2, dtype=dtype)
    values = linear_rdrop_loss(case.features, case.weight, case.target, case.bias, alpha=1.0, ignore_index=PAD)
    assert {value.dtype for value in values} == {torch.float32}
    values[0].backward()
    assert {leaf.grad.dtype for leaf in case.leaves()} == {dtype}


def test_mixed_dtypes():
    """Half-precision features with an fp32 projection, as under autocast: each gradient comes in its input's dtype."""
    case = make_case(2, dtype=torch.float32)
    features = case.features.detach().to(torch.bfloat16).requires_grad_()
    linear_rdrop_loss(features, case.weight, case.target, alpha=1.0, ignore_index=PAD)[0].backward()
    assert features.grad.dtype == torch.bfloat16
    assert case.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("scale", [1.0, 65536.0])
def test_an_fp16_gradient_that_overflows_is_shown(scale):
    """alpha 100 and views 10,000 apart give gradients of 15,000. The products hold them. What leaves fp16 times the
    loss scale becomes infinity, which fairseq's scaler looks for, never a large number that looks right."""
    features = torch.tensor([[0.0], [0.001], [10000.0], [0.002]], dtype=torch.float16).requires_grad_()
    weight = torch.zeros(33, 1, dtype=torch.float16)
    weight[3], weight[5] = 1.0, -1.0
    case = Case(features, weight.requires_grad_(), None, torch.tensor([3, 4]))
    weights = rdrop_weights(100.0)
    truth = results("linear", case.to(torch.float64), weights, "eager")[3:]
    kernel = RowSweep(weights, SMOOTHING, 33)
    loss, *_ = LinearLoss.apply(
        features.view(2, 2, 1), weight, None, case.target, kernel, torch.float16, (True, True, False)
    )
    grads = torch.autograd.grad(loss * scale, case.leaves())
    with pytest.raises(OverflowError):
        DynamicLossScaler(init_scale=scale).check_overflow(torch.stack([grad.float().norm() for grad in grads]).norm())
    for grad, right in zip(grads, truth):
        fits = (right * scale).abs() < 65504
        assert scale == 1.0 or not fits.all()
        assert grad[~fits].isinf().all()
        assert (grad[fits].double() / scale - right[fits]).norm() <= 1e-3 * right.norm()
