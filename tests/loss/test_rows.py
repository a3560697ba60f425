"""Extreme rows: equal views, distributions that underflow, logits with large offsets."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import IMPLS, KINDS, OBJECTIVES, Case, make_case

from rdrop_fairseq.loss import linear_rdrop_loss, rdrop_loss

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])


@DTYPES
@pytest.mark.parametrize("views", [2, 3])
def test_equal_views_have_a_divergence_of_exactly_zero(dtype, views):
    case = make_case(1, positions=6, classes=50, padding=False).to(dtype)
    logits = torch.cat([case.logits.detach()] * views).requires_grad_()
    loss, nll, kl = rdrop_loss(logits, case.target, alpha=1000.0, views=views)
    assert kl.item() == 0.0
    assert loss.item() == pytest.approx(views * nll.item(), rel=1e-6)


@DTYPES
@pytest.mark.parametrize("views", [2, 3])
def test_equal_features_have_a_divergence_of_rounding_size(dtype, views):
    """A matrix product may round equal rows differently, by where they stand: those views do differ, by an ulp."""
    case = make_case(1, positions=6, classes=50, padding=False).to(dtype)
    features = torch.cat([case.features.detach()] * views)
    *_, kl = linear_rdrop_loss(features, case.weight, case.target, case.bias, alpha=1000.0, views=views)
    assert abs(kl.item()) <= 6 * torch.finfo(kl.dtype).eps


@pytest.mark.parametrize("views", [2, 3])
def test_equal_views_get_the_gradient_of_cross_entropy(views):
    """Minimum of every KL: what is left is p - t, although terms of the size of alpha cancel."""
    case = make_case(1, positions=6, classes=50, padding=False)
    logits = torch.cat([case.logits.detach()] * views).requires_grad_()
    rdrop_loss(logits, case.target, alpha=1000.0, views=views)[0].backward()
    expected = torch.softmax(logits.detach(), -1) - torch.nn.functional.one_hot(case.target.repeat(views), 50)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-9, atol=1e-10)


@IMPLS
@pytest.mark.parametrize("gap", [250.0, 1e4])
@pytest.mark.parametrize("name", ["rdrop", "asymmetric", "js-and-kl", "rdrop-three-views"])
def test_logit_gaps_above_200_stay_finite(impl, gap, name):
    """p underflows to 0 where the other view is sure of a class; torch's kl_div has NaN gradients there."""
    weights = OBJECTIVES[name]
    logits = torch.zeros(weights.views, 5)
    logits[0, 0] = logits[-1, 1] = gap
    logits.requires_grad_()
    loss, nll, kl = rdrop_loss(logits, torch.tensor([2]), weights=weights, label_smoothing=0.1, impl=impl)
    loss.backward()
    assert loss.isfinite()
    assert nll.isfinite()
    assert kl.isfinite()
    assert logits.grad.isfinite().all()


def test_torch_has_nan_gradients_at_such_a_gap():
    """The reason for the test above."""
    logits = torch.tensor([[250.0, 0.0], [0.0, 250.0]], requires_grad=True)
    p, q = torch.softmax(logits, -1)
    torch.nn.functional.kl_div(q.log(), p, reduction="sum").backward()
    assert logits.grad.isnan().any()


@IMPLS
def test_divergence_at_a_large_gap_by_hand(impl):
    """KL((1, 0) || (0, 1)) at a gap of g is g, and -log p of the class that lost is g too."""
    logits = torch.tensor([[300.0, 0.0], [0.0, 300.0]], requires_grad=True)
    loss, nll, kl = rdrop_loss(logits, torch.tensor([0]), alpha=2.0, impl=impl)
    assert kl.item() == pytest.approx(300.0)
    assert nll.item() == pytest.approx(150.0)
    assert loss.item() == pytest.approx(300.0 + 600.0)
    loss.backward()
    # view 1 is right: no cross entropy left, from KL(q||p) p - q; view 2: q - t and q - p
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, -1.0], [-2.0, 2.0]]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["rdrop", "js-and-kl"])
def test_an_offset_of_all_logits_of_a_row_changes_nothing(name):
    """softmax(z + c) = softmax(z): views may drift apart by a constant."""
    case = make_case(2, positions=6, padding=False)
    moved = (case.logits.detach() + torch.tensor([[1000.0], [-500.0]]).repeat_interleave(6, 0)).requires_grad_()
    logits = case.logits
    found = []
    for z in (logits, moved):
        loss, _, kl = rdrop_loss(z, case.target, weights=OBJECTIVES[name], label_smoothing=0.1)
        found.append([loss, kl, *torch.autograd.grad(loss, z)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)


@KINDS
@IMPLS
@pytest.mark.parametrize("name", ["plain", "rdrop", "rdrop-three-views"])
def test_classes_masked_by_the_lowest_finite_logit(kind, impl, name):
    """Two of them have the sum -infinity, which counts with label smoothing only."""
    weights = OBJECTIVES[name]
    case = make_case(weights.views, dtype=torch.float32, padding=False)
    with torch.no_grad():
        case.bias[:2] = torch.finfo(torch.float32).min  # no target is 0 or 1
    few = Case(case.features, case.weight[2:], case.bias[2:], case.target - 2)
    (expected, *_), _ = few.call(kind, weights=weights, ignore_index=-100, impl=impl)
    (loss, *_), leaves = case.call(kind, weights=weights, ignore_index=-100, impl=impl)
    torch.testing.assert_close(loss, expected)
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, leaves))


def test_smoothed_cross_entropy_of_a_certain_and_wrong_model():
    """V = 3, reference 2 at logit -g, eps = 0.1: (1 - eps) g + eps/2 (0 + g), as it should be far out in the tail."""
    g = 500.0
    logits = torch.tensor([[0.0, -g, -g], [0.0, -g, -g]], dtype=torch.float64)
    loss, *_ = rdrop_loss(logits, torch.tensor([2]), alpha=1.0, label_smoothing=0.1)
    assert loss.item() == pytest.approx(2 * (0.9 * g + 0.05 * g), rel=1e-12)
    assert math.isfinite(loss.item())
