"""fairseq's --fp16 as far as a CPU goes: half-precision parameters, a scaled loss, gradients unscaled in fp32."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_criteria import make_criterion
from tiny_models import make_model, make_sample, without_randomness


def scaled_gradients(model, scale, **options):
    """d loss / d parameter in fp32 by the steps of fairseq's FP16Optimizer."""
    torch.manual_seed(1)
    model.zero_grad()
    loss, size, _ = make_criterion("rdrop", **options)(model, make_sample())
    (loss * scale).backward()
    return {name: p.grad.float() / (scale * size) for name, p in model.named_parameters()}


@pytest.mark.parametrize("impl", ["fused", "eager"])
@pytest.mark.parametrize("scale", [128.0, 2048.0])
@pytest.mark.parametrize("tied", [True, False])
def test_half_precision_training_steps(impl, scale, tied):
    """Every gradient as of an fp32 model with the same (rounded) parameters, up to half precision's rounding."""
    model = make_model(share_decoder_input_output_embed=tied).half()
    exact = copy.deepcopy(model).float()  # draws the same dropout masks
    half = scaled_gradients(model, scale, rdrop_impl=impl)
    truth = scaled_gradients(exact, 1.0, rdrop_impl="eager")
    whole = torch.cat([grad.flatten() for grad in truth.values()]).norm()
    for name, grad in truth.items():
        assert half[name].isfinite().all(), name
        assert (half[name] - grad).norm() <= 0.02 * grad.norm() + 1e-3 * whole, name


def test_a_scale_that_is_too_large_shows_as_inf():
    """So that the loss scaler can halve it; never as a wrong finite number."""
    model = without_randomness(make_model()).half()
    grads = scaled_gradients(model, 2.0**24)
    assert not all(grad.isfinite().all() for grad in grads.values())
    assert all(grad.isfinite().all() for grad in scaled_gradients(model, 128.0).values())


def test_half_precision_with_dropout_compares_views():
    torch.manual_seed(1)
    loss, _, log = make_criterion("rdrop")(make_model().half(), make_sample())
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert float(log["rdrop_kl"]) > 0
