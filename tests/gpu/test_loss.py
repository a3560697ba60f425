"""On the device: every objective in every precision beside float64, the Triton sweep beside the torch sweep."""

from __future__ import annotations

import importlib.util
import warnings

import pytest
import torch
from loss_cases import OBJECTIVES, PAD, make_case

from rdrop_fairseq.loss import choose, fused, linear_rdrop_loss, rdrop_loss, rdrop_weights
from rdrop_fairseq.loss import positions as positions_of
from rdrop_fairseq.loss.rows import RowSweep

# Relative errors beside float64 on the same operands: rounding of the logits and of gradients to the dtype.
BUDGET = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
HALVES = (torch.bfloat16, torch.float16)
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


def solve(case, weights, impl, device, dtype, logits=False, positions=None):
    """Loss, nll, kl and the gradients of one implementation, in float64 on the CPU."""
    case = case.to(dtype)
    moved = [leaf.detach().to(device).requires_grad_() for leaf in case.leaves()]
    options = {"weights": weights, "label_smoothing": 0.1, "ignore_index": PAD, "impl": impl, "positions": positions}
    target = case.target.to(device)
    if logits:
        with torch.no_grad():
            moved = [torch.nn.functional.linear(*moved)]
        moved[0].requires_grad_()
        values = rdrop_loss(moved[0], target, **options)
    else:
        values = linear_rdrop_loss(moved[0], moved[1], target, moved[2], **options)
    found = [*values, *torch.autograd.grad(values[0] * 3.0, moved)]
    assert all(tensor.device.type == device for tensor in found)
    return [tensor.detach().cpu().double() for tensor in found], [leaf.detach().cpu().double() for leaf in moved]


def errors(found, right):
    """Of each value and gradient relative to its own norm, but nll and kl relative to the loss."""
    scales = [right[0].abs()] * 3 + [each.norm() for each in right[3:]]
    return [float((a - b).norm() / scale.clamp_min(1e-12)) for a, b, scale in zip(found, right, scales)]


@pytest.mark.parametrize("impl", ["fused", "fused-torch", "eager"])
@pytest.mark.parametrize("dtype", BUDGET, ids=str)
def test_every_objective_beside_float64(device, dtype, impl):
    """No worse than twice plain torch in the same dtype on this device, or its rounding."""
    bad = {}
    for name, weights in OBJECTIVES.items():
        case = make_case(weights.views, positions=37, width=64, classes=1003, dtype=dtype)
        right, _ = solve(case, weights, "eager", "cpu", torch.float64)
        plain = errors(solve(case, weights, "eager", device, dtype)[0], right)
        found = errors(solve(case, weights, impl, device, dtype)[0], right)
        if not all(error <= max(BUDGET[dtype], 2 * least) for error, least in zip(found, plain)):  # NaN is not smaller
            bad[name] = found
    assert not bad


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_logits_that_somebody_else_made(device, dtype):
    for name in ("rdrop", "simcut", "plain", "js"):
        weights = OBJECTIVES[name]
        case = make_case(weights.views, positions=37, width=64, classes=1003, dtype=dtype)
        found, (logits,) = solve(case, weights, "auto", device, dtype, logits=True)
        exact = logits.requires_grad_()
        target = {"weights": weights, "label_smoothing": 0.1, "ignore_index": PAD, "impl": "eager"}
        values = rdrop_loss(exact, case.target, **target)
        right = [*values, *torch.autograd.grad(values[0] * 3.0, [exact])]
        assert max(errors(found, [each.detach() for each in right])) <= BUDGET[dtype], name


