"""Every gradient of the fused loss against finite differences in float64 (torch.autograd.gradcheck)."""

from __future__ import annotations

import pytest
import torch
from loss_cases import OBJECTIVES, PAD, make_case

from rdrop_fairseq.loss import fused, linear_rdrop_loss, rdrop_loss

objectives = pytest.mark.parametrize("weights", OBJECTIVES.values(), ids=OBJECTIVES)


@pytest.fixture(autouse=True)
def two_positions_per_chunk(monkeypatch):
    """So that the three positions that count are a whole chunk and a ragged one."""
    monkeypatch.setitem(fused.TALLEST_CHUNK, "cpu", 2)


@objectives
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_gradient_of_logits(weights, label_smoothing):
    case = make_case(weights.views)

    def loss(logits):
        return rdrop_loss(
            logits, case.target, weights=weights, label_smoothing=label_smoothing, ignore_index=PAD, impl="fused"
        )[0]

    assert torch.autograd.gradcheck(loss, (case.logits,))


@objectives
@pytest.mark.parametrize("bias", [True, False])
def test_gradient_of_features_weight_and_bias(weights, bias):
    case = make_case(weights.views, bias=bias)

    def loss(features, weight, bias=None):
        return linear_rdrop_loss(
            features, weight, case.target, bias, weights=weights, label_smoothing=0.1, ignore_index=PAD, impl="fused"
        )[0]

    assert torch.autograd.gradcheck(loss, tuple(case.leaves()))


@pytest.mark.parametrize("trained", ["features", "weight", "bias"])
def test_gradient_of_one_input_when_the_others_are_frozen(trained):
    case = make_case(2)
    every = {"features": case.features, "weight": case.weight, "bias": case.bias}
    (loss, *_), _ = case.call("linear", alpha=3.0)
    expected = torch.autograd.grad(loss, every[trained])[0]

    for name, tensor in every.items():
        tensor.requires_grad_(name == trained)
    (loss, *_), _ = case.call("linear", alpha=3.0)
    loss.backward()

    torch.testing.assert_close(every[trained].grad, expected, rtol=1e-12, atol=1e-12)
    assert all(tensor.grad is None for name, tensor in every.items() if name != trained)