@pytest.mark.parametrize("impl", ["fused", "fused-torch", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_a_bound_instead_of_the_count(device, dtype, impl, monkeypatch):
    """35 of 37 positions count; what a bound above that takes in adds nothing."""
    monkeypatch.setattr(positions_of, "waits", lambda _: True)  # as on a GPU, in a rehearsal too
    for name in ("rdrop", "simcut", "plain", "rdrop-three-views", "js"):
        weights = OBJECTIVES[name]
        case = make_case(weights.views, positions=37, width=64, classes=1003, dtype=dtype)
        right, _ = solve(case, weights, impl, device, dtype)
        for positions in (35, 36, 37, 100):
            found, _ = solve(case, weights, impl, device, dtype, positions=positions)
            assert max(errors(found, right)) <= BUDGET[dtype], (name, positions)
            found, _ = solve(case, weights, impl, device, dtype, logits=True, positions=positions)
            assert max(errors(found[:3], right[:3])) <= BUDGET[dtype], (name, positions)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_chunks_add_up(device, dtype, monkeypatch):
    case = make_case(2, positions=101, width=64, classes=1003, dtype=dtype)
    whole, _ = solve(case, OBJECTIVES["rdrop"], "fused", device, dtype)
    monkeypatch.setattr(fused, "CHUNK_BYTES", dict.fromkeys(fused.CHUNK_BYTES, 30 * 2 * 1003 * 4))
    assert len(list(fused.spans(99, fused.chunk_rows(99, 2, 1003, device)))) == 4
    parts, _ = solve(case, OBJECTIVES["rdrop"], "fused", device, dtype)
    assert max(errors(parts, whole)) <= BUDGET[dtype]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_heavy_divergence_stays_finite(device, dtype):
    found, _ = solve(make_case(2, 64, 64, 5000, dtype=dtype), rdrop_weights(1000.0), "fused", device, dtype)
    assert all(each.isfinite().all() for each in found)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_equal_views_have_no_divergence(device, dtype):
    x = torch.randn(20, 32, device=device, dtype=dtype)
    weight = torch.randn(5003, 32, device=device, dtype=dtype)
    _, _, kl = linear_rdrop_loss(torch.cat([x, x]), weight, torch.arange(20, device=device), alpha=5.0)
    assert kl.item() == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16], ids=str)
def test_autocast_takes_half_operands(device, dtype):
    """--amp: fp32 leaves, fp32 gradients, half-precision products on a GPU."""
    case = make_case(2, 37, 64, 1003, dtype=torch.float32)
    right, _ = solve(case, OBJECTIVES["rdrop"], "eager", "cpu", torch.float64)
    with torch.autocast(device, dtype=dtype):
        found, _ = solve(case, OBJECTIVES["rdrop"], "fused", device, torch.float32)
    assert max(errors(found, right)) <= 2 * BUDGET[dtype]


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("views", [1, 2])
def test_the_kernel_passes_its_self_check_and_is_used(gpu, dtype, views):
    assert choose.compare(gpu, dtype, views) is None
    choose.works.cache_clear()
    weights = OBJECTIVES["rdrop" if views == 2 else "plain"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep = choose.make_sweep("fused", weights, 0.1, 1000, gpu, dtype)
    assert type(sweep).__name__ == "TritonSweep"


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("classes", [33, 10_000, 16_385, 50_264])
def test_the_kernel_beside_the_torch_sweep(gpu, dtype, classes):
    """On many rows at once and at both numbers of warps; NaN stands in the padding and must stay there.

    In float64, since the fp32 torch sweep sums less well: at V 50,264 it was 37 times the tolerance off on a CPU.
    """
    from rdrop_fairseq.loss.rows_triton import TritonSweep, padded

    rows = 300
    for name in ("rdrop", "simcut", "asymmetric", "divergence-only", "plain"):
        weights = OBJECTIVES[name]
        buffer = torch.full((weights.views, rows, padded(classes)), float("nan"), dtype=dtype, device=gpu)
        logits = buffer[..., :classes]
        logits.normal_(std=3.0)
        logits[0, :, 3] += 10
        target = torch.randint(classes, (rows,), device=gpu)
        exact = logits.double().contiguous()
        right = RowSweep(weights, 0.1, classes)(exact, target, exact.sum(-1), True)
        found = TritonSweep(weights, 0.1, classes)(logits, target, None, True)
        for what in ("loss", "nll", "kl"):
            torch.testing.assert_close(getattr(found, what).double(), getattr(right, what), rtol=2e-5, atol=1e-3)
        for i in range(weights.views):
            mine = found.grad[i].double() * found.scale[i] + found.constant[i]
            torch.testing.assert_close(
                mine, right.grad[i] * right.scale[i] + right.constant[i], rtol=choose.ROUNDING[dtype], atol=2e-5
            )
